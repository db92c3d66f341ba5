"""How long to wait before the next attempt: a pure function of the attempt's number and of the caller's generator.

Nothing here keeps state. Whoever retries (a Redis link, the `watch` client) owns the count of its failed attempts, and
its own `random.Random`: two processes that lose the same server at the same instant must not come back at the same one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    import random

_LARGEST_EXPONENT: Final = 1000
"""2.0 to this power is still a float; every delay has met its maximum long before."""


@attrs.frozen
class Backoff:
    """Delays in seconds that double from `base` up to `maximum`, with jitter."""

    base: float
    maximum: float

    def first(self, rng: random.Random) -> float:
        """The wait between losing a connection and the first attempt: short, but not the same for everyone."""
        return rng.uniform(0, self.base / 2)

    def after_failure(self, k: int, rng: random.Random) -> float:
        """The wait after the k-th failed attempt of one outage, k counting from 1.

        It is never below half of its ceiling: a handful of attempts must not be spent within a few seconds of bad luck.
        """
        ceiling = min(self.maximum, self.base * 2.0 ** min(k - 1, _LARGEST_EXPONENT))
        return rng.uniform(ceiling / 2, ceiling)
