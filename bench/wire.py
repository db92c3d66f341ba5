"""The client's side of RFC 6455, as pure functions of bytes: a handshake, masked frames out, plain frames in.

Only what a load generator needs. Every client uses one key and one mask: both protect from intermediaries that are
not here.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

TEXT: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
FIN: Final = 0x80

_KEY: Final = base64.b64encode(b"bench load clien")
_MASK: Final = b"\x5a\xa5\x3c\xc3"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
ACCEPT: Final = base64.b64encode(hashlib.sha1(_KEY + _GUID, usedforsecurity=False).digest())


class HandshakeError(Exception):
    """The server answered something other than a correct 101."""


def handshake_request(host: str, path: str) -> bytes:
    """The upgrade request for `path`, already percent-encoded."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {_KEY.decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode("ascii")


def split_handshake(data: bytes) -> bytes | None:
    """What follows the 101's head in `data` (frames may already be there), or None while the head is incomplete.

    Raises HandshakeError when it is not a 101, or its accept value is not the one for our key.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None
    status, *lines = head.split(b"\r\n")
    if status.split(b" ")[1:2] != [b"101"]:
        raise HandshakeError(status.decode("latin-1"))
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    if headers.get(b"sec-websocket-accept") != ACCEPT:
        raise HandshakeError("the accept value does not belong to our key")
    return rest


def masked_frame(opcode: int, payload: bytes) -> bytes:
    """A whole masked frame. Raises ValueError above 125 bytes: a load client has nothing longer to say."""
    if len(payload) > 125:
        raise ValueError(f"{len(payload)} bytes don't fit a short frame")
    masked = bytes(byte ^ _MASK[index % 4] for index, byte in enumerate(payload))
    return bytes((FIN | opcode, 0x80 | len(payload))) + _MASK + masked


def server_text(payload: bytes) -> bytes:
    """The one correct text frame that a server may send for `payload`: no mask, no extension, the shortest length."""
    size = len(payload)
    if size < 126:
        return bytes((FIN | TEXT, size)) + payload
    if size < 1 << 16:
        return bytes((FIN | TEXT, 126)) + size.to_bytes(2) + payload
    return bytes((FIN | TEXT, 127)) + size.to_bytes(8) + payload


def frame_end(data: bytes, start: int) -> int | None:
    """Where the server's frame that begins at `start` ends in `data`; None while it is incomplete."""
    available = len(data)
    begin = start + 2
    if begin > available:
        return None
    length = data[start + 1]
    if length >= 126:
        begin += 2 if length == 126 else 8
        if begin > available:
            return None
        length = int.from_bytes(data[start + 2 : begin])
    end = begin + length
    return end if end <= available else None
