"""How something long is made while the process serves: in steps so short that nobody notices.

A turn of the loop that does nothing else would not be enough: the way of a request or of a message has several turns,
and each would wait for such a step. So there is a rest after each.
"""

from __future__ import annotations

import time
from typing import Final

import trio

STEP: Final = 0.001
"""Seconds of work after which others get their turn."""

REST: Final = 0.001
"""Seconds that they have for themselves."""


class Pace:
    """Awaited between two small pieces of work; rests when a step has been done."""

    def __init__(self) -> None:
        self._until = _now() + STEP

    async def __call__(self) -> None:
        """Go on at once, or after a rest."""
        if _now() >= self._until:
            await trio.sleep(REST)
            self._until = _now() + STEP


def _now() -> float:
    # Not Trio's clock, which a test may stop: this is about how long the loop really stands still.
    return time.perf_counter()
