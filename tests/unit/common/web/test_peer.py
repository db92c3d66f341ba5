"""What a client may say, and what becomes of it (common/web/peer.py). How conversations end: test_peer_ends.py."""

from __future__ import annotations

import json
import struct
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from common.disconnect import (
    CLIENT_CLOSED,
    INVALID_TEXT,
    MESSAGE_TOO_BIG,
    PROTOCOL_ERROR,
    SLOW_CONSUMER,
    Disconnect,
)
from common.web.peer import MAX_FRAGMENTS, classify
from tests.support.client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    PONG_PAYLOAD,
    TEXT,
    close_frame,
    frame,
)
from tests.support.conversation import POLICY, TRANSPORTS, conversation
from tests.support.streams import without_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT: Final = POLICY.max_message_size


@pytest.fixture(autouse=True, scope="module")
def _without_kernel() -> Iterator[None]:
    with without_kernel():
        yield


class Case(NamedTuple):
    """Bytes from a client; the kinds observed, the frames that answer them, and the end, if they bring one."""

    sent: bytes
    kinds: list[str]
    answers: list[tuple[int, bytes]] = []  # noqa: RUF012 - never changed
    end: Disconnect | None = None


def refused(sent: bytes, end: Disconnect, kinds: list[str] | None = None) -> Case:
    """Bytes that we end with a close frame of our own; what comes behind them is ignored."""
    assert end.close_code is not None
    return Case(
        sent + frame(TEXT, b"{}"), kinds or [], [(CLOSE, struct.pack("!H", end.close_code) + end.reason.encode())], end
    )


def fragments(*parts: bytes, opcode: int = TEXT) -> bytes:
    """One message in several frames."""
    return b"".join(
        frame(CONTINUATION if index else opcode, part, fin=index == len(parts) - 1) for index, part in enumerate(parts)
    )


def text(data: str) -> bytes:
    return frame(TEXT, data.encode())


