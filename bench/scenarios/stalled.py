"""One client that never reads, among many that do: what it costs them.

The same crowd of healthy clients is measured in pairs of short blocks, in one of which a stalled client is connected
as well. A block begins with messages large enough to fill every buffer that the kernel has for one that does not read,
so that the target must keep a backlog for it.
"""

from __future__ import annotations

import statistics
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs

from bench.crowd import open_crowd, open_silent
from bench.feed import payloads, publication
from bench.outcome import NS_PER_MS, outcome_of
from bench.stats import percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.crowd import ClientCrowd, Site
    from bench.feed import Write
    from bench.outcome import Outcome

_RECEIVE_BUFFER: Final = 4096
"""Bytes; the kernel makes it a little more."""
_FILL: Final = 4
_FILL_SIZE: Final = 16_000
"""So many messages of this size, one after the other, fill it, and the 16 KB that are not sent yet."""
_MESSAGES: Final = 5
_SIZE: Final = 100
_RATE: Final = 10.0
_GRACE: Final = 5.0


@attrs.frozen
class Pair:
    """The p99 of the healthy clients' latency, in milliseconds."""

    alone: float
    beside: float

    @property
    def ratio(self) -> float:
        return self.beside / self.alone


@attrs.frozen(kw_only=True)
class Stalled:
    """`clients`, of which one never reads, on `channel` for about `seconds`."""

    channel: str
    clients: int
    seconds: float

    @property
    def pairs(self) -> int:
        return max(1, round(self.seconds * _RATE / _MESSAGES / 2))

    @property
    def estimate(self) -> float:
        return 2 * self.seconds

    def measure(self, site: Site) -> Outcome:
        with open_pairs(site, self.channel, self.clients - 1, self.pairs) as (crowd, measure_pair):
            before = crowd.start_measuring()
            pairs = [measure_pair() for _ in range(self.pairs)]
            observed = crowd.observed(before, crowd.read_clocks())
        return outcome_of(
            attrs.evolve(observed, publish_lag=()),  # that of the fill says nothing
            {
                "p99_ms": statistics.median(pair.beside for pair in pairs),
                "alone_p99_ms": statistics.median(pair.alone for pair in pairs),
                "isolation": statistics.median(pair.ratio for pair in pairs),
            },
        )


@contextmanager
def open_pairs(
    site: Site, channel: str, healthy: int, most: int, *, inspect: Callable[[], None] = lambda: None
) -> Iterator[tuple[ClientCrowd, Callable[[], Pair]]]:
    """Healthy clients, and a function that measures the next of at most `most` pairs of blocks.

    The order within a pair changes each time. `inspect` is called at the end of each block with a stalled client.
    """
    with open_crowd(site, [f"/{channel}"], _writes(channel, 1 + 2 * most)) as crowd:
        crowd.open(healthy)
        blocks = _Blocks(crowd, inspect)
        blocks.measure()  # the first is slower than any other
        yield crowd, blocks.measure_pair


class _Blocks:
    def __init__(self, crowd: ClientCrowd, inspect: Callable[[], None]) -> None:
        self._crowd = crowd
        self._inspect = inspect
        self._done = 0

    def measure_pair(self) -> Pair:
        if self._done % 4 == 1:
            alone, beside = self.measure(), self.measure_beside()
        else:
            beside, alone = self.measure_beside(), self.measure()
        return Pair(alone, beside)

    def measure_beside(self) -> float:
        with open_silent(self._crowd.site.server, self._crowd.path, _RECEIVE_BUFFER):
            p99 = self.measure()
            self._inspect()
        self._crowd.serve(0.05)  # let the target see that it is gone
        return p99

    def measure(self) -> float:
        """Milliseconds: the p99 of one block."""
        crowd = self._crowd
        begin = self._done * (_FILL + _MESSAGES)
        filled, end = begin + _FILL, begin + _FILL + _MESSAGES
        for number in range(begin, filled):
            crowd.write_at_once(number, number + 1)
            crowd.settle(number + 1, _GRACE)
        known = len(crowd.ledger.latency)
        crowd.write(filled, end, _RATE)
        crowd.settle(end, _GRACE)
        self._done += 1
        return percentile(sorted(crowd.ledger.latency[known:]), 99) / NS_PER_MS


def _writes(channel: str, blocks: int) -> list[Write]:
    fill = iter(payloads(blocks * _FILL, _FILL_SIZE))
    messages = iter(payloads(blocks * _MESSAGES, _SIZE))
    sizes = ([fill] * _FILL + [messages] * _MESSAGES) * blocks
    return [publication(channel, next(source)) for source in sizes]
