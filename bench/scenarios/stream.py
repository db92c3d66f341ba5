"""Writes at a steady pace: fan-out, many runs, preflight, and idle clients who now and then get a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from bench.crowd import open_crowd
from bench.outcome import outcome_of

if TYPE_CHECKING:
    from bench.crowd import Site
    from bench.feed import BenchFeed
    from bench.outcome import Outcome


@attrs.frozen(kw_only=True)
class Stream:
    """So many writes a second of `feed` to `clients`, for `warmup` and then `seconds`."""

    feed: BenchFeed = attrs.field(repr=False)
    clients: int
    rate: float
    seconds: float
    warmup: float = 2.0
    grace: float = 5.0
    """How long after the last write a frame may arrive before it counts as lost."""

    @property
    def unmeasured(self) -> int:
        """Writes that are made, and checked, before the measured window."""
        return round(self.warmup * self.rate)

    @property
    def total(self) -> int:
        return self.unmeasured + max(1, round(self.seconds * self.rate))

    @property
    def estimate(self) -> float:
        return self.warmup + self.seconds + self.clients / 1000

    def measure(self, site: Site) -> Outcome:
        feed = self.feed
        with open_crowd(
            site, feed.paths, feed.writes(self.total), measured_from=self.unmeasured, coalesced=feed.coalesced
        ) as crowd:
            crowd.command(*feed.prepare)
            crowd.open(self.clients, feed.greeting)
            if self.unmeasured:
                crowd.write(0, self.unmeasured, self.rate)
            else:
                crowd.serve(self.warmup)
            before = crowd.start_measuring()
            crowd.write(self.unmeasured, self.total, self.rate)
            crowd.settle(self.total, self.grace)
            return outcome_of(crowd.observed(before, crowd.read_clocks()))
