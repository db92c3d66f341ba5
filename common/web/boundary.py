"""Where a client's bytes stand between messages, so that the usual pong can be told without the parser. Pure.

Nearly everything that clients send is `{"type":"pong"}` in one frame that arrives by itself: 1,000 times a second with
5,000 clients. Recognised here it costs a comparison instead of wsproto's generic way; the bench's row `idle-5000` shows
what that saves. It may be recognised only where a message can begin: the same bytes in the middle of another frame are
data, and in the middle of a fragmented message a breach of the protocol. `Boundary` follows the frames just as far.
"""

from __future__ import annotations

from typing import Final

PONG: Final = b'{"type":"pong"}'
"""A heartbeat's answer (SPEC 1), as browsers write it."""

_PONG_HEAD: Final = bytes((0x81, 0x80 | len(PONG)))  # a whole text message, masked
_PONG_SIZE: Final = len(_PONG_HEAD) + 4 + len(PONG)
_PONG_NUMBER: Final = int.from_bytes(PONG, "big")

_FIN: Final = 0x80
_OPCODE: Final = 0x0F
_CONTROL: Final = 0x08
_LENGTH: Final = 0x7F
_MASK_SIZE: Final = 4
_EXTENDED: Final = {126: 2, 127: 8}
"""Bytes of the length itself, where the seven bits in the head hold one of these."""


def is_pong(data: bytes) -> bool:
    """Whether `data` is exactly one whole frame that holds the usual pong (RFC 6455, sections 5.2 and 5.3)."""
    if len(data) != _PONG_SIZE or not data.startswith(_PONG_HEAD):
        return False
    mask = (data[2:6] * 4)[: len(PONG)]
    return int.from_bytes(data[6:], "big") ^ int.from_bytes(mask, "big") == _PONG_NUMBER


class Boundary:
    """Follows what a client has sent. It checks nothing: after a breach of the protocol its answer means nothing."""

    __slots__ = ("_head", "_in_message", "_payload")

    def __init__(self) -> None:
        self._head = b""
        self._payload = 0
        self._in_message = False

    @property
    def between_messages(self) -> bool:
        """Whether the next byte begins a message."""
        return not (self._in_message or self._payload or self._head)

    def feed(self, data: bytes) -> None:
        """Take the next bytes, cut anywhere."""
        data = self._head + data
        start = min(self._payload, len(data))
        self._payload -= start
        while start < len(data):
            size = _head_size(data, start)
            if size is None or start + size > len(data):
                break
            self._note(data[start])
            length = _payload_length(data, start)
            end = min(start + size + length, len(data))
            self._payload = start + size + length - end
            start = end
        self._head = data[start:]

    def _note(self, first: int) -> None:
        """The frame with this first byte begins: is its message whole with it?"""
        if not first & _OPCODE & _CONTROL:
            self._in_message = not first & _FIN


def _head_size(data: bytes, start: int) -> int | None:
    """Bytes of the frame's head, its mask included; None while that can't be told."""
    if len(data) < start + 2:
        return None
    return 2 + _EXTENDED.get(data[start + 1] & _LENGTH, 0) + _MASK_SIZE


def _payload_length(data: bytes, start: int) -> int:
    short = data[start + 1] & _LENGTH
    extended = _EXTENDED.get(short)
    return short if extended is None else int.from_bytes(data[start + 2 : start + 2 + extended], "big")
