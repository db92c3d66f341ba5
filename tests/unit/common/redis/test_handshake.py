"""The first words on a connection: what is said, what each answer means, and that no answer can print the password."""

from __future__ import annotations

import re

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from common.redis.errors import (
    AuthenticationError,
    BusyLoadingError,
    ProtocolError,
    RedisConnectionError,
    RedisError,
    ResponseError,
)
from common.redis.handshake import Introduction, shake_hands
from common.redis.resp import RespParser, encode
from common.redis.transport import Steps

PASSWORD = "open-sesame"
WELCOME = b"%2\r\n+server\r\n+redis\r\n+proto\r\n:3\r\n"
GOOD = WELCOME + b"+OK\r\n+PONG\r\n"


def introduction(username: str | None = None, password: str | None = None) -> Introduction:
    return Introduction(client_name="statusd", db=2, username=username, password=password)


async def shake(*chunks: bytes, who: Introduction | None = None, close: bool = False) -> None:
    """Shake hands with a server that says `chunks`, whatever it hears."""
    ours, theirs = memory_stream_pair()
    for chunk in chunks:
        await theirs.send_all(chunk)
    if close:
        await theirs.send_eof()
    await shake_hands(ours, RespParser(), who or introduction(), Steps(), hint=" (the hint)")


@pytest.mark.parametrize(
    ("username", "password", "auth"),
    [
        (None, None, []),
        (None, "", []),
        (None, "pw", ["AUTH", "default", "pw"]),
        ("ann", "pw", ["AUTH", "ann", "pw"]),
        ("ann", None, ["AUTH", "ann", ""]),
    ],
)
async def test_it_is_all_in_one_write(
    username: str | None, password: str | None, auth: list[bytes | str | int]
) -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(GOOD)
    await shake_hands(ours, RespParser(), introduction(username, password), Steps())
    said = encode("HELLO", 3, *auth, "SETNAME", "statusd") + encode("SELECT", 2) + encode("PING")
    assert await theirs.receive_some() == said


async def test_database_0_is_where_a_connection_begins_and_needs_no_select() -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(WELCOME + b"+PONG\r\n")
    await shake_hands(ours, RespParser(), Introduction(client_name="preflightd", db=0), Steps())
    assert await theirs.receive_some() == encode("HELLO", 3, "SETNAME", "preflightd") + encode("PING")


async def test_the_answers_may_come_in_any_pieces_with_pushes_between_them() -> None:
    answers = b">1\r\n+invalidate\r\n" + GOOD
    await shake(*(answers[i : i + 1] for i in range(len(answers))))


