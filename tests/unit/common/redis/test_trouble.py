"""Redis in trouble, on a virtual clock: each attempt is counted, each delay is the formula's, all of it ends well."""

from __future__ import annotations

import errno
import random
import socket
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from common.logs import make_logger
from common.redis.link import Link, RedisRefused, RedisUnavailable
from common.secret import Secret
from tests.support.links import POLICY, URL, make_link, open_link
from tests.support.recording import RecordingHandler, RecordingRandom, delays_of_an_outage
from tests.support.scripted_redis import (
    Command,
    Peer,
    ScriptedRedis,
    hanging_up_after,
    open_scripted_redis,
    silent_from_subscribe_on,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHANNEL = b"run:status"
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
HELLO_OK = b"%1\r\n+proto\r\n:3\r\n"


def happy_eyeballs(*leaves: OSError) -> OSError:
    """What trio raises when every address of a host fails."""
    error = OSError("all attempts to connect to redis.test:6379 failed")
    error.__cause__ = ExceptionGroup("all attempts", leaves)
    return error


def answer(name: bytes, raw: bytes) -> Callable[[Peer, Command], bytes | None]:
    """A script that says `raw` to one command, and the usual to all others."""
    return lambda _peer, command: raw if command[0] == name else None


def unreachable(error: Exception) -> Callable[[ScriptedRedis], None]:
    def script(redis: ScriptedRedis) -> None:
        redis.unreachable = error

    return script


def saying(name: bytes, raw: bytes) -> Callable[[ScriptedRedis], None]:
    def script(redis: ScriptedRedis) -> None:
        redis.answers = answer(name, raw)

    return script


def hanging_up(name: bytes, raw: bytes) -> Callable[[ScriptedRedis], None]:
    def script(redis: ScriptedRedis) -> None:
        redis.answers = hanging_up_after(name, raw)

    return script


def silent(redis: ScriptedRedis) -> None:
    redis.holding = True


def silent_after_the_handshake(redis: ScriptedRedis) -> None:
    redis.answers = silent_from_subscribe_on()


def old(redis: ScriptedRedis) -> None:
    redis.proto = 2


@attrs.frozen
class Trouble:
    """One way for an attempt to fail: what Redis does, how long that takes, and what the operator reads."""

    script: Callable[[ScriptedRedis], None]
    seconds: float
    error: str


TROUBLES = {
    "refused": Trouble(unreachable(REFUSED), 0, "connection refused: redis.test:6379"),
    "refused by every address": Trouble(
        unreachable(happy_eyeballs(REFUSED, REFUSED)), 0, "connection refused: redis.test:6379"
    ),
    "addresses that fail differently": Trouble(
        unreachable(happy_eyeballs(REFUSED, OSError(errno.EHOSTUNREACH, "No route to host"))),
        0,
        "connection refused, no route: redis.test:6379",
    ),
    "a name that does not resolve": Trouble(
        unreachable(socket.gaierror(-2, "Name or service not known")), 0, "name does not resolve: redis.test"
    ),
    "silent after connect": Trouble(silent, 1, "no connection within 1s, HELLO took 1.0s: redis.test:6379"),
    "closed at once": Trouble(
        hanging_up(b"HELLO", b""),
        0,
        "closed by Redis during the handshake; where the port speaks TLS the URL must begin with rediss://",
    ),
    "half a RESP value, then the end": Trouble(
        hanging_up(b"HELLO", b"%2\r\n+ser"), 0, "closed by Redis during the handshake"
    ),
    "wrong RESP version": Trouble(old, 0, "Redis does not speak RESP3; Redis 6 or newer is needed"),
    "an HTTP server": Trouble(
        saying(b"HELLO", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        0,
        'not a Redis reply: Protocol error, got "H" as reply type byte',
    ),
    "too many clients": Trouble(
        saying(b"HELLO", b"-ERR max number of clients reached\r\n"),
        0,
        "HELLO refused: ERR max number of clients reached",
    ),
    "a reply over the limit": Trouble(
        saying(b"HELLO", b"$99999\r\n" + b"x" * 70000), 0, "a reply larger than 65536 bytes"
    ),
    "subscriptions not answered": Trouble(silent_after_the_handshake, 1, "no answer to SUBSCRIBE for 1s"),
    "closed while subscribing": Trouble(hanging_up(b"SUBSCRIBE", b""), 0, "closed by Redis"),
    "closed in the middle of an acknowledgement": Trouble(
        hanging_up(b"SUBSCRIBE", b">3\r\n$9\r\nsub"), 0, "closed by Redis in the middle of a reply"
    ),
}
SMALL = attrs.evolve(POLICY, reply_limit=65536)


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES.keys())
async def test_at_start_five_failed_attempts_of_any_kind_are_the_end(
    trouble: Trouble, autojump_clock: MockClock
) -> None:
    rng = RecordingRandom(1)
    async with open_scripted_redis() as redis:
        trouble.script(redis)
        bench = make_link(redis, policy=attrs.evolve(SMALL, max_retries=5), rng=rng)
        bench.link.subscribe(CHANNEL)
        with pytest.raises(RedisUnavailable) as caught:
            await bench.link.run()
        assert str(caught.value) == f"Redis is unavailable after 5 attempts: {trouble.error}"
        assert [(low, high) for low, high, _ in rng.drawn] == [(0.5, 1), (1, 2), (2, 4), (4, 8)]
        expected = [0.0]
        for _, _, delay in rng.drawn:
            expected.append(expected[-1] + trouble.seconds + delay)
        assert redis.attempts == pytest.approx(expected)
        assert autojump_clock.current_time() == pytest.approx(expected[-1] + trouble.seconds)
        lines = bench.logbook.said("redis unavailable, retrying")
        assert [line["attempt"] for line in lines] == [1, 2, 3, 4]
        assert {line["error"] for line in lines} == {trouble.error}
        assert [line["backoff"] for line in lines] == [round(delay, 3) for _, _, delay in rng.drawn]
        assert bench.link.timeouts == (5 if trouble.seconds else 0)
        assert bench.link.reconnects == 0
        assert all(peer.closed for peer in redis.peers)


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES.keys())
async def test_later_any_of_them_is_an_outage_that_ends_when_redis_is_well(
    trouble: Trouble, autojump_clock: MockClock
) -> None:
    rng = RecordingRandom(2)
    async with open_link(attrs.evolve(SMALL, max_retries=3), rng) as bench:
        subscription = bench.link.subscribe(CHANNEL)
        await bench.link.wait_active(subscription)
        await trio.sleep(10)
        usual = bench.redis.answers
        trouble.script(bench.redis)
        bench.redis.drop_all()
        await bench.handler.wait_for("exhausted")
        lost_at = 10.0
        assert ("lost", lost_at) in bench.handler.events
        assert [(low, high) for low, high, _ in rng.drawn] == delays_of_an_outage(4)
        expected = [0.0, lost_at + rng.drawn[0][2]]
        for _, _, delay in rng.drawn[1:3]:
            expected.append(expected[-1] + trouble.seconds + delay)
        assert bench.redis.attempts == pytest.approx(expected)
        # More failures: the same outage, the same growing delays, no second end of the clients.
        await bench.redis.wait_attempts(8)
        await wait_all_tasks_blocked()
        bench.redis.unreachable = None
        bench.redis.answers = usual
        bench.redis.loading = False
        bench.redis.proto = 3
        bench.redis.release()
        await bench.handler.wait_for("online", 2)
        assert subscription.active
        assert bench.redis.subscribers(CHANNEL) == 1
        assert bench.handler.count("exhausted") == bench.handler.count("lost") == 1
        assert [(low, high) for low, high, _ in rng.drawn] == delays_of_an_outage(len(rng.drawn))
        assert len(bench.logbook.said("redis unavailable, clients ended")) == 1
        (line,) = bench.logbook.said("redis stream interrupted")
        assert line["error"] == "closed by Redis"
        assert bench.link.reconnects == 2
        assert autojump_clock.current_time() > 10


