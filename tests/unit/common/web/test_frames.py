"""The bytes of server frames, read back by two other libraries."""

from __future__ import annotations

import json
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode
from websockets.protocol import CLIENT as WEBSOCKETS_CLIENT
from websockets.protocol import Protocol
from wsproto.connection import CLIENT, Connection
from wsproto.events import TextMessage

from common.web.frames import (
    CLOSE,
    HANGUP,
    PING,
    PING_OPCODE,
    PONG_OPCODE,
    close_frame,
    control_frame,
    gap_frame,
    text_frame,
)

SIZES: Final = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20]


def read_with_wsproto(data: bytes) -> list[str]:
    """The text messages in `data`, which must be nothing but whole ones."""
    client = Connection(CLIENT)
    client.receive_data(data)
    messages, text = [], ""
    for event in client.events():
        assert isinstance(event, TextMessage)
        text += event.data
        if event.message_finished:
            messages.append(text)
            text = ""
    assert text == ""
    return messages


def read_with_websockets(data: bytes) -> list[str]:
    """The same, read by the other library."""
    client = Protocol(WEBSOCKETS_CLIENT, max_size=None)
    client.receive_data(data)
    frames = client.events_received()
    assert client.parser_exc is None
    messages = []
    for frame in frames:
        assert getattr(frame, "opcode", None) is Opcode.TEXT
        assert getattr(frame, "fin", None) is True
        messages.append(bytes(getattr(frame, "data", b"")).decode())
    return messages


@pytest.mark.parametrize("size", SIZES)
def test_a_frame_of_any_size_is_read_by_both_libraries(size: int) -> None:
    text = "x" * size
    data = text_frame(text.encode())
    assert read_with_wsproto(data) == read_with_websockets(data) == [text]


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, "8100"),
        (125, "817d"),
        (126, "817e007e"),
        (65535, "817effff"),
        (65536, "817f0000000000010000"),
    ],
)
def test_the_length_takes_as_few_bytes_as_it_can(size: int, head: str) -> None:
    assert text_frame(b"x" * size) == bytes.fromhex(head) + b"x" * size


@given(st.lists(st.text(), max_size=5))
def test_joined_frames_are_the_messages_in_order(texts: list[str]) -> None:
    data = b"".join(text_frame(text.encode()) for text in texts)
    assert read_with_wsproto(data) == read_with_websockets(data) == texts


def test_the_servers_own_frames_byte_for_byte() -> None:
    assert PING == b'\x81\x0f{"type":"ping"}'
    assert HANGUP == b'\x81\x11{"type":"hangup"}'


@pytest.mark.parametrize(
    ("seconds", "payload"),
    [
        (0.0, '{"type":"gap","seconds":0.0}'),
        (6, '{"type":"gap","seconds":6.0}'),
        (0.3, '{"type":"gap","seconds":0.3}'),
        (1.23456, '{"type":"gap","seconds":1.235}'),
        (0.1 + 0.2, '{"type":"gap","seconds":0.3}'),
        (604800.0, '{"type":"gap","seconds":604800.0}'),
    ],
)
def test_a_gap_is_told_in_seconds(seconds: float, payload: str) -> None:
    assert gap_frame(seconds) == text_frame(payload.encode())


@given(st.floats(min_value=0, max_value=1e9))
def test_a_gap_is_a_json_number_to_the_millisecond(seconds: float) -> None:
    (payload,) = read_with_websockets(gap_frame(seconds))
    told = json.loads(payload)
    assert list(told) == ["type", "seconds"]
    assert isinstance(told["seconds"], float)
    assert told["seconds"] == pytest.approx(seconds, abs=0.00051)


def test_control_frames_byte_for_byte() -> None:
    assert control_frame(PING_OPCODE, b"") == b"\x89\x00"
    assert control_frame(PONG_OPCODE, b"abc") == b"\x8a\x03abc"
    assert control_frame(CLOSE, b"x" * 125) == b"\x88\x7d" + b"x" * 125
    assert close_frame(1001, "") == b"\x88\x02\x03\xe9"
    assert close_frame(4999, "später") == b"\x88\x09\x13\x87sp\xc3\xa4ter"
