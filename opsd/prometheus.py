"""The status as Prometheus series. Pure but for the figures of this process, where they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

import attrs
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder

from common.version import version
from opsd.vector import Mode, Telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from opsd.alerts import Outcomes
    from opsd.vector import Status

# Every value that a label can have is served from the start.
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
TELEMETRY: Final[tuple[Telemetry, ...]] = get_args(Telemetry)


@attrs.frozen(kw_only=True)
class Beside:
    """What is told beside the status."""

    history_up: bool
    cpu_seconds: float
    """See `Board.cpu_seconds`."""
    sources: tuple[str, ...]
    """The names of all of them."""
    alerts: Outcomes


def expose(status: Status, beside: Beside, accept: str, *, process: bool) -> tuple[bytes, str]:
    """The text and its content type, as `accept` prefers; with `process` also this process's own figures."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Vector(status, beside))
    if process:
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            registry.register(collector)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Vector:
    def __init__(self, status: Status, beside: Beside) -> None:
        self._status = status
        self._beside = beside

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        sessions, directions = self._status.vector.sessions, self._status.vector.directions
        others, meta = self._status.vector.others, self._status.meta
        flow = directions.request_flow
        gauges: dict[str, tuple[str, float]] = {
            "opsd_tmux_sessions": ("Sessions of the local tmux.", sessions.tmux),
            "opsd_active_workers": ("Serving processes of all sources.", sessions.active_workers),
            "opsd_api_sessions": ("Requests in flight.", sessions.api_sessions),
            "opsd_websocket_connections": ("Open WebSockets of all daemons.", sessions.websocket_connections),
            "opsd_routes": ("Routes of all daemons.", flow.total_routes),
            "opsd_routes_active": ("Routes of the daemons that answer.", flow.active_routes),
            "opsd_request_latency_seconds": ("Mean over the last minute.", flow.avg_latency / 1000),
            "opsd_requests_per_second": ("Over the last minute.", flow.requests_per_second),
            "opsd_memory_bytes": ("Resident memory of all daemons.", others.memory),
            "opsd_error_ratio": (
                "Of all answers and ended conversations, over five minutes.",
                others.error_rate,
            ),
            "opsd_uptime_seconds": ("Of the daemon that has run longest.", others.uptime),
            "opsd_history_up": ("1 while samples are recorded.", float(self._beside.history_up)),
            "opsd_endpoints": ("Endpoints of the status document.", meta.total_endpoints),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(name, text, value=value)
        cpu = "User and system time of all daemons, those that are gone included."
        yield CounterMetricFamily("opsd_cpu_seconds", cpu, value=self._beside.cpu_seconds)
        yield _one_of("opsd_traffic_mode", "1 for the current mode.", "mode", MODES, directions.traffic_mode)
        yield _one_of("opsd_telemetry_status", "1 for the current one.", "status", TELEMETRY, meta.telemetry_status)
        unavailable = GaugeMetricFamily("opsd_source_unavailable", "1 for a source that is away.", labels=["source"])
        for source in self._beside.sources:
            unavailable.add_metric([source], source in meta.unavailable)
        yield unavailable
        posted = CounterMetricFamily("opsd_alerts", "Attempts to post an alert to the webhook.", labels=["outcome"])
        posted.add_metric(["sent"], self._beside.alerts.sent)
        posted.add_metric(["failed"], self._beside.alerts.failed)
        yield posted
        yield InfoMetricFamily("opsd_build", "What runs.", value={"version": version()})
        yield InfoMetricFamily("opsd_region", "The primary region.", value={"region": directions.primary_region})


def _one_of(name: str, text: str, label: str, values: tuple[str, ...], current: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value in values:
        family.add_metric([value], float(value == current))
    return family
