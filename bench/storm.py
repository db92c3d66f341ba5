"""How replicas that lose Redis at the same instant come back: simulated with the daemons' own backoff. Pure.

`returns` is what each of them does in one outage, by the link's rules: a first attempt after `Backoff.first`, and after
the k-th failure a wait of `Backoff.after_failure(k)`. An attempt takes no time; the server is back all at once.
"""

from __future__ import annotations

import bisect
import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.backoff import Backoff

WINDOW: Final = 0.1
"""Seconds in which attempts count as simultaneous."""

WIDTH: Final = 50
ROWS: Final = 20


def returns(backoff: Backoff, replicas: int, outage: float, seed: int) -> list[float]:
    """Seconds after the server's return at which each replica is back, in order. `outage` is in seconds; each replica
    has a generator of its own."""
    seeds = random.Random(seed)
    return sorted(_return(backoff, outage, random.Random(seeds.getrandbits(64))) for _ in range(replicas))


def _return(backoff: Backoff, outage: float, rng: random.Random) -> float:
    now = backoff.first(rng)
    failures = 0
    while now < outage:
        failures += 1
        now += backoff.after_failure(failures, rng)
    return now - outage


def most_at_once(times: Sequence[float], window: float = WINDOW) -> int:
    """The most of the (sorted) times that fall into one window, wherever it begins."""
    return max(bisect.bisect_right(times, time + window) - index for index, time in enumerate(times))


def histogram(times: Sequence[float], *, rows: int = ROWS, width: int = WIDTH) -> str:
    """The (sorted) times as bars, one row for each part of their range."""
    step = times[-1] / rows or 1.0
    counts = [0] * rows
    for time in times:
        counts[min(int(time / step), rows - 1)] += 1
    most = max(counts)
    return "\n".join(
        f"  {index * step:6.2f} s {count:4} {'#' * round(width * count / most)}" for index, count in enumerate(counts)
    )
