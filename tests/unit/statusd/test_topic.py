"""Payloads become frames: byte for byte, one each, in order, and none that is too large."""

from __future__ import annotations

import json
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.metrics import Counters
from common.web.frames import text_frame
from statusd.topic import StatusTopic, status_frame
from tests.support.logbook import Logbook
from tests.unit.common.test_fanout import FakePeer
from tests.unit.common.web.test_frames import read_with_websockets, read_with_wsproto


def said(payload: bytes) -> bytes:
    """The JSON of a payload's frame."""
    frame = status_frame(payload)
    (text,) = read_with_websockets(frame)
    assert read_with_wsproto(frame) == [text]
    assert frame == text_frame(text.encode())
    return text.encode()


ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


@pytest.mark.parametrize(
    ("payload", "data"),
    [
        (b"", '""'),
        (b"hillslope 12 of 340", '"hillslope 12 of 340"'),
        (b'{"percent": 40}', '"{\\"percent\\": 40}"'),
        (b"a\\b/c", '"a\\\\b/c"'),
        (b"one\r\ntwo\t\b\f", '"one\\r\\ntwo\\t\\b\\f"'),
        (b"\x00\x1b[0m\x1f\x7f", '"\\u0000\\u001b[0m\\u001f\x7f"'),
        ("grün \u2713 \U0001f600".encode(), '"grün \u2713 \U0001f600"'),
        ("\u2028\u2029\u0085\ufeff</script>".encode(), '"\u2028\u2029\u0085\ufeff</script>"'),
        ("\ufffe\uffff\U0010ffff".encode(), '"\ufffe\uffff\U0010ffff"'),
        # What is not UTF-8 becomes U+FFFD, one for each part that could not begin or end a character.
        (b"a\xffb", '"a\ufffdb"'),
        (b"\x80\x80", '"\ufffd\ufffd"'),
        (b"caf\xe9", '"caf\ufffd"'),
        (b"\xe2\x82", '"\ufffd"'),
        (b"\xf0\x9f\x98x", '"\ufffdx"'),
        (b"\xc0\xaf", '"\ufffd\ufffd"'),
        (b"\xed\xa0\x80", '"\ufffd\ufffd\ufffd"'),
        (b"\xf4\x90\x80\x80", '"\ufffd\ufffd\ufffd\ufffd"'),
        ("\ufffd".encode(), '"\ufffd"'),
    ],
)
def test_frames_byte_for_byte(payload: bytes, data: str) -> None:
    assert said(payload) == f'{{"type":"status","data":{data}}}'.encode()


def test_only_what_json_requires_is_escaped() -> None:
    for code in [*range(0xD800), *range(0xE000, 0x11000), 0x10FFFF]:
        character = chr(code)
        escaped = ESCAPES.get(character, f"\\u{code:04x}" if code < 0x20 else character)
        frame = status_frame(character.encode())
        assert frame[2:] == f'{{"type":"status","data":"{escaped}"}}'.encode()


@given(st.binary() | st.text().map(str.encode))
@example(b"\xf0\x28\x8c\x28")
def test_a_payload_comes_back_as_its_text(payload: bytes) -> None:
    parsed = json.loads(said(payload))
    assert parsed == {"type": "status", "data": payload.decode("utf-8", "replace")}
    assert list(parsed) == ["type", "data"]


@pytest.mark.parametrize("size", [100, 101, 102, 65535 - 28, 65536 - 28, 65536, 1 << 20])
def test_a_payload_of_any_size_is_one_frame(size: int) -> None:
    assert json.loads(said(b"x" * size))["data"] == "x" * size


class Bench:
    """A topic, and what it counts and says."""

    def __init__(self, max_payload: int = 1000) -> None:
        self.counters = Counters()
        self.book = Logbook()
        self.topic = StatusTopic(b"run:log", max_payload=max_payload, counters=self.counters, log=self.book.log)


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_the_payloads_of_a_batch_are_frames_in_order(payloads: list[bytes]) -> None:
    frames = Bench().topic.encode(payloads)
    assert frames.data == b"".join(map(status_frame, payloads))
    assert frames.number == len(payloads)


def test_equal_payloads_are_sent_as_often_as_they_came() -> None:
    frames = Bench().topic.encode([b"same"] * 3)
    assert frames == (status_frame(b"same") * 3, 3)


def test_a_payload_of_the_limit_passes_and_one_byte_more_does_not() -> None:
    bench = Bench(max_payload=10)
    frames = bench.topic.encode([b"x" * 11, b"y" * 10, b"x" * 12, b"z"])
    assert frames == (status_frame(b"y" * 10) + status_frame(b"z"), 2)
    assert bench.counters.dropped == {"too_big": 2}
    assert [
        {key: line[key] for key in ("level", "msg", "run_id", "channel", "reason", "bytes", "limit")}
        for line in bench.book.lines
    ] == [
        {
            "level": "warn",
            "msg": "message dropped",
            "run_id": "run",
            "channel": "log",
            "reason": "too_big",
            "bytes": size,
            "limit": 10,
        }
        for size in (11, 12)
    ]


def test_the_limit_is_of_the_payload_and_not_of_its_frame() -> None:
    bench = Bench(max_payload=10)
    assert bench.topic.encode([b"\x00" * 10, b"\xff" * 10]).number == 2
    assert bench.book.lines == []


def test_a_batch_that_is_dropped_whole_is_no_frame() -> None:
    bench = Bench(max_payload=1)
    assert bench.topic.encode([b"xx", b"yy"]) == (b"", 0)
    assert bench.counters.dropped.total() == 2


def test_a_payload_that_was_dropped_is_not_in_the_log() -> None:
    bench = Bench(max_payload=1)
    bench.topic.encode([b"secret payload"])
    assert "secret" not in json.dumps(bench.book.lines)


def test_what_is_forwarded_is_neither_counted_nor_said_here() -> None:
    bench = Bench()
    bench.topic.encode([b"x"])
    assert (bench.counters, bench.book.lines) == (Counters(), [])


async def test_every_client_gets_every_frame_in_one_piece() -> None:
    topic = Bench(max_payload=3).topic
    clients = [FakePeer(), FakePeer()]
    for client in clients:
        topic.add(client.as_peer())
    assert await topic.receive([b"1", b"too big", b"2"], 0.0) == 4, "two frames for each of two"
    for client in clients:
        assert client.wire.sent == [(status_frame(b"1") + status_frame(b"2"), 2)]


async def test_what_is_dropped_whole_is_not_written_to_anybody() -> None:
    bench, client = Bench(max_payload=1), FakePeer()
    bench.topic.add(client.as_peer())
    assert await bench.topic.receive([b"xx"], 0.0) == 0
    assert client.wire.sent == []


async def test_a_topic_that_everybody_has_left_sends_nothing() -> None:
    topic, client = Bench().topic, FakePeer()
    topic.add(client.as_peer())
    topic.discard(client.as_peer())
    assert await topic.receive([b"x"], 0.0) == 0
    assert client.wire.sent == []
