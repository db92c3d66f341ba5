from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from bench.storm import histogram, most_at_once, returns
from common.backoff import Backoff

if TYPE_CHECKING:
    import random

REPLICAS: Final = 200
BACKOFF: Final = Backoff(1.0, 30.0)
"""The daemons' defaults."""


class Together(Backoff):
    """The same delays without their jitter."""

    def first(self, rng: random.Random) -> float:
        del rng
        return self.base / 2

    def after_failure(self, k: int, rng: random.Random) -> float:
        del rng
        return min(self.maximum, self.base * 2.0 ** (k - 1))


@pytest.mark.parametrize("outage", [0.0, 0.3, 6.0, 20.0, 300.0])
def test_replicas_that_lose_redis_together_do_not_come_back_together(outage: float) -> None:
    times = returns(BACKOFF, REPLICAS, outage, seed=1)
    assert len(times) == REPLICAS
    assert times == sorted(times)
    # The first attempts alone fall into half a second; the longer it lasts, the further they are apart.
    assert most_at_once(times) <= REPLICAS * (0.4 if outage < 1.0 else 0.15)
    assert most_at_once(returns(Together(1.0, 30.0), REPLICAS, outage, seed=1)) == REPLICAS


@pytest.mark.parametrize("outage", [0.3, 6.0, 20.0, 300.0])
def test_nobody_is_later_than_the_longest_delay_that_was_due(outage: float) -> None:
    assert returns(BACKOFF, REPLICAS, outage, seed=2)[0] >= 0.0
    assert returns(BACKOFF, REPLICAS, outage, seed=2)[-1] <= min(30.0, 2 * outage + 1.0)


def test_the_same_seed_is_the_same_storm() -> None:
    assert returns(BACKOFF, 5, 6.0, seed=3) == returns(BACKOFF, 5, 6.0, seed=3)
    assert returns(BACKOFF, 5, 6.0, seed=3) != returns(BACKOFF, 5, 6.0, seed=4)


def test_a_histogram_has_everybody_once() -> None:
    lines = histogram([0.0, 0.5, 1.0, 1.0], rows=2, width=4).splitlines()
    assert lines == ["    0.00 s    1 #", "    0.50 s    3 ####"]


def test_simultaneous_is_what_falls_into_one_window() -> None:
    assert most_at_once([0.0, 0.05, 0.1, 0.2, 0.5]) == 3
