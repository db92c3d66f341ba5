"""What `/workers/status` and `/topics` say, as values. Pure.

A worker is one serving process. What it has counted outlives it in `Retired`, so that no sum ever goes down.
"""

# ruff: noqa: RUF009 - each call makes an attribute's description for attrs; no instance shares a mutable default

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs

from common.telemetry import fields
from common.telemetry.fields import Figures

if TYPE_CHECKING:
    from collections.abc import Mapping


@attrs.frozen(kw_only=True)
class AnswerFigures(Figures):
    """Answers to users' handshakes; `seconds` add up the time from each one's head to its answer."""

    total: int = fields.count()
    server_errors: int = fields.count()
    """Those with a status of 500 or more."""
    seconds: float = fields.seconds()
    in_flight: int = fields.level()


@attrs.frozen(kw_only=True)
class Delivery(Figures):
    """Batches of messages from Redis; `seconds` add up the time from their bytes read to the last client written."""

    count: int = fields.count()
    seconds: float = fields.seconds()


@attrs.frozen(kw_only=True)
class Counted(Figures):
    """What a serving process has counted so far, which must outlive it."""

    messages: int = fields.count()
    """Payload frames sent so far."""
    errors: int = fields.count()
    """Handshakes answered with a 5xx status and conversations that the daemon's own trouble ended, so far."""
    answers: AnswerFigures = fields.figures(AnswerFigures)
    disconnects: Mapping[str, int] = fields.counts()
    """Conversations ended so far, by reason."""
    delivery: Delivery = fields.figures(Delivery)


@attrs.frozen(kw_only=True)
class WorkerStatus(Counted):
    """One serving process. `uptime` and `cpu` are seconds, `rss` and `backlog` bytes; `start` is RFC 3339, UTC."""

    id: str = fields.text()
    pid: int = fields.level()
    daemon: str = fields.text()
    start: str = fields.text()
    uptime: float = fields.number()
    rss: int = fields.level()
    cpu: float = fields.number()
    """User and system time."""
    connections: int = fields.level()
    topics: int = fields.level()
    backlog: int = fields.level()
    redis: str = fields.text()
    """The state of the link (`LinkState.state`)."""
    ready: bool = fields.flag()
    """Whether this process by itself would take clients."""


@attrs.frozen(kw_only=True)
class Retired(Counted):
    """What workers that are gone have counted; `plus` adds one, and what it had in flight is lost with it."""


@attrs.frozen(kw_only=True)
class DaemonStatus:
    """All serving processes of a daemon."""

    daemon: str = ""
    routes: tuple[str, ...] = ()
    """The paths that it serves to everybody."""
    draining: bool = False
    retired: Retired = Retired()
    workers: tuple[WorkerStatus, ...] = ()
    connected: int = attrs.field()
    """How many workers there are; an API from outside need not list them."""

    @connected.default
    def _all_listed(self) -> int:
        return len(self.workers)

    def render(self) -> bytes:
        """The body of `/workers/status`, in one line."""
        document = {
            "connected": self.connected,
            "daemon": self.daemon,
            "routes": self.routes,
            "draining": self.draining,
            "retired": self.retired.document(),
            "workers": {worker.id: worker.document() for worker in self.workers},
        }
        return json.dumps(document, separators=(",", ":")).encode()

    def members(self) -> frozenset[tuple[int, str]]:
        """Its processes; none of another start has the same."""
        return frozenset((worker.pid, worker.start) for worker in self.workers)

    @property
    def uptime(self) -> float:
        """Seconds that its oldest process has run."""
        return max((worker.uptime for worker in self.workers), default=0.0)


@attrs.frozen
class Audience:
    """Who follows a channel."""

    clients: int
    silent: tuple[str, ...] = ()
    """The ids of workers that did not answer in time: their clients are not in the number."""

    def render(self, name: str) -> bytes:
        """The body of `/topics`, where the channel is called `name`."""
        document = {"name": name, "clients": self.clients, "silent": self.silent}
        return json.dumps(document, separators=(",", ":")).encode()
