"""Delays: within the bounds of SPEC 2 for every attempt there can ever be."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.backoff import Backoff
from tests.support.recording import RecordingRandom


@pytest.mark.parametrize(
    ("k", "ceiling"),
    [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 16.0), (6, 30.0), (7, 30.0), (1025, 30.0), (10_000_000, 30.0)],
)
def test_the_kth_failure_draws_between_half_of_its_ceiling_and_all_of_it(k: int, ceiling: float) -> None:
    rng = RecordingRandom(0)
    delay = Backoff(1.0, 30.0).after_failure(k, rng)
    assert rng.drawn == [(ceiling / 2, ceiling, delay)]


def test_the_first_attempt_draws_between_nothing_and_half_of_the_base() -> None:
    rng = RecordingRandom(0)
    delay = Backoff(1.0, 30.0).first(rng)
    assert rng.drawn == [(0, 0.5, delay)]


@given(
    base=st.floats(1e-9, 1e9),
    maximum=st.floats(1e-9, 1e9),
    k=st.integers(1, 10**9),
    seed=st.integers(0, 1000),
)
def test_no_delay_is_ever_out_of_bounds_or_infinite(base: float, maximum: float, k: int, seed: int) -> None:
    delay = Backoff(base, maximum).after_failure(k, random.Random(seed))
    assert min(base, maximum) / 2 <= delay <= maximum


def test_five_attempts_outlast_an_outage_of_six_seconds_whatever_is_drawn() -> None:
    lowest = sum(Backoff(1.0, 30.0).after_failure(k, _Lowest()) for k in range(1, 5))
    assert lowest == 7.5


class _Lowest(random.Random):
    def uniform(self, a: float, b: float) -> float:  # noqa: ARG002 - the signature is random's
        return a
