"""The bytes of server frames (RFC 6455, section 5.2).

A server's frames carry no mask and, without extensions, no per-connection state: a frame is encoded once and serves
every client.
"""

from __future__ import annotations

import json
import struct
from typing import Final, NamedTuple

CONTROL: Final = 0x8
"""The bit that the opcodes of control frames have."""
CLOSE: Final = 0x8
PING_OPCODE: Final = 0x9
PONG_OPCODE: Final = 0xA

_FIN: Final = 0x80
_TEXT: Final = 0x81  # FIN and opcode 1


class Frames(NamedTuple):
    """Whole frames, joined: their bytes, and how many they are."""

    data: bytes
    number: int


def text_frame(payload: bytes) -> bytes:
    """One unmasked, unfragmented text frame; `payload` is UTF-8."""
    size = len(payload)
    if size < 126:
        return bytes((_TEXT, size)) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", _TEXT, 126, size) + payload
    return struct.pack("!BBQ", _TEXT, 127, size) + payload


def control_frame(opcode: int, payload: bytes) -> bytes:
    """One control frame; `payload` has at most 125 bytes."""
    return bytes((_FIN | opcode, len(payload))) + payload


def close_frame(code: int, reason: str) -> bytes:
    """The frame that begins the closing handshake; `reason` has 123 bytes of UTF-8 at most (RFC 6455, section 5.5)."""
    return control_frame(CLOSE, struct.pack("!H", code) + reason.encode())


def gap_frame(seconds: float) -> bytes:
    """The frame that tells a client how long Redis was away (SPEC 1, statusd payload)."""
    return text_frame(json.dumps({"type": "gap", "seconds": round(float(seconds), 3)}, separators=(",", ":")).encode())


PING: Final = text_frame(b'{"type":"ping"}')
HANGUP: Final = text_frame(b'{"type":"hangup"}')