CASES: Final = {
    "init": Case(text('{"type":"init"}'), ["init"]),
    "init with spaces": Case(text(' { "type" : "init" } '), ["init"]),
    "pong": Case(frame(TEXT, PONG_PAYLOAD), ["pong"]),
    "pong spelled otherwise": Case(text('{"at":1,"type":"pong"}'), ["pong"]),
    "several in one read": Case(frame(TEXT, PONG_PAYLOAD) * 3 + text('{"type":"init"}'), ["pong"] * 3 + ["init"]),
    "unknown type": Case(text('{"type":"hello"}'), ["other"]),
    "no type": Case(text("{}"), ["other"]),
    "type is a number": Case(text('{"type":1}'), ["other"]),
    "type is null": Case(text('{"type":null}'), ["other"]),
    "type is a list": Case(text('{"type":[]}'), ["other"]),
    "type is an object": Case(text('{"type":{"type":"pong"}}'), ["other"]),
    "malformed": Case(text('{"type":'), ["malformed"]),
    "not an object": Case(text('["pong"]'), ["malformed"]),
    "empty text": Case(text(""), ["malformed"]),
    "deep JSON": Case(text("[" * 900), ["malformed"]),
    "huge number": Case(text('{"type":' + "9" * 900 + "}"), ["other"]),
    "lone surrogate": Case(text('{"type":"\\ud800"}'), ["other"]),
    "null character": Case(text("\0"), ["malformed"]),
    "byte order mark": Case(text("\ufeff{}"), ["malformed"]),
    "binary": Case(frame(BINARY, b"\xff\x00"), ["binary"]),
    "empty binary": Case(frame(BINARY), ["binary"]),
    "ping": Case(frame(PING, b"are you there"), ["control"], [(PONG, b"are you there")]),
    "empty ping": Case(frame(PING), ["control"], [(PONG, b"")]),
    "largest ping": Case(frame(PING, b"p" * 125), ["control"], [(PONG, b"p" * 125)]),
    "pong frame": Case(frame(PONG, b"unasked"), ["control"]),
    "fragments": Case(fragments(b'{"ty', b'pe":', b'"pong"}'), ["pong"]),
    "empty fragments": Case(fragments(b"", b'{"type":"pong"}', b"", b""), ["pong"]),
    "binary fragments": Case(fragments(b"\xff", b"\xfe", opcode=BINARY), ["binary"]),
    "a character split by fragments": Case(fragments(b'{"type":"\xe2', b"\x82", b'\xac"}'), ["other"]),
    "control frames inside a message": Case(
        frame(TEXT, b'{"type":', fin=False)
        + frame(PING, b"1")
        + frame(CONTINUATION, b'"po', fin=False)
        + frame(PONG)
        + frame(PING, b"2")
        + frame(CONTINUATION, b'ng"}'),
        ["control", "control", "control", "pong"],
        [(PONG, b"1"), (PONG, b"2")],
    ),
    "the largest message": Case(frame(BINARY, b"x" * LIMIT), ["binary"]),
    "the largest text counts bytes": Case(text("é" * (LIMIT // 2)), ["malformed"]),
    "the largest message twice": Case(frame(BINARY, b"x" * LIMIT) * 2, ["binary", "binary"]),
    "the most fragments": Case(fragments(*[b"{"] + [b""] * (MAX_FRAGMENTS - 2) + [b"}"]), ["other"]),
    "close": Case(close_frame(1000), [], [(CLOSE, b"\x03\xe8")], CLIENT_CLOSED),
    "close with a reason": Case(close_frame(1001, b"going away"), [], [(CLOSE, b"\x03\xe9going away")], CLIENT_CLOSED),
    **{
        f"close with {code}": Case(close_frame(code), [], [(CLOSE, struct.pack("!H", code))], CLIENT_CLOSED)
        for code in (1001, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
    },
    "close of an application": Case(close_frame(4321), [], [(CLOSE, struct.pack("!H", 4321))], CLIENT_CLOSED),
    "close without a code": Case(close_frame(None), [], [(CLOSE, b"")], CLIENT_CLOSED),
    "frames behind the close": Case(
        close_frame(1000) + text("{}") + b"\xff", [], [(CLOSE, b"\x03\xe8")], CLIENT_CLOSED
    ),
    "close inside a message": Case(
        frame(TEXT, b"{", fin=False) + close_frame(1000), [], [(CLOSE, b"\x03\xe8")], CLIENT_CLOSED
    ),
    "message too big": refused(frame(BINARY, b"x" * (LIMIT + 1)), MESSAGE_TOO_BIG),
    "text too big in bytes": refused(text("é" * (LIMIT // 2 + 1)), MESSAGE_TOO_BIG),
    "fragments too big": refused(fragments(b"x" * LIMIT, b"", b"x"), MESSAGE_TOO_BIG),
    "binary fragments too big": refused(fragments(b"x" * LIMIT, b"", b"x", opcode=BINARY), MESSAGE_TOO_BIG),
    "too many empty fragments": refused(fragments(*[b""] * (MAX_FRAGMENTS + 1)), MESSAGE_TOO_BIG),
    "an endless frame": refused(b"\x82\xff" + struct.pack("!Q", 1 << 40) + b"mask" + b"x" * 5000, MESSAGE_TOO_BIG),
    "unmasked": refused(frame(TEXT, b"{}", mask=None), PROTOCOL_ERROR),
    "reserved bit": refused(frame(TEXT, b"{}", reserved=4), PROTOCOL_ERROR),
    "reserved bit of a ping": refused(frame(PING, reserved=1), PROTOCOL_ERROR),
    "unknown opcode": refused(frame(3, b"{}"), PROTOCOL_ERROR),
    "unknown control opcode": refused(frame(11), PROTOCOL_ERROR),
    "fragmented ping": refused(frame(PING, fin=False), PROTOCOL_ERROR),
    "ping too long": refused(frame(PING, b"p" * 126), PROTOCOL_ERROR),
    "continuation of nothing": refused(frame(CONTINUATION, b"{}"), PROTOCOL_ERROR),
    "text inside a text": refused(frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), PROTOCOL_ERROR),
    "length longer than need be": refused(b"\x81\xfe\x00\x02mask{}", PROTOCOL_ERROR),
    "negative length": refused(b"\x81\xff" + b"\xff" * 8 + b"mask", PROTOCOL_ERROR),
    "HTTP": refused(b"GET / HTTP/1.1\r\n\r\n", PROTOCOL_ERROR),
    "close of one byte": refused(frame(CLOSE, b"\x03"), PROTOCOL_ERROR),
    **{
        f"close with {code}, which is never sent": refused(close_frame(code), PROTOCOL_ERROR)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    "close with bad UTF-8": refused(close_frame(1000, b"\xff"), INVALID_TEXT),
    "bad UTF-8": refused(frame(TEXT, b"\xff"), INVALID_TEXT),
    "bad UTF-8 in a fragment": refused(fragments(b"{", b"\xc3\x28"), INVALID_TEXT),
    "UTF-8 that ends early": refused(frame(TEXT, b"\xe2\x82"), INVALID_TEXT),
    "surrogate in UTF-8": refused(frame(TEXT, b"\xed\xa0\x80"), INVALID_TEXT),
    "error behind good messages": refused(frame(TEXT, PONG_PAYLOAD) * 2 + frame(3), PROTOCOL_ERROR, ["pong", "pong"]),
}


@pytest.mark.parametrize("way", ["whole", "byte by byte", "behind the head"])
@pytest.mark.parametrize("name", CASES)
async def test_what_a_client_says(name: str, way: str, autojump_clock: MockClock) -> None:
    case = CASES[name]
    async with conversation("socket", trailing=case.sent if way == "behind the head" else b"") as talk:
        if way == "whole":
            await talk.client.send_raw(case.sent)
        elif way == "byte by byte":
            for byte in case.sent:
                await talk.client.send_raw(bytes([byte]))
                await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        assert talk.kinds == case.kinds
        assert [seen[1:] for seen in talk.client.seen] == case.answers
        assert talk.peer.disconnect == case.end
        if case.end is None:
            # It lives: the next message is heard.
            await talk.client.send(TEXT, PONG_PAYLOAD)
            await trio.testing.wait_all_tasks_blocked()
            assert talk.kinds == [*case.kinds, "pong"]
        else:
            await talk.client.stream.send_stream.aclose()  # type: ignore[attr-defined]
            await talk.wait_over()
    assert talk.peer.error is None


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_close_of_a_client_is_echoed(transport: str, autojump_clock: MockClock) -> None:
    async with conversation(transport) as talk:
        await talk.client.send_close(1000)
        await talk.wait_over()
        assert talk.client.close_code == 1000
        assert talk.client.messages == []
        assert talk.over_at == 0.0


@pytest.mark.parametrize(
    "sign",
    [
        frame(TEXT, PONG_PAYLOAD),
        text("nonsense"),
        frame(BINARY, b"\x00"),
        frame(PING),
        frame(PONG),
        frame(TEXT, b"{", fin=False),
        frame(TEXT, b"", fin=False),
    ],
    ids=["pong", "malformed", "binary", "ping", "pong frame", "fragment", "empty fragment"],
)
async def test_any_frame_is_a_sign_of_life(sign: bytes, autojump_clock: MockClock) -> None:
    async with conversation() as talk:
        assert talk.peer.last_seen == 0.0
        await trio.sleep(17)
        await talk.client.send_raw(sign)
        await trio.sleep(3)
        assert talk.peer.last_seen == 17.0
        if sign[0] & 0x80 == 0:
            await talk.client.send(CONTINUATION, b"", fin=False)
            await trio.sleep(3)
            assert talk.peer.last_seen == 20.0


async def test_a_client_that_pings_without_reading_ends_as_a_slow_consumer(autojump_clock: MockClock) -> None:
    policy = attrs.evolve(POLICY, max_backlog=10_000, write_timeout=1000.0)
    async with conversation("lockstep", policy=policy, reads=False) as talk:
        with trio.fail_after(60):
            while talk.peer.disconnect is None:
                await talk.client.send_raw(frame(PING, b"p" * 125) * 30)
                await trio.testing.wait_all_tasks_blocked()
                assert talk.peer.wire.backlog_bytes <= 10_000 + 127
            await talk.over.wait()
    assert talk.peer.disconnect is SLOW_CONSUMER


async def test_a_message_that_comes_in_drops_holds_no_more_than_its_size(autojump_clock: MockClock) -> None:
    size = 30_000
    data = text("€" * (size // 3))
    async with conversation(policy=attrs.evolve(POLICY, max_message_size=size)) as talk:
        for start in range(0, len(data) - 5, 3):
            await talk.client.stream.send_all(data[start : start + 3])
        await trio.testing.wait_all_tasks_blocked()
        assert talk.peer.disconnect is None
        assert _held(talk.peer) < 8 * size


def _held(peer: object) -> int:
    """Bytes that the containers in an object's slots hold."""
    total = 0
    for name in type(peer).__slots__:  # type: ignore[attr-defined]
        value = getattr(peer, name, None)
        if isinstance(value, bytearray | str | list):
            total += sys.getsizeof(value)
        if isinstance(value, list):
            total += sum(map(sys.getsizeof, value))
    return total


@settings(max_examples=50)
@given(
    st.text(max_size=20)
    | st.recursive(
        st.none() | st.integers() | st.sampled_from(["", "pong", "init", "é"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "x"]), inner, max_size=2),
        max_leaves=6,
    ).map(json.dumps)
)
def test_classify_knows_every_text(data: str) -> None:
    assert classify(data) in {"pong", "init", "other", "malformed"}


@pytest.mark.parametrize("depth", [10_000, 1_000_000])
def test_deep_json_is_only_malformed(depth: int) -> None:
    assert classify('{"type":' + "[" * depth + "]" * depth + "}") in {"malformed", "other"}


def test_numbers_too_long_to_convert_are_only_malformed() -> None:
    assert classify('{"type":' + "9" * 60_000 + "}") == "malformed"


_PIECES: Final = st.lists(
    st.sampled_from([case.sent for name, case in CASES.items() if "fragments" not in name]), max_size=6
)


@settings(max_examples=50)
@given(pieces=_PIECES, cuts=st.lists(st.integers(1, 40), min_size=1, max_size=30), trailing=st.integers(0, 50))
def test_how_the_bytes_are_cut_makes_no_difference(pieces: list[bytes], cuts: list[int], trailing: int) -> None:
    data = b"".join(pieces)

    async def outcome(first: int, sizes: list[int]) -> tuple[list[str], list[tuple[int, bytes]], Disconnect | None]:
        async with conversation("socket", trailing=data[:first]) as talk:
            at, turn = first, 0
            while at < len(data):
                size = sizes[turn % len(sizes)]
                await talk.client.send_raw(data[at : at + size])
                at, turn = at + size, turn + 1
            await trio.testing.wait_all_tasks_blocked()
            return talk.kinds, [seen[1:] for seen in talk.client.seen], talk.peer.disconnect

    def run(first: int, sizes: list[int]) -> tuple[list[str], list[tuple[int, bytes]], Disconnect | None]:
        return trio.run(outcome, first, sizes, clock=MockClock(autojump_threshold=0))

    assert run(trailing, cuts) == run(0, [len(data) + 1])
