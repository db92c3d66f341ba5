"""As many messages as Redis takes, at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from bench.crowd import SECOND, open_crowd
from bench.outcome import outcome_of

if TYPE_CHECKING:
    from bench.crowd import Site
    from bench.feed import BenchFeed
    from bench.outcome import Outcome


@attrs.frozen(kw_only=True)
class Burst:
    """`messages` written in one go to `clients`, each of which gets all of them, within `seconds`."""

    feed: BenchFeed = attrs.field(repr=False)
    clients: int
    messages: int
    seconds: float

    @property
    def estimate(self) -> float:
        return 3 + self.messages * self.clients / 300_000

    def measure(self, site: Site) -> Outcome:
        with open_crowd(site, self.feed.paths, self.feed.writes(self.messages), bulk=True) as crowd:
            crowd.open(self.clients)
            crowd.serve(1)
            before = crowd.start_measuring()
            crowd.write_at_once(0, self.messages)
            crowd.settle(self.messages, self.seconds)
            observed = crowd.observed(before, crowd.read_clocks())
            took = max(1, crowd.last_frame_at - crowd.ledger.written_at[0]) / SECOND
        # What latency was kept is that of the few frames that came one by one: it says nothing of the others.
        observed = attrs.evolve(observed, latency=(), queued=())
        return outcome_of(observed, {"deliveries_per_s": observed.delivered / took})
