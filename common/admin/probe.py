"""Reads one serving process for its operator.

A `Probe` lives as long as the service that it looks at and costs nothing until it is asked. `Sampler` tells whether
anything has changed since it last looked: a comparison of a few counters, nothing per client.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import trio

from common.admin import process_stats
from common.admin.snapshot import take_snapshot
from common.config import Settings
from common.disconnect import FAULTS
from common.telemetry.values import AnswerFigures, Delivery, WorkerStatus

if TYPE_CHECKING:
    from common.daemon import DaemonService

INTERVAL: Final = 0.025
"""Seconds between two looks of a sampler."""

SLOWLY: Final = 40
"""Looks of a sampler for one at what has to be added up over all clients."""

S = TypeVar("S", bound=Settings)


class Probe(Generic[S]):
    """Reads `service`, which is the worker `worker_id` of `daemon`."""

    def __init__(self, service: DaemonService[S], daemon: str, worker_id: str) -> None:
        self._service = service
        self._daemon = daemon
        self._worker_id = worker_id
        self._started = trio.current_time()
        self._start = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        self._taking = trio.Lock()

    @property
    def draining(self) -> bool:
        """Whether the process is on its way out."""
        return self._service.server.draining

    def status(self, backlog: int | None = None) -> WorkerStatus:
        """What it says of itself now; `backlog` spares a look at every client."""
        service = self._service
        counters, link = service.counters, service.hub.link
        answers, delivery = counters.answers, counters.delivery
        return WorkerStatus(
            id=self._worker_id,
            pid=os.getpid(),
            daemon=self._daemon,
            start=self._start,
            uptime=round(trio.current_time() - self._started, 3),
            rss=process_stats.resident_bytes(),
            cpu=round(time.process_time(), 3),
            connections=len(service.server.peers),
            topics=service.hub.active,
            backlog=self.backlog() if backlog is None else backlog,
            redis=link.describe().state,
            ready=link.online and not self.draining,
            messages=counters.messages_sent,
            errors=answers.server_errors + sum(counters.disconnects[reason] for reason in FAULTS),
            answers=AnswerFigures(
                total=answers.total,
                server_errors=answers.server_errors,
                seconds=round(answers.seconds, 6),
                in_flight=answers.in_flight,
            ),
            disconnects=dict(counters.disconnects),
            delivery=Delivery()
            if delivery is None
            else Delivery(count=sum(delivery.counts), seconds=round(delivery.total, 6)),
        )

    def backlog(self) -> int:
        """Bytes queued for slow clients."""
        return sum(peer.wire.backlog_bytes for peer in self._service.server.peers)

    def clients(self, channel: bytes) -> int:
        """Clients that follow a Redis channel."""
        return self._service.hub.clients(channel)

    def mark(self) -> tuple[object, ...]:
        """Differs when the status does, but for time, memory, CPU and backlog."""
        service = self._service
        counters, link = service.counters, service.hub.link
        return (
            len(service.server.peers),
            service.hub.active,
            link.describe().state,
            link.online,
            self.draining,
            counters.connections,
            counters.messages_sent,
            counters.answers.total,
            counters.answers.in_flight,
        )

    async def snapshot(self) -> bytes:
        """The gzipped snapshot of this process; one is taken at a time. The caller sets the deadline."""
        async with self._taking:
            return await take_snapshot(self._service, self.status())


class Sampler(Generic[S]):
    """Notices changes between one look and the next."""

    def __init__(self, probe: Probe[S]) -> None:
        self._probe = probe
        self._mark = probe.mark()
        self._backlog = probe.backlog()
        self._looks = 0

    def status(self) -> WorkerStatus:
        """What the process says of itself now, with the backlog of the last second."""
        return self._probe.status(self._backlog)

    def changed(self) -> bool:
        """Whether the status differs from the one at the look before. The backlog is looked at once a second."""
        mark = self._probe.mark()
        changed = mark != self._mark
        self._mark = mark
        self._looks += 1
        if self._looks % SLOWLY == 0:
            backlog = self._probe.backlog()
            changed = changed or backlog != self._backlog
            self._backlog = backlog
        return changed
