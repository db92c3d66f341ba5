"""What each kind of attacker does, as values: what it sends, whether it reads, and how the daemon is configured."""

from __future__ import annotations

import zlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from bench import wire

if TYPE_CHECKING:
    from collections.abc import Mapping

HEALTHY: Final = 100
"""Clients that mean well, beside all of these."""

_FLOOD: Final = (1, 10, 50, 200)
_HEADS: Final = (200, 5000)
_MASK: Final = b"\x00\x00\x00\x00"
_BEGUN: Final = bytes((0x01, 0x81)) + _MASK + b"x"
_CONTINUED: Final = bytes((0x00, 0x81)) + _MASK + b"x"


def _compressed() -> bytes:
    packer = zlib.compressobj(wbits=-15)
    payload = packer.compress(bytes(10_000)) + packer.flush(zlib.Z_SYNC_FLUSH)
    return bytes((0xC1, 0x80 | len(payload))) + _MASK + payload


@attrs.frozen(kw_only=True)
class Flood:
    """One kind.

    It shakes hands, sends `first`, and then `again` as fast as its socket takes it, without waiting for an answer.
    """

    what: str
    first: bytes = b""
    again: bytes = b""
    """Nothing: it only is there."""
    head: bool = True
    """Whether the head of its request is whole; else its last byte is never sent."""
    silent: bool = False
    """Whether it says nothing at all."""
    pause: float = 0.0
    """Seconds between two bytes, for one that dribbles."""
    reads: bool = True
    numbers: tuple[int, ...] = _FLOOD
    fills: bool = False
    """Whether it takes every place: of those who come then some are told so, and the others closed without a word."""
    settings: Mapping[str, str] = MappingProxyType({})
    """Of the daemon, by name without prefix."""

    def opening(self, handshake: bytes) -> bytes:
        """What it sends once, for this request."""
        if self.silent:
            return b""
        return handshake + self.first if self.head else handshake[:-1]


FLOODS: Final[Mapping[str, Flood]] = {
    "texts": Flood(what="texts of a byte", again=wire.masked_frame(wire.TEXT, b"x")),
    "malformed": Flood(what="texts that are no JSON", again=wire.masked_frame(wire.TEXT, b'{"type":')),
    "fragments": Flood(what="a message in fragments of a byte", first=_BEGUN, again=_CONTINUED),
    "pings": Flood(what="pings", again=wire.masked_frame(wire.PING, b"")),
    "pongs": Flood(what="pongs that nobody asked for", again=wire.masked_frame(wire.PONG, b"")),
    "unread-pings": Flood(
        what="pings of 125 bytes whose answers are never read",
        again=wire.masked_frame(wire.PING, b"p" * 125),
        reads=False,
    ),
    "compressed": Flood(what="compressed frames that were not agreed on", again=_compressed()),
    "garbage": Flood(what="bytes that are no frames", again=b"\xff\x00\x9c\x13"),
    "never-reads": Flood(what="says nothing and reads nothing", reads=False),
    "half-open": Flood(what="a request head without its last byte", head=False, numbers=_HEADS),
    "silent": Flood(what="a connection without a word", silent=True, numbers=_HEADS),
    "dribbling": Flood(what="a request head, a byte each 50 ms", pause=0.05, numbers=(50, 500)),
    "over-limit": Flood(
        what=f"conversations, and more of them than MAX_CONNECTIONS ({2 * HEALTHY}) lets in",
        numbers=(200, 1000),
        fills=True,
        settings={"MAX_CONNECTIONS": str(2 * HEALTHY)},
    ),
}
