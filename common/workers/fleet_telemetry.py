"""The daemon of several workers, as `common.admin` sees it. Thin: the desk knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from common.admin.telemetry_source import SNAPSHOT_TIMEOUT, SilentWorkerError, UnknownWorkerError
from common.telemetry.values import Audience, DaemonStatus
from common.workers.lines import ChannelError
from common.workers.questions import CLIENTS, SNAPSHOT, status_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from common.admin.telemetry_source import About
    from common.workers.desk import Desk
    from common.workers.worker_handle import WorkerHandle

STATUS_TIMEOUT: Final = 1.0
"""Seconds that a worker has to say how it is, or how many clients a channel has there; of one that does not say how it
is, what it said before is told, as not ready."""


class Workers:
    """All workers behind one desk (`TelemetrySource`). A worker's id is its number."""

    def __init__(self, about: About, desk: Desk) -> None:
        self.about = about
        """See `TelemetrySource`."""
        self._desk = desk

    async def status(self) -> DaemonStatus:
        """See `TelemetrySource`."""

        async def ask(handle: WorkerHandle) -> None:
            handle.status = await handle.channel.ask(status_of(handle.number), within=STATUS_TIMEOUT)

        return self._status(await self._desk.ask_all(ask))

    def newest(self) -> DaemonStatus:
        """See `TelemetrySource`."""
        return self._status(())

    def start_watching(self) -> None:
        """See `TelemetrySource`."""
        self._desk.watch(True)

    def stop_watching(self) -> None:
        """See `TelemetrySource`."""
        self._desk.watch(False)

    async def wait_changed(self) -> None:
        """See `TelemetrySource`."""
        await self._desk.wait_changed()

    async def snapshot(self, worker_id: str) -> bytes:
        """See `TelemetrySource`."""
        for handle in self._desk.handles.values():
            if str(handle.number) == worker_id:
                try:
                    return await handle.channel.ask(SNAPSHOT, within=SNAPSHOT_TIMEOUT)
                except ChannelError as error:
                    raise SilentWorkerError from error
        raise UnknownWorkerError

    async def audience(self, channel: bytes) -> Audience:
        """See `TelemetrySource`."""
        counts: dict[int, int] = {}

        async def ask(handle: WorkerHandle) -> None:
            counts[handle.number] = await handle.channel.ask(CLIENTS, channel.decode(), within=STATUS_TIMEOUT)

        silent = await self._desk.ask_all(ask)
        return Audience(sum(counts.values()), tuple(str(number) for number in sorted(silent)))

    def _status(self, silent: Collection[int]) -> DaemonStatus:
        workers = [
            attrs.evolve(handle.status, ready=False) if number in silent or handle.silent else handle.status
            for number, handle in sorted(self._desk.handles.items())
            if handle.status is not None
        ]
        return DaemonStatus(
            daemon=self.about.daemon,
            routes=self.about.routes,
            draining=self._desk.draining,
            retired=self._desk.retired,
            workers=tuple(workers),
        )
