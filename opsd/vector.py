"""The status document: what `GET /api/dev/status` answers and the live WebSocket sends. Pure values.

A `Status` is made by the board at each recomputation and never changes. `document` gives the JSON names.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import attrs

Mode = Literal["normal", "degraded", "isolated"]
Telemetry = Literal["healthy", "degraded", "offline"]

MODES: Final[tuple[Mode, ...]] = get_args(Mode)
"""From the best to the worst."""

STATUS_VERSION: Final = "2.0"

_DECIMALS: Final = 6
"""Of rates and latencies: enough for a rate of one in a million, short enough to read."""


@attrs.frozen
class Sessions:
    """What is open at this moment."""

    tmux: int = 0
    active_workers: int = 0
    api_sessions: int = 0
    """Requests in flight, in the daemons and in opsd."""
    websocket_connections: int = 0


@attrs.frozen
class RequestFlow:
    """Users' handshakes over the last minute, in the daemons; neither probes nor opsd's own answers."""

    total_routes: int = 0
    active_routes: int = 0
    """Of the daemons that answer, and opsd's own."""
    avg_latency: float = 0.0
    """Milliseconds."""
    requests_per_second: float = 0.0


@attrs.frozen
class Directions:
    """Where the traffic goes and how well."""

    primary_region: str
    traffic_mode: Mode = "normal"
    request_flow: RequestFlow = RequestFlow()


@attrs.frozen
class Others:
    """What it costs, and what fails."""

    memory: int = 0
    """Bytes, resident, of all daemons that answer."""
    cpu: int = 0
    """Milliseconds of user and system time, of all daemons that answer."""
    error_rate: float = 0.0
    """0 to 1, over five minutes."""
    uptime: float = 0.0
    """Seconds, of the daemon that has run longest among those that answer."""


@attrs.frozen
class Vector:
    """The three groups."""

    sessions: Sessions
    directions: Directions
    others: Others


@attrs.frozen
class Meta:
    """What the figures stand on."""

    total_endpoints: int = 0
    telemetry_status: Telemetry = "offline"
    unavailable: tuple[str, ...] = ()
    """The names of the sources whose figures are 0 because they don't answer."""
    status_version: str = STATUS_VERSION


@attrs.frozen
class Status:
    """The whole document."""

    timestamp: str
    """RFC 3339, UTC, milliseconds."""
    vector: Vector
    meta: Meta

    def document(self) -> dict[str, object]:
        """As JSON objects, with the names of the document."""
        sessions, directions, others = self.vector.sessions, self.vector.directions, self.vector.others
        flow = directions.request_flow
        return {
            "timestamp": self.timestamp,
            "vector": {
                "sessions": {
                    "tmux": sessions.tmux,
                    "activeWorkers": sessions.active_workers,
                    "apiSessions": sessions.api_sessions,
                    "websocketConnections": sessions.websocket_connections,
                },
                "directions": {
                    "primaryRegion": directions.primary_region,
                    "trafficMode": directions.traffic_mode,
                    "requestFlow": {
                        "totalRoutes": flow.total_routes,
                        "activeRoutes": flow.active_routes,
                        "avgLatency": round(flow.avg_latency, _DECIMALS),
                        "requestsPerSecond": round(flow.requests_per_second, _DECIMALS),
                    },
                    "activeRoutes": flow.active_routes,
                },
                "others": {
                    "memory": others.memory,
                    "cpu": others.cpu,
                    "errorRate": round(others.error_rate, _DECIMALS),
                    "uptime": round(others.uptime, 3),
                },
            },
            "meta": {
                "totalEndpoints": self.meta.total_endpoints,
                "telemetryStatus": self.meta.telemetry_status,
                "statusVersion": self.meta.status_version,
                "unavailable": list(self.meta.unavailable),
            },
        }
