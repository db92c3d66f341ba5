"""The bytes of server frames (RFC 6455, section 5.2).

A server's frames carry no mask and, without extensions, no per-connection state: a frame is encoded once and serves
every client.
"""

from __future__ import annotations

import json
import struct
from typing import Final, NamedTuple

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


def gap_frame(seconds: float) -> bytes:
    """The frame that tells a client how long Redis was away (SPEC 1, statusd payload)."""
    return text_frame(json.dumps({"type": "gap", "seconds": round(float(seconds), 3)}, separators=(",", ":")).encode())


PING: Final = text_frame(b'{"type":"ping"}')
HANGUP: Final = text_frame(b'{"type":"hangup"}')
