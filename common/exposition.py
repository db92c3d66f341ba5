"""From collectors to the text of a scrape, for one process or for several that answer as one (SPEC 4).

A `Report` is what one process has to say, as plain values that can be sent to another process; reports are merged and
rendered. Nothing is written to a disk, so it works on a read-only root file system. Pure, but for the reading of the
process's own figures in `Reporter`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Sample = tuple[str, tuple[tuple[str, str], ...], float]
"""A sample's name, its labels, its value."""

# What several processes have in common is not added up: by name, without the daemon's prefix (`status2_`, `python_`).
_LOWEST: Final = frozenset({"redis_up", "start_time_seconds", "max_fds"})
# The daemon is as ready as the process says that sees most of it; one that has not yet come so far speaks for itself.
_HIGHEST: Final = frozenset({"build", "draining", "info", "origin_check_disabled", "ready", "workers"})
# What a process that does not answer can't be believed to be any longer.
_FLEETING: Final = frozenset({"ready", "workers_ready"})


@attrs.frozen
class Family:
    """One metric with its samples."""

    name: str
    kind: str
    text: str
    samples: tuple[Sample, ...]


Report = tuple[Family, ...]


class Reporter:
    """Reads one process: the daemon's collector, the process's and Python's own."""

    def __init__(self, collector: Collector) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(collector)

    def report(self) -> Report:
        """Everything, as it is now."""
        return report_of(self._registry.collect())


def report_of(metrics: Iterable[Metric]) -> Report:
    """These metrics as plain values."""
    return tuple(
        Family(
            metric.name,
            metric.type,
            metric.documentation,
            tuple((sample.name, tuple(sorted(sample.labels.items())), sample.value) for sample in metric.samples),
        )
        for metric in metrics
    )


def merge(reports: Iterable[Report]) -> Report:
    """One report for several processes: sums, but for what they have in common. Order is that of the first report."""
    families: dict[str, Family] = {}
    samples: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for report in reports:
        for family in report:
            families.setdefault(family.name, family)
            combine = _combination(family.name)
            merged = samples.setdefault(family.name, {})
            for name, labels, value in family.samples:
                key = (name, labels)
                merged[key] = combine(merged[key], value) if key in merged else value
    return tuple(
        attrs.evolve(family, samples=tuple((*key, value) for key, value in samples[family.name].items()))
        for family in families.values()
    )


def totals(report: Report) -> Report:
    """Only what keeps counting: what a process that is gone leaves behind, so that no sum ever goes down."""
    return tuple(family for family in report if family.kind in {"counter", "histogram"})


def last_words(report: Report) -> Report:
    """The report of a process that does not answer: what it counted and holds stays, and it is ready for nothing."""
    return tuple(
        attrs.evolve(family, samples=tuple((name, labels, 0.0) for name, labels, _ in family.samples))
        if _own_name(family.name) in _FLEETING
        else family
        for family in report
    )


def render(report: Report, accept: str) -> tuple[bytes, str]:
    """The body and content type that suit an `Accept` header: OpenMetrics where asked for, else Prometheus text."""
    try:
        encoder, content_type = choose_encoder(accept)
    except (TypeError, ValueError):
        # A version that is no number, say: whoever asks like that gets the usual text.
        encoder, content_type = choose_encoder("")
    registry = CollectorRegistry()
    registry.register(_Reported(report))
    return encoder(registry), content_type


def _combination(name: str) -> Callable[[float, float], float]:
    own = _own_name(name)
    if own in _LOWEST:
        return min
    if own in _HIGHEST:
        return max
    return lambda one, other: one + other


def _own_name(name: str) -> str:
    return name.partition("_")[2]


class _Reported(Collector):
    def __init__(self, report: Report) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        for family in self._report:
            metric = Metric(family.name, family.text, family.kind)
            for name, labels, value in family.samples:
                metric.add_sample(name, dict(labels), value)
            yield metric


def to_json(report: Report) -> list[object]:
    """Plain lists for a JSON channel."""
    return [[family.name, family.kind, family.text, family.samples] for family in report]


def from_json(value: object) -> Report:
    """What `to_json` made, read back. Raises ValueError for anything else."""
    try:
        return tuple(
            Family(
                name,
                kind,
                text,
                tuple((sample, tuple((k, v) for k, v in labels), float(x)) for sample, labels, x in samples),
            )
            for name, kind, text, samples in _list(value)
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("not a report") from error


def _list(value: object) -> list[tuple[str, str, str, list[tuple[str, list[tuple[str, str]], float]]]]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value