async def test_loading_is_waited_for_and_is_no_failed_attempt(autojump_clock: MockClock) -> None:
    rng = RecordingRandom(7)
    async with open_scripted_redis() as redis, trio.open_nursery() as nursery:
        bench = make_link(redis, policy=attrs.evolve(POLICY, max_retries=1), rng=rng)
        redis.loading = True
        nursery.start_soon(bench.link.run)
        await trio.sleep(3600)
        redis.loading = False
        await bench.link.wait_online()
        assert bench.handler.events == [("online", None)]
        assert [(low, high) for low, high, _ in rng.drawn] == delays_of_an_outage(len(rng.drawn) + 1)[1:]
        assert len(bench.logbook.said("redis is loading, waiting")) == len(rng.drawn)
        assert bench.logbook.at_least("warn") == []
        assert autojump_clock.current_time() < 3631
        nursery.cancel_scope.cancel()


async def test_a_redis_that_loads_after_a_restart_ends_no_clients(autojump_clock: MockClock) -> None:
    async with open_link(attrs.evolve(POLICY, max_retries=2)) as bench:
        await trio.sleep(10)
        bench.redis.unreachable = REFUSED
        bench.redis.drop_all()
        await bench.redis.wait_attempts(2)
        bench.redis.unreachable = None
        bench.redis.loading = True
        await trio.sleep(600)
        bench.redis.loading = False
        await bench.handler.wait_for("online", 2)
        assert bench.handler.count("exhausted") == 0
        assert autojump_clock.current_time() < 650