@pytest.mark.parametrize(
    ("answers", "kind", "words"),
    [
        (b"-NOAUTH HELLO must be called ...\r\n", AuthenticationError, "set the Redis password"),
        (b"-WRONGPASS invalid\r\n", AuthenticationError, "password of the default user; check"),
        (WELCOME + b"-NOAUTH Authentication required.\r\n", AuthenticationError, "set the Redis password"),
        (b"-NOPROTO unsupported protocol version\r\n", ProtocolError, "Redis 6 or newer is needed"),
        (b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n", ProtocolError, "Redis 6 or newer"),
        (b"-ERR unknown command 'HELLO'\r\n", ProtocolError, "Redis 6 or newer is needed"),
        (b"%1\r\n+proto\r\n:2\r\n", ProtocolError, "wrong RESP version"),
        (b"*2\r\n+proto\r\n:2\r\n", ProtocolError, "wrong RESP version"),
        (b"+OK\r\n", ProtocolError, "wrong RESP version"),
        (WELCOME + b"-ERR DB index is out of range\r\n", ResponseError, "SELECT refused: ERR DB index"),
        (WELCOME + b"+OK\r\n-LOADING Redis is loading\r\n", BusyLoadingError, "is loading its data"),
        (WELCOME + b"+OK\r\n-NOPERM no 'ping'\r\n", ResponseError, "PING refused: NOPERM no 'ping'"),
        (b"-ERR max number of clients reached\r\n", ResponseError, "max number of clients reached"),
        (b"-DENIED " + b"x" * 5000 + b"\r\n", ResponseError, "DENIED x{150,}… "),
        (GOOD + b"+MORE\r\n", ProtocolError, "nothing that was asked"),
        (b"HTTP/1.1 400 Bad Request\r\n", ProtocolError, "not a Redis reply"),
    ],
)
async def test_an_answer_that_is_not_the_expected_one_says_what_to_mend(
    answers: bytes, kind: type[RedisError], words: str
) -> None:
    with pytest.raises(RedisError, match=words) as caught:
        await shake(answers)
    assert type(caught.value) is kind
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "answer",
    [
        f"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `{PASSWORD}`, \r\n",
        f"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `{PASSWORD[:5]}\r\n",
        f"-WRONGPASS {PASSWORD}\r\n",
        f"-NOAUTH {PASSWORD}\r\n",
        f"-ERR what is {PASSWORD}?\r\n",
        f"-{PASSWORD}\r\n",
    ],
)
async def test_no_answer_makes_an_error_that_has_the_password_in_it(answer: str) -> None:
    who = introduction("ann", PASSWORD)
    assert PASSWORD not in repr(who)
    with pytest.raises(RedisError) as caught:
        await shake(answer.encode(), who=who)
    assert not re.search(PASSWORD[:5], str(caught.value))


@pytest.mark.parametrize("heard", [b"", b"%2\r\n+ser", WELCOME])
async def test_a_server_that_hangs_up_in_between_is_a_lost_connection(heard: bytes) -> None:
    with pytest.raises(RedisConnectionError, match="closed by Redis during the handshake") as caught:
        await shake(heard, close=True)
    assert ("(the hint)" in str(caught.value)) is (heard == b""), "a server that has spoken speaks Redis' language"


@pytest.mark.parametrize("alert", [b"\x15\x03\x01\x00\x02\x02\x46", b"\x15\x03\x03\x00\x02\x02\x16"])
async def test_a_server_that_answers_with_an_alert_speaks_tls(alert: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^not a Redis reply: it speaks TLS \(the hint\)$"):
        await shake(alert, close=True)


async def test_a_connection_that_breaks_in_between_is_a_lost_one() -> None:
    ours, theirs = memory_stream_pair()
    await theirs.aclose()
    with pytest.raises(RedisConnectionError, match="connection broken during the handshake: why"):
        await shake_hands(ours, RespParser(), introduction(), Steps(), hint=": why")


@pytest.mark.parametrize(("heard", "missing"), [(b"", "HELLO"), (WELCOME, "SELECT"), (WELCOME + b"+OK\r\n", "PING")])
async def test_it_is_told_which_answer_is_awaited(heard: bytes, missing: str, autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    steps = Steps()
    if heard:
        await theirs.send_all(heard)
    with trio.move_on_after(3) as scope:
        await shake_hands(ours, RespParser(), introduction(), steps)
    assert scope.cancelled_caught
    assert (steps.step, steps.slowest()) == (missing, f"{missing} took 3.0s")
    assert autojump_clock.current_time() == 3


# -- roles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "role"), [(b"+master", "master"), (b"+replica", "replica"), (b"+slave", "replica"), (b":7", None)]
)
async def test_the_greeting_says_which_part_the_server_plays(words: bytes, role: str | None) -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(b"%2\r\n+proto\r\n:3\r\n+role\r\n" + words + b"\r\n+OK\r\n+PONG\r\n")
    assert await shake_hands(ours, RespParser(), introduction(), Steps()) == role


async def test_a_greeting_without_a_role_is_a_proxys() -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(GOOD)
    assert await shake_hands(ours, RespParser(), introduction(), Steps()) is None
