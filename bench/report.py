"""From what the generator saw to what is printed: the values of the JSON document and the functions that make them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs

from bench.stats import Percentiles, Spread, paired_ratio, percentiles, spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.ledger import Faults
    from bench.load import LoadResult

GENERATOR_CPU_LIMIT: Final = 0.8
"""Share of one core above which the load generator, not the target, may set the pace."""
PUBLISH_LAG_LIMIT: Final = 5.0
"""Milliseconds (p99) that a publish may be late before the generator counts as lagging."""
QUEUED_LIMIT: Final = 0.5
"""Share of the latency's p99 that the generator's own queue may make up (p99)."""
FOREIGN_CPU_LIMIT: Final = 0.25
"""Cores that processes outside the measure may use before a run counts as disturbed."""

TARGET: Final = "target"
REDIS: Final = "redis"
"""The names under which the CPU of the two watched process trees is reported."""

_NS_PER_MS: Final = 1e6
_TITLES: Final = ("CPU µs/message", "p50 ms", "p99 ms", "max ms")


@attrs.frozen
class CpuPerMessage:
    """Microseconds of user and system time for each delivered message, heartbeats and everything else included."""

    target: float
    redis: float
    total: float


@attrs.frozen
class Generator:
    """What the load generator may have done to the measure. The CPU figures are shares of one core."""

    cpu: float
    foreign_cpu: float
    """Used by processes that have no part in the run."""
    publish_lag_ms: Percentiles
    queued_ms: Percentiles


@attrs.frozen(kw_only=True)
class Run:
    """One target, measured once. `marks` says why the run should be doubted, and is empty when it should not."""

    target: str
    round: int
    delivered: int
    faults: Faults
    cpu_us: CpuPerMessage
    latency_ms: Percentiles
    generator: Generator
    marks: Sequence[str]


@attrs.frozen
class Overview:
    """Median and spread of one target's runs."""

    cpu_us_total: Spread
    cpu_us_target: Spread
    cpu_us_redis: Spread
    latency_ms_p50: Spread
    latency_ms_p95: Spread
    latency_ms_p99: Spread
    latency_ms_max: Spread
    marked_runs: int
    faults: int


@attrs.frozen
class Ratio:
    """The subject's figures divided by a peer's, paired by round: below 1 the subject is better."""

    cpu_total: Spread
    cpu_target: Spread
    latency_p50: Spread
    latency_p99: Spread


@attrs.frozen(kw_only=True)
class Report:
    """The JSON document."""

    row: str
    parameters: Mapping[str, float]
    machine: Mapping[str, str | float]
    subject: str
    targets: Mapping[str, Overview]
    ratios: Mapping[str, Ratio]
    """The subject against each peer."""
    runs: Sequence[Run]


def summarize(target: str, number: int, result: LoadResult) -> Run:
    """One run's figures. Raises ValueError when nothing was delivered."""
    latency = percentiles(result.latency, unit=_NS_PER_MS)
    target_us, redis_us = (result.cpu[name] / result.delivered * 1e6 for name in (TARGET, REDIS))
    foreign = result.machine_cpu - result.generator_cpu - sum(result.cpu.values())
    generator = Generator(
        cpu=result.generator_cpu / result.window,
        foreign_cpu=max(0.0, foreign) / result.window,
        publish_lag_ms=percentiles(result.publish_lag, unit=_NS_PER_MS),
        queued_ms=percentiles(result.queued, unit=_NS_PER_MS),
    )
    return Run(
        target=target,
        round=number,
        delivered=result.delivered,
        faults=result.faults,
        cpu_us=CpuPerMessage(target_us, redis_us, target_us + redis_us),
        latency_ms=latency,
        generator=generator,
        marks=marks(generator, latency),
    )


