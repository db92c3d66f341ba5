"""What is measured, by name: each run gives numbers under these names, and tables, goals and the plot refer to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping


@attrs.frozen
class Figure:
    """`title` holds the unit; `digits` are those behind the point that mean something."""

    name: str
    title: str
    digits: int = 1
    higher_is_better: bool = False

    def text(self, value: float) -> str:
        return f"{value:,.{self.digits}f}"


FIGURES: Final[Mapping[str, Figure]] = {
    figure.name: figure
    for figure in (
        Figure("cpu_us", "CPU µs a message"),
        Figure("cpu_us_target", "CPU µs a message, target alone"),
        Figure("cpu_us_redis", "CPU µs a message, Redis alone"),
        Figure("p50_ms", "p50 ms"),
        Figure("p95_ms", "p95 ms"),
        Figure("p99_ms", "p99 ms"),
        Figure("max_ms", "max ms"),
        Figure("core_percent", "% of a core"),
        Figure("core_percent_redis", "% of a core, Redis alone"),
        Figure("pause_ms", "latest ping, ms late"),
        Figure("dropped", "clients dropped", 0),
        Figure("deliveries_per_s", "deliveries a second", 0, higher_is_better=True),
        Figure("in_s", "all in after s", 2),
        Figure("again_s", "all in again after s", 2),
        Figure("handshake_us", "CPU µs a handshake", 0),
        Figure("again_us", "CPU µs a handshake, again", 0),
        Figure("client_kb", "KB a client", 2),
        Figure("redis_kb", "KB a client in Redis", 2),
        Figure("redis_connections", "more connections to Redis", 0),
        Figure("alone_p99_ms", "p99 ms without the stalled"),
        Figure("isolation", "p99 ÷ p99 without the stalled", 2),
    )
}
