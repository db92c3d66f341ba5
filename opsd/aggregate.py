"""What all sources say, in one vector: a pure function of their readings and of opsd's own counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from opsd.vector import Directions, Meta, Others, RequestFlow, Sessions, Vector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opsd.sources.interface import Reading
    from opsd.vector import Mode, Telemetry
    from opsd.windows import Span


@attrs.frozen
class Heard:
    """One source at this moment."""

    name: str
    outside: bool
    reading: Reading
    known_routes: int
    """Of the last table that it showed, which it may no longer be there to show."""
    complete: bool = True
    """Whether it has workers and all of them are ready; nothing where it has no status."""


@attrs.frozen
class Own:
    """What opsd adds of itself."""

    region: str
    routes: int
    in_flight: int = 0
    tmux_sessions: int = 0


def vector_and_meta(
    heard: Sequence[Heard], own: Own, minute: Span, error_rate: float, mode: Mode
) -> tuple[Vector, Meta]:
    """The figures. Those of a source without a status are 0, and its name is among the unavailable."""
    here = [source.reading.status for source in heard if source.reading.status is not None]
    daemons = [source.reading.status for source in heard if not source.outside and source.reading.status is not None]
    workers = [worker for status in daemons for worker in status.workers]
    total_routes = own.routes + sum(source.known_routes for source in heard)
    vector = Vector(
        Sessions(
            tmux=own.tmux_sessions,
            active_workers=sum(status.connected for status in here),
            api_sessions=own.in_flight + sum(worker.answers.in_flight for worker in workers),
            websocket_connections=sum(worker.connections for worker in workers),
        ),
        Directions(
            primary_region=own.region,
            traffic_mode=mode,
            request_flow=RequestFlow(
                total_routes=total_routes,
                active_routes=own.routes + sum(len(status.routes) for status in daemons),
                avg_latency=minute.added.latency * 1000,
                requests_per_second=minute.requests_per_second,
            ),
        ),
        Others(
            memory=sum(worker.rss for worker in workers),
            cpu=round(sum(worker.cpu for worker in workers) * 1000),
            error_rate=error_rate,
            uptime=max((status.uptime for status in daemons), default=0.0),
        ),
    )
    meta = Meta(
        total_endpoints=total_routes,
        telemetry_status=telemetry(heard),
        unavailable=tuple(source.name for source in heard if source.reading.status is None),
    )
    return vector, meta


def telemetry(heard: Sequence[Heard]) -> Telemetry:
    """Healthy where every source answers and each of their workers is ready; offline where nobody answers."""
    if not any(source.reading.answers for source in heard):
        return "offline"
    well = all(source.reading.status is not None and source.complete for source in heard)
    return "healthy" if well else "degraded"
