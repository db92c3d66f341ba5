"""What the operator's listener wants to know of the daemon, and how a process that serves by itself answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import attrs
import trio

from common.admin.probe import INTERVAL, Probe, Sampler
from common.config import Settings
from common.telemetry.values import Audience, DaemonStatus
from common.web.handshake import Page

if TYPE_CHECKING:
    from common.daemon import Daemon
    from common.telemetry.values import WorkerStatus

SNAPSHOT_TIMEOUT: Final = 5.0
"""Seconds that a worker has for its snapshot."""

ALONE: Final = "1"
"""The id of the only worker."""

S = TypeVar("S", bound=Settings)


@attrs.frozen
class About:
    """What never changes: the daemon's name, the paths that it serves to everybody, its metrics' prefix."""

    daemon: str
    routes: tuple[str, ...]
    metrics_prefix: str


class UnknownWorkerError(Exception):
    """There is no worker of that id."""


class SilentWorkerError(Exception):
    """The worker did not answer in time, or died over it."""


class TelemetrySource(Protocol):
    """The daemon, seen by its operator's listener.

    Between `start_watching` and `stop_watching` changes are noticed; they are not nested.
    """

    @property
    def about(self) -> About:
        """What never changes."""

    async def status(self) -> DaemonStatus:
        """All workers, asked now, a second later at most."""

    def newest(self) -> DaemonStatus:
        """All workers, as far as they are known here at this moment; a backlog may be a second old."""

    def start_watching(self) -> None:
        """Begin to notice changes."""

    def stop_watching(self) -> None:
        """Notice no more."""

    async def wait_changed(self) -> None:
        """Wait until something has changed since this returned last, or since `start_watching`."""

    async def snapshot(self, worker_id: str) -> bytes:
        """One worker's gzipped snapshot. Raises `UnknownWorkerError` and `SilentWorkerError`."""

    async def audience(self, channel: bytes) -> Audience:
        """The clients that follow a Redis channel, of all workers, asked now, within a second."""


class Local(Generic[S]):
    """A daemon of one process (`TelemetrySource`)."""

    def __init__(self, about: About, probe: Probe[S]) -> None:
        self._about = about
        self._probe = probe
        self._sampler: Sampler[S] | None = None

    @property
    def about(self) -> About:
        """See `TelemetrySource`."""
        return self._about

    async def status(self) -> DaemonStatus:
        """See `TelemetrySource`."""
        return self._status(self._probe.status())

    def newest(self) -> DaemonStatus:
        """See `TelemetrySource`."""
        return self._status(self._probe.status() if self._sampler is None else self._sampler.status())

    def start_watching(self) -> None:
        """See `TelemetrySource`."""
        self._sampler = Sampler(self._probe)

    def stop_watching(self) -> None:
        """See `TelemetrySource`."""
        self._sampler = None

    async def wait_changed(self) -> None:
        """See `TelemetrySource`."""
        while True:
            if self._sampler is not None and self._sampler.changed():
                return
            await trio.sleep(INTERVAL)

    async def snapshot(self, worker_id: str) -> bytes:
        """See `TelemetrySource`."""
        if worker_id != ALONE:
            raise UnknownWorkerError
        with trio.move_on_after(SNAPSHOT_TIMEOUT):
            return await self._probe.snapshot()
        raise SilentWorkerError

    async def audience(self, channel: bytes) -> Audience:
        """See `TelemetrySource`."""
        return Audience(self._probe.clients(channel))

    def _status(self, worker: WorkerStatus) -> DaemonStatus:
        about = self._about
        return DaemonStatus(daemon=about.daemon, routes=about.routes, draining=self._probe.draining, workers=(worker,))


def about(daemon: Daemon[S], settings: S) -> About:
    """What never changes of `daemon`."""
    pages = [page for page in Page if page is not Page.METRICS or settings.metrics_enabled]
    return About(daemon.name, (daemon.path, *(page.value for page in pages)), daemon.metrics_prefix)