async def test_who_asks_once_is_told_of_loading(autojump_clock: MockClock) -> None:
    async with open_scripted_redis() as redis:
        redis.loading = True
        bench = make_link(redis, policy=attrs.evolve(POLICY, max_retries=1, wait_for_loading=False))
        with pytest.raises(RedisUnavailable, match="LOADING: Redis is loading its data"):
            await bench.link.run()
        assert autojump_clock.current_time() == 0


@pytest.mark.parametrize(
    ("password", "words"),
    [(None, "NOAUTH: Redis wants a password"), ("wrong", "WRONGPASS: Redis refuses the password of the default user")],
)
async def test_wrong_credentials_at_start_are_the_end_at_once(password: str | None, words: str) -> None:
    async with open_scripted_redis() as redis:
        redis.password = b"open-sesame"
        bench = make_link(redis, url=attrs.evolve(URL, password=password))
        with pytest.raises(RedisRefused, match=words):
            await bench.link.run()
        assert len(redis.attempts) == 1
        assert "wrong" not in str(bench.logbook.lines)


async def test_wrong_credentials_later_are_an_outage_and_the_rotated_secret_is_read_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    secret = tmp_path / "password"
    secret.write_text("first\n")
    async with open_scripted_redis() as redis, trio.open_nursery() as nursery:
        redis.password = b"first"
        bench = make_link(redis, password=Secret.file(secret, "REDIS_PASSWORD_FILE"))
        await nursery.start(bench.link.run)
        redis.password = b"second"
        redis.drop_all()
        await trio.sleep(20)
        errors = {line["error"] for line in bench.logbook.said("redis unavailable, retrying")}
        assert errors == {"WRONGPASS: Redis refuses the password of the default user; check user name and password"}
        # The file is replaced in two steps: in between there is none.
        secret.unlink()
        await trio.sleep(60)
        (missing,) = {line["error"] for line in bench.logbook.said("redis unavailable, retrying")} - errors
        assert missing.startswith("REDIS_PASSWORD_FILE")
        secret.write_text("second\n")
        with trio.fail_after(30):
            await bench.link.wait_online()
        said = str(bench.logbook.lines)
        assert "first" not in said.replace(str(tmp_path), "")
        assert "second" not in said.replace(str(tmp_path), "").replace("'seconds'", "")
        assert autojump_clock.current_time() < 120
        nursery.cancel_scope.cancel()


async def test_an_unreadable_secret_is_a_failed_attempt_like_any_other(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_scripted_redis() as redis:
        secret = Secret.file(tmp_path / "none", "REDIS_PASSWORD_FILE")
        bench = make_link(redis, password=secret, policy=attrs.evolve(POLICY, max_retries=2))
        with pytest.raises(RedisUnavailable, match="REDIS_PASSWORD_FILE"):
            await bench.link.run()
        assert len(redis.attempts) == 2
        assert autojump_clock.current_time() <= 1


async def test_connecting_that_never_ends_is_given_up_after_the_timeout(autojump_clock: MockClock) -> None:
    handler = RecordingHandler()
    log = make_logger("error", "redis", _Nowhere())
    policy = attrs.evolve(POLICY, max_retries=1)
    link = Link(
        url=URL,
        client_name="statusd",
        policy=policy,
        handler=handler,
        log=log,
        rng=random.Random(0),
        connect=_never,
    )
    with pytest.raises(RedisUnavailable, match=r"no connection within 1s, TCP took 1\.0s: redis\.test:6379"):
        await link.run()
    assert autojump_clock.current_time() == 1.0


async def _never(_host: str, _port: int) -> trio.abc.Stream:
    await trio.sleep_forever()


class _Nowhere:
    def write(self, line: str) -> None:
        """A log that goes nowhere."""
