"""Durations counted by bucket: plain numbers that become a metric when somebody asks (`common.metrics`)."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

import attrs

BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds, in seconds."""


@attrs.define
class Histogram:
    """Observations counted by bucket; the last bucket has no upper bound."""

    counts: list[int] = attrs.field(factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds
