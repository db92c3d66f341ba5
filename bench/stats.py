"""Percentiles, medians with their spread, and ratios of paired runs: pure functions of numbers."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@attrs.frozen
class Percentiles:
    """Nearest-rank percentiles: each is a value that was really measured, none is interpolated."""

    p50: float
    p95: float
    p99: float
    max: float


@attrs.frozen
class Spread:
    """The median of repeated runs and the outermost of them."""

    median: float
    min: float
    max: float


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value with at least `percent` per cent of `ordered` (ascending) at or below it.

    Raises ValueError when there are no values, or when percent is outside 0 < percent <= 100.
    """
    if not ordered:
        raise ValueError("no values to take a percentile of")
    if not 0 < percent <= 100:
        raise ValueError(f"{percent} is not a percentile")
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def percentiles(values: Iterable[float], *, unit: float = 1) -> Percentiles:
    """Percentiles of `values`, each divided by `unit` (1e6 turns nanoseconds into milliseconds).

    Raises ValueError when there are no values.
    """
    ordered = sorted(values)
    return Percentiles(
        p50=percentile(ordered, 50) / unit,
        p95=percentile(ordered, 95) / unit,
        p99=percentile(ordered, 99) / unit,
        max=percentile(ordered, 100) / unit,
    )


def spread(values: Sequence[float]) -> Spread:
    """Raises ValueError when there are no values."""
    if not values:
        raise ValueError("no values to take a median of")
    return Spread(median=statistics.median(values), min=min(values), max=max(values))


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Ours divided by theirs, round by round, then the median and spread of these quotients.

    Runs of one round are neighbours in time, so what else the machine did weighs on both; a quotient of two medians
    would mix rounds that saw different machines. Raises ValueError when the rounds don't match up or a divisor is not
    positive.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} rounds cannot be paired with {len(theirs)}")
    if any(value <= 0 for value in theirs):
        raise ValueError("a ratio to nothing says nothing")
    return spread([our / their for our, their in zip(ours, theirs, strict=True)])
