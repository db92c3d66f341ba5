"""What the documents say of the last bench is what it measured: the figures of `bench/results/latest.json`."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Final

import pytest

from tools.site.documents import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS: Final = json.loads((ROOT / "bench/results/latest.json").read_text("utf-8"))
CAPACITY: Final = "docs/operations.md"
SCALING: Final = "docs/scaling.md"
DECISIONS: Final = "docs/architecture.md"
SHARE: Final = 0.7
"""Of a core, above which nobody should plan."""


def measured(row: str, target: str, figure: str) -> float:
    """The median."""
    (found,) = [each for each in RESULTS["rows"] if each["name"] == row]
    return float(found["targets"][target][figure]["median"])


def a_second(microseconds: float) -> float:
    """How many of these a core does at its share, in thousands."""
    return round(SHARE * 1e3 / microseconds)


@pytest.mark.parametrize(
    ("document", "text", "figure", "row", "target", "make"),
    [
        (CAPACITY, "{:.0f} µs at 1,000 clients", "cpu_us", "fanout-1000", "statusd", float),
        (CAPACITY, "| {:.0f},000 deliveries a second,", "cpu_us", "fanout-1000", "statusd", a_second),
        (CAPACITY, "{:.0f} µs at 3,000", "cpu_us", "fanout-3000", "statusd", float),
        (CAPACITY, "deliveries a second, {:.0f},000 |", "cpu_us", "fanout-3000", "statusd", a_second),
        (CAPACITY, "| {:.0f} µs, the cost in Redis included", "cpu_us", "many-runs", "statusd", float),
        (CAPACITY, "| {:.0f},000 such messages a second", "cpu_us", "many-runs", "statusd", a_second),
        (CAPACITY, "| {:.0f} µs at 200 clients, the reads included", "cpu_us", "preflight-200", "preflightd", float),
        (CAPACITY, "| {:.0f},000 frames a second", "cpu_us", "preflight-200", "preflightd", a_second),
        (CAPACITY, "| {:.1f} % for 10,000", "core_percent", "idle-10000", "statusd", float),
        (CAPACITY, "| {:.0f} µs, ", "handshake_us", "handshakes-1000", "statusd", float),
        (CAPACITY, ", {:.0f} µs when all come back at once", "again_us", "handshakes-1000", "statusd", float),
        (CAPACITY, "5,000 in {:.1f} s", "in_s", "handshakes-5000", "statusd", float),
        (CAPACITY, "with two workers {:.1f} s", "in_s", "handshakes-5000", "statusd (2 workers)", float),
        (CAPACITY, "{:.1f} KB for each client", "client_kb", "memory", "statusd", float),
        (CAPACITY, "the last has the message {:.0f} ms after", "p99_ms", "fanout-1000", "statusd", float),
        (CAPACITY, "with 3,000 after {:.0f} ms", "p99_ms", "fanout-3000", "statusd", float),
        (SCALING, "| {:.0f} µs | `many-runs` |", "cpu_us", "many-runs", "statusd", float),
        (SCALING, "| {:.1f} µs | `fanout-1000` |", "cpu_us", "fanout-1000", "statusd", float),
        (SCALING, "| {:.1f} % of a core | `idle-10000` |", "core_percent", "idle-10000", "statusd", float),
        (SCALING, "| {:.1f} KB | `memory` |", "client_kb", "memory", "statusd", float),
        (SCALING, "| {:.0f} µs | `handshakes-1000` |", "again_us", "handshakes-1000", "statusd", float),
        (DECISIONS, "{:.1f} µs of CPU a message at 1,000 clients", "cpu_us", "fanout-1000", "statusd", float),
        (DECISIONS, "with a connection each (`websockets`) {:.0f} KB each", "redis_kb", "memory", "websockets", float),
        (DECISIONS, "KB each, and {:,.0f} of its `maxclients`", "redis_connections", "memory", "websockets", float),
        (DECISIONS, "the others' p99 is {:.2f} of that without it", "isolation", "stalled", "statusd", float),
    ],
)
def test_a_figure_is_the_benchs(
    document: str, text: str, figure: str, row: str, target: str, make: Callable[[float], float]
) -> None:
    assert text.format(make(measured(row, target, figure))) in (ROOT / document).read_text("utf-8")


VIEWERS: Final = 10
"""Of each run, in the arithmetic of SCALING."""


def cores(clients: int, processes: float) -> float:
    """What the messages of a second take when each goes to so many processes with a viewer."""
    each = measured("fanout-1000", "statusd", "cpu_us")
    first = measured("many-runs", "statusd", "cpu_us") - each
    return clients / VIEWERS * (first * processes + each * VIEWERS) / 1e6


def at_random(clients: int) -> tuple[float, int]:
    """The cores when viewers are spread over all processes by chance, and how many processes that takes."""
    count = max(1.0, cores(clients, 1) / SHARE)
    for _ in range(1000):
        spread = count * (1 - (1 - 1 / count) ** VIEWERS)
        count = max(1.0, cores(clients, spread) / SHARE)
    return cores(clients, spread), math.ceil(count)


def rounded(figure: float) -> str:
    """As the document writes it: a decimal below ten."""
    return f"{figure:.1f}" if figure < 9.95 else f"{figure:.0f}"


@pytest.mark.parametrize("clients", [10_000, 100_000, 300_000, 1_000_000])
def test_the_arithmetic_of_replicas_follows_from_the_bench(clients: int) -> None:
    by_path = cores(clients, 1)
    random, processes = at_random(clients)
    memory = clients * measured("memory", "statusd", "client_kb") / 1e6
    return_ = clients * measured("handshakes-1000", "statusd", "again_us") / 1e6
    beats = clients / 10_000 * measured("idle-10000", "statusd", "core_percent") / 100
    line = (
        f"| {clients:,} | {clients // VIEWERS:,} | {rounded(by_path)}, {math.ceil(by_path / SHARE)}"
        f" | {rounded(random)}, {processes} | {memory:.1f} GB"
        f" | {rounded(beats)} cores | {return_:.0f} core-seconds |"
    )
    assert line in (ROOT / SCALING).read_text("utf-8")
