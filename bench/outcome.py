"""What one run of a scenario came to: named figures, faults, and the marks of a run that should be doubted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from bench.stats import percentiles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.crowd import Observed
    from bench.ledger import Faults

GENERATOR_CPU_LIMIT: Final = 0.8
"""Share of one core above which the load generator, not the target, may set the pace."""
PUBLISH_LAG_LIMIT: Final = 5.0
"""Milliseconds (p99) that a write may be late before the generator counts as lagging."""
QUEUED_LIMIT: Final = 0.5
"""Share of the latency's p99 that the generator's own queue may make up (p99)."""
FOREIGN_CPU_LIMIT: Final = 0.25
"""Cores that processes outside the measure may use before a run counts as disturbed."""

TARGET: Final = "target"
REDIS: Final = "redis"
"""The names of the watched process trees; of several servers each name begins with the latter."""

NS_PER_MS: Final = 1e6


@attrs.frozen(kw_only=True)
class Outcome:
    """`values` by the names of `figures.FIGURES`."""

    values: Mapping[str, float]
    faults: Faults
    generator: Mapping[str, float]
    """What the load generator may have done to the measure; CPU in shares of one core, times in milliseconds (p99)."""
    marks: Sequence[str]
    """Why the run should be doubted, in words."""


def outcome_of(observed: Observed, values: Mapping[str, float] | None = None) -> Outcome:
    """The figures that follow from any load, and `values` besides."""
    generator = generator_share(observed)
    found = traffic_values(observed) | dict(values or {})
    return Outcome(
        values=found, faults=observed.faults, generator=generator, marks=marks(generator, found.get("p99_ms"))
    )


def traffic_values(observed: Observed) -> dict[str, float]:
    """Of the messages that were delivered, if any were, and of the time that it took."""
    target = observed.cpu[TARGET]
    redis = sum(seconds for name, seconds in observed.cpu.items() if name.startswith(REDIS))
    values = {
        "core_percent": 100 * (target + redis) / observed.seconds,
        "core_percent_redis": 100 * redis / observed.seconds,
        "dropped": float(observed.faults.ended),
    }
    if observed.delivered:
        values["cpu_us"] = (target + redis) / observed.delivered * 1e6
        values["cpu_us_target"] = target / observed.delivered * 1e6
        values["cpu_us_redis"] = redis / observed.delivered * 1e6
    if observed.latency:
        latency = percentiles(observed.latency, unit=NS_PER_MS)
        values |= {
            "p50_ms": latency.p50,
            "p95_ms": latency.p95,
            "p99_ms": latency.p99,
            "max_ms": latency.max,
        }
    if observed.ping_late is not None:
        values["pause_ms"] = max(0.0, observed.ping_late / NS_PER_MS)
    return values


def generator_share(observed: Observed) -> dict[str, float]:
    foreign = observed.machine_cpu - observed.generator_cpu - sum(observed.cpu.values())
    share = {
        "cpu": observed.generator_cpu / observed.seconds,
        "foreign_cpu": max(0.0, foreign) / observed.seconds,
    }
    if observed.publish_lag:
        share["publish_lag_ms"] = percentiles(observed.publish_lag, unit=NS_PER_MS).p99
    if observed.queued:
        share["queued_ms"] = percentiles(observed.queued, unit=NS_PER_MS).p99
    return share


def marks(generator: Mapping[str, float], p99_ms: float | None) -> list[str]:
    """Why a run should be doubted, in words; each begins with its kind and a colon."""
    found = []
    if generator["cpu"] > GENERATOR_CPU_LIMIT:
        found.append(f"generator-bound: it used {generator['cpu']:.0%} of a core")
    lag, queued = generator.get("publish_lag_ms", 0.0), generator.get("queued_ms", 0.0)
    if lag > PUBLISH_LAG_LIMIT:
        found.append(f"generator-lagged: it wrote {lag:.1f} ms late (p99)")
    if p99_ms is not None and queued > QUEUED_LIMIT * p99_ms:
        found.append(f"generator-bound: {queued:.1f} ms (p99) of the latency may be its own")
    if generator["foreign_cpu"] > FOREIGN_CPU_LIMIT:
        found.append(f"disturbed: other processes used {generator['foreign_cpu']:.0%} of a core")
    return found
