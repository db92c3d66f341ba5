"""Into how many pieces a source may cut what it says. Pure.

Every piece costs the same to take in, be it a byte or a thousand: a source that sends its answer in chunks of one byte,
or blank lines and comments without end, costs a hundred times what it sends. A budget grows with the bytes and with the
time, far beyond what any server needs, and a source that overspends it is left.
"""

from __future__ import annotations

from typing import Final

import attrs

AT_ONCE: Final = 1000
"""Pieces that are free: what has piled up while nobody read."""

BYTES: Final = 64
"""Bytes for each of which one more piece is allowed."""

A_SECOND: Final = 100
"""Pieces that each second allows."""


class OverspentError(Exception):
    """More pieces than can be meant; nothing more is taken from this source's connection."""


@attrs.define
class Budget:
    """That of one connection, made at the time `begun` in seconds. `what` names the pieces in the error."""

    what: str
    begun: float
    pieces: int = 0
    """Spent so far."""
    size: int = 0
    """Bytes in them."""

    def spend(self, now: float, size: int, pieces: int = 1) -> None:
        """Take note of so many pieces with so many bytes together. Raises OverspentError."""
        self.pieces += pieces
        self.size += size
        if self.pieces > AT_ONCE + self.size // BYTES + (now - self.begun) * A_SECOND:
            raise OverspentError(f"{self.pieces} {self.what} for {self.size} bytes")