def marks(generator: Generator, latency_ms: Percentiles) -> list[str]:
    """Why a run should be doubted, in words."""
    found = []
    if generator.cpu > GENERATOR_CPU_LIMIT:
        found.append(f"generator-bound: it used {generator.cpu:.0%} of a core")
    if generator.publish_lag_ms.p99 > PUBLISH_LAG_LIMIT:
        found.append(f"generator-lagged: it published {generator.publish_lag_ms.p99:.1f} ms late (p99)")
    if generator.queued_ms.p99 > QUEUED_LIMIT * latency_ms.p99:
        found.append(f"generator-bound: {generator.queued_ms.p99:.1f} ms (p99) of the latency may be its own")
    if generator.foreign_cpu > FOREIGN_CPU_LIMIT:
        found.append(f"disturbed: other processes used {generator.foreign_cpu:.0%} of a core")
    return found


def make_report(
    row: str,
    runs: Sequence[Run],
    *,
    parameters: Mapping[str, float],
    machine: Mapping[str, str | float],
) -> Report:
    """The first run's target is the subject, the others are its peers. Raises ValueError without runs."""
    by_target: dict[str, list[Run]] = {}
    for run in runs:
        by_target.setdefault(run.target, []).append(run)
    if not by_target:
        raise ValueError("no runs to report")
    subject, *peers = by_target
    return Report(
        row=row,
        parameters=parameters,
        machine=machine,
        subject=subject,
        targets={target: overview(of_target) for target, of_target in by_target.items()},
        ratios={peer: compare(by_target[subject], by_target[peer]) for peer in peers},
        runs=runs,
    )


def overview(runs: Sequence[Run]) -> Overview:
    """Raises ValueError without runs."""
    return Overview(
        cpu_us_total=spread([run.cpu_us.total for run in runs]),
        cpu_us_target=spread([run.cpu_us.target for run in runs]),
        cpu_us_redis=spread([run.cpu_us.redis for run in runs]),
        latency_ms_p50=spread([run.latency_ms.p50 for run in runs]),
        latency_ms_p95=spread([run.latency_ms.p95 for run in runs]),
        latency_ms_p99=spread([run.latency_ms.p99 for run in runs]),
        latency_ms_max=spread([run.latency_ms.max for run in runs]),
        marked_runs=sum(bool(run.marks) for run in runs),
        faults=sum(run.faults.total for run in runs),
    )


def compare(subject: Sequence[Run], peer: Sequence[Run]) -> Ratio:
    """Raises ValueError when the two don't have the same number of rounds."""
    return Ratio(
        cpu_total=paired_ratio([run.cpu_us.total for run in subject], [run.cpu_us.total for run in peer]),
        cpu_target=paired_ratio([run.cpu_us.target for run in subject], [run.cpu_us.target for run in peer]),
        latency_p50=paired_ratio([run.latency_ms.p50 for run in subject], [run.latency_ms.p50 for run in peer]),
        latency_p99=paired_ratio([run.latency_ms.p99 for run in subject], [run.latency_ms.p99 for run in peer]),
    )


def format_table(report: Report) -> str:
    """A few lines for a terminal: medians, the outermost runs in brackets."""
    lines = [f"{report.row:<18}" + "".join(f"{title:>26}" for title in _TITLES)]
    for name, target in report.targets.items():
        figures = (target.cpu_us_total, target.latency_ms_p50, target.latency_ms_p99, target.latency_ms_max)
        lines.append(f"{name:<18}" + "".join(f"{_bracketed(figure):>26}" for figure in figures))
    for name, ratio in report.ratios.items():
        quotients = (ratio.cpu_total, ratio.latency_p50, ratio.latency_p99)
        lines.append(f"{'÷ ' + name:<18}" + "".join(f"{_bracketed(quotient):>26}" for quotient in quotients))
    doubts = Counter(mark.partition(":")[0] for run in report.runs for mark in run.marks)
    lines += [f"{count} of {len(report.runs)} runs marked: {mark}" for mark, count in doubts.items()]
    lines += [
        f"FAULTS of {run.target} in round {run.round}: {run.faults.describe()}"
        for run in report.runs
        if run.faults.total
    ]
    return "\n".join(lines)


def _bracketed(figure: Spread) -> str:
    return f"{figure.median:.2f} [{figure.min:.2f} {figure.max:.2f}]"
