"""The arithmetic of the bench: percentiles, spreads, ratios."""

from __future__ import annotations

import pytest

from bench.stats import Percentiles, Spread, paired_ratio, percentile, percentiles, spread


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([7], 1, 7),
        ([7], 100, 7),
        ([1, 2], 50, 1),
        ([1, 2], 51, 2),
        ([1, 2, 3], 50, 2),
        (list(range(1, 101)), 99, 99),
        (list(range(1, 101)), 99.5, 100),
        (list(range(1, 1001)), 99, 990),
        (list(range(1, 1001)), 0.01, 1),
    ],
)
def test_a_percentile_is_the_smallest_value_with_that_share_at_or_below_it(
    values: list[float], percent: float, expected: float
) -> None:
    assert percentile(values, percent) == expected


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 0), ([1.0], 100.1), ([1.0], -1)])
def test_a_percentile_of_nothing_or_outside_its_range_is_an_error(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, percent)


def test_percentiles_sort_and_convert() -> None:
    nanoseconds = [number * 1_000_000 for number in range(200, 0, -1)]
    assert percentiles(nanoseconds, unit=1e6) == Percentiles(p50=100, p95=190, p99=198, max=200)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([4.0], Spread(4, 4, 4)), ([9.0, 1.0, 5.0], Spread(5, 1, 9)), ([1.0, 2.0, 4.0, 8.0], Spread(3, 1, 8))],
)
def test_a_spread_is_the_median_and_the_outermost(values: list[float], expected: Spread) -> None:
    assert spread(values) == expected


def test_a_spread_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_ratios_are_taken_round_by_round_before_the_median() -> None:
    # The machine was three times slower in the second round: for both. A ratio of medians would say 12 / 40 = 0.3.
    assert paired_ratio([10, 30, 12], [20, 60, 40]) == Spread(median=0.5, min=0.3, max=0.5)


@pytest.mark.parametrize(("ours", "theirs"), [([1.0], [1.0, 2.0]), ([1.0], [0.0]), ([], [])])
def test_ratios_need_matching_rounds_and_positive_divisors(ours: list[float], theirs: list[float]) -> None:
    with pytest.raises(ValueError, match=r"paired|ratio|no values"):
        paired_ratio(ours, theirs)
