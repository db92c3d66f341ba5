"""From what the generator saw to the figures of a run and the reasons to doubt it."""

from __future__ import annotations

import attrs
import pytest

from bench.crowd import Observed
from bench.figures import FIGURES
from bench.ledger import Faults
from bench.outcome import marks, outcome_of

_MS = 1_000_000
_OBSERVED = Observed(
    faults=Faults(ended=2),
    clients=298,
    delivered=100_000,
    seconds=20.0,
    latency=[4 * _MS] * 10,
    queued=[_MS] * 10,
    publish_lag=[0] * 10,
    ping_late=30 * _MS,
    cpu={"target": 2.0, "redis": 0.5},
    generator_cpu=4.0,
    machine_cpu=7.5,
)


def test_cpu_is_divided_by_the_messages_delivered_and_shares_by_the_window() -> None:
    outcome = outcome_of(_OBSERVED)
    assert outcome.values == pytest.approx(
        {
            "cpu_us": 25, "cpu_us_target": 20, "cpu_us_redis": 5, "core_percent": 12.5, "core_percent_redis": 2.5,
            "p50_ms": 4, "p95_ms": 4, "p99_ms": 4, "max_ms": 4, "pause_ms": 30, "dropped": 2,
        }
    )  # fmt: skip
    assert outcome.generator == pytest.approx({"cpu": 0.2, "foreign_cpu": 0.05, "publish_lag_ms": 0, "queued_ms": 1})
    assert (outcome.faults, outcome.marks) == (Faults(ended=2), [])
    assert set(outcome.values) <= set(FIGURES)


def test_without_messages_and_pings_there_are_no_figures_of_them() -> None:
    quiet = attrs.evolve(_OBSERVED, delivered=0, latency=[], queued=[], publish_lag=[], ping_late=None)
    assert set(outcome_of(quiet, {"in_s": 0.3}).values) == {"core_percent", "core_percent_redis", "dropped", "in_s"}


def test_foreign_cpu_is_not_negative_when_the_clocks_tick_apart() -> None:
    assert outcome_of(attrs.evolve(_OBSERVED, machine_cpu=6.4)).generator["foreign_cpu"] == 0


def test_a_ping_that_came_early_is_not_late() -> None:
    assert outcome_of(attrs.evolve(_OBSERVED, ping_late=-5)).values["pause_ms"] == 0


@pytest.mark.parametrize(
    ("cpu", "foreign", "lag", "queued", "expected"),
    [
        (0.80, 0.25, 5.0, 2.0, []),
        (0.81, 0.00, 0.0, 0.0, ["generator-bound: it used 81% of a core"]),
        (0.10, 0.26, 0.0, 0.0, ["disturbed: other processes used 26% of a core"]),
        (0.10, 0.00, 5.1, 0.0, ["generator-lagged: it wrote 5.1 ms late (p99)"]),
        (0.10, 0.00, 0.0, 2.1, ["generator-bound: 2.1 ms (p99) of the latency may be its own"]),
    ],
)
def test_a_run_is_marked_only_when_the_generator_or_others_may_have_bent_it(
    cpu: float, foreign: float, lag: float, queued: float, expected: list[str]
) -> None:
    generator = {"cpu": cpu, "foreign_cpu": foreign, "publish_lag_ms": lag, "queued_ms": queued}
    assert marks(generator, 4.0) == expected
