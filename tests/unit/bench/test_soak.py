"""Whether a figure drifts, and what a run of clients that come and go has to say of it."""

from __future__ import annotations

import random

import pytest

from bench.drift import Drift, fit
from bench.exposition import samples
from bench.holdings import Inside
from bench.soak import CALM, MOST, AtRest, came, judge, plan
from bench.wanderers import Wanderers

TIMES = tuple(20.0 * number for number in range(20))


def rests(memory: list[float], *, descriptors: list[int] | None = None, inside: Inside | None = None) -> list[AtRest]:
    numbers = descriptors or [11] * len(memory)
    return [
        AtRest(20.0 * place, size, number, inside)
        for place, (size, number) in enumerate(zip(memory, numbers, strict=True))
    ]


def findings(found: list[AtRest]) -> list[str]:
    return [finding for verdict in judge("statusd", found) for finding in verdict.findings]


def test_a_line_has_its_slope_and_no_error() -> None:
    slope = fit(TIMES, [3.0 + 0.5 * time for time in TIMES])
    assert slope.value == pytest.approx(0.5)
    assert slope.error == pytest.approx(0.0, abs=1e-9)


def test_the_error_is_that_of_least_squares() -> None:
    # By hand: Sxx 2, slope 1, residuals 1/3, -2/3, 1/3.
    slope = fit([0.0, 1.0, 2.0], [0.0, 0.0, 2.0])
    assert slope.value == pytest.approx(1.0)
    assert slope.error == pytest.approx((6 / 9 / 1 / 2) ** 0.5)


@pytest.mark.parametrize(("times", "values"), [([1.0, 2.0], [1.0, 2.0]), ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])])
def test_too_few_points_have_no_slope(times: list[float], values: list[float]) -> None:
    with pytest.raises(ValueError, match="have no slope"):
        fit(times, values)


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_growth(seed: int) -> None:
    rng = random.Random(seed)
    assert not Drift("MB", TIMES, tuple(60 + rng.gauss(0, 0.1) for _ in TIMES), 1.0).grows


@pytest.mark.parametrize("seed", range(20))
def test_a_leak_beyond_the_noise_is_growth(seed: int) -> None:
    rng = random.Random(seed)
    assert Drift("MB", TIMES, tuple(60 + 0.02 * time + rng.gauss(0, 0.1) for time in TIMES), 1.0).grows


def test_what_a_start_takes_is_no_growth() -> None:
    assert not Drift("MB", TIMES, (50.0, 55.0, 58.0, *(60.0 for _ in TIMES[3:])), 1.0).grows


def test_one_grain_more_is_no_growth() -> None:
    assert not Drift("MB", TIMES, tuple(60.0 + place / 20 for place in range(20)), 1.0).grows


def test_a_short_run_is_judged_by_its_last_three_points() -> None:
    assert Drift("MB", (0.0, 1.0, 2.0, 3.0), (9.0, 1.0, 3.0, 5.0), 1.0).slope.value == pytest.approx(2.0)


def test_growth_is_told_beside_its_slope_and_error() -> None:
    told = str(Drift("MB", (0.0, 1.0, 2.0, 3.0), (9.0, 1.0, 3.0, 5.0), 1.0))
    assert told == "9.0 MB at first, 5.0 at last, +4.00 in the second half (+7200.00 ± 0.00 an hour)"


def test_a_daemon_that_ends_where_it_began_has_no_findings() -> None:
    assert findings(rests([60.0] * 8, inside=Inside(20, 0))) == []


def test_what_is_left_over_is_named() -> None:
    before, after = rests([60.0] * 4, inside=Inside(20, 0)), rests([60.0] * 4, inside=Inside(22, 3))
    assert findings([*before, *after]) == ["2 more tasks", "3 objects that can't be freed"]
    assert findings(rests([60.0] * 4, descriptors=[9, 9, 9, 12])) == ["3 more descriptors"]


def test_a_burst_of_descriptors_that_is_over_is_none() -> None:
    assert findings(rests([60.0] * 4, descriptors=[9, 14, 12, 9])) == []


def test_memory_that_grows_is_a_finding() -> None:
    assert findings(rests([60.0 + place for place in range(8)])) == ["it grows"]


def test_nobody_there_is_no_evidence() -> None:
    wanderers = Wanderers([], 0, 1)
    assert not came(wanderers, 0, 0).kept
    wanderers.ends["leaving"], wanderers.frames = 1, 1
    assert came(wanderers, 1, 0).kept


@pytest.mark.parametrize("minutes", [0.5, 1.0, 3.0, 10.0, 30.0, 1440.0])
def test_rounds_fill_the_time(minutes: float) -> None:
    rounds, seconds = plan(minutes)
    assert rounds <= MOST
    assert seconds >= CALM
    if minutes > 1:
        assert rounds * (seconds + CALM) == pytest.approx(60 * minutes)


def test_samples_of_other_names_are_left_out() -> None:
    page = '# HELP a_b c\na_b 1.0\na_c_total{reason="x y"} 2.0\nprocess_open_fds 3.0\n'
    assert samples(page, "a") == {"b": 1.0, 'c_total{reason="x y"}': 2.0}
