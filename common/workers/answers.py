"""What a worker answers its parent. It costs nothing until it is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from common.admin.probe import INTERVAL, Probe, Sampler
from common.config import Settings
from common.exposition import to_json
from common.workers.questions import BEAT, CHANGE, CLIENTS, FIGURES, READY, SNAPSHOT, STATUS, Standing

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.exposition import Report
    from common.workers.channel import Answers

S = TypeVar("S", bound=Settings)


class WorkerAnswers(Generic[S]):
    """`report` reads this process for a scrape, `probe` for the operator; `ready` is whether it takes clients."""

    def __init__(self, report: Callable[[], Report], probe: Probe[S], ready: Standing) -> None:
        self._report = report
        self._probe = probe
        self._ready = ready
        self._sampler: Sampler[S] | None = None
        self._version = 0

    def by_name(self) -> Answers:
        """For `WorkerChannel.run`."""
        return {
            BEAT.name: self._beat,
            READY.name: self._ready.unlike,
            FIGURES.name: self._figures,
            STATUS: self._status,
            CHANGE: self._change,
            SNAPSHOT.name: self._snapshot,
            CLIENTS.name: self._clients,
        }

    async def _beat(self, _of: object) -> None:
        """The loop turns."""

    async def _figures(self, _of: object) -> object:
        return to_json(self._report())

    async def _status(self, _of: object) -> object:
        return self._probe.status().document()

    async def _change(self, known: object) -> object:
        if self._sampler is None or known is None:
            # Whoever begins to watch is told how things are now.
            self._sampler = Sampler(self._probe)
            self._version += 1
        while known == self._version:
            await trio.sleep(INTERVAL)
            self._version += self._sampler.changed()
        return [self._version, self._sampler.status().document()]

    async def _snapshot(self, _of: object) -> bytes:
        return await self._probe.snapshot()

    async def _clients(self, channel: object) -> object:
        return self._probe.clients(str(channel).encode())
