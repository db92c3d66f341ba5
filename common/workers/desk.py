"""What the parent knows of its workers by asking them, and what those that are gone have left.

The supervisor says who comes and goes. Nothing is asked of the workers here until somebody asks for it, and one that
does not answer is told of as it was before; of one that is gone, what it counted stays in the sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from common.exposition import Report, last_words, merge, to_json, totals
from common.telemetry.values import Retired
from common.workers.channel import NoAnswerError
from common.workers.lines import GoneError
from common.workers.questions import FIGURES, change_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from common.workers.worker_handle import WorkerHandle

REPORT_TIMEOUT: Final = 1.0
"""Seconds that a worker has to send its figures."""

RETRY: Final = 1.0
"""Seconds after which a worker that could not say what has changed is asked again."""


class Desk:
    """See the module. `own_report` makes the parent's part of the figures of how many workers replaced another."""

    def __init__(self, own_report: Callable[[int], Report] = lambda _restarts: ()) -> None:
        self._own_report = own_report
        self.handles: dict[int, WorkerHandle] = {}
        """The workers whose processes live, by number."""
        self.restarts = 0
        """Workers that took the place of another."""
        self.draining = False
        """Whether the daemon is on its way out."""
        self.retired = Retired()
        self._retired_figures: Report = ()
        self._watching = False
        self._watched = trio.Event()
        self._changed = trio.Event()

    def join(self, handle: WorkerHandle) -> None:
        """A worker was started."""
        self.handles[handle.number] = handle

    def leave(self, handle: WorkerHandle) -> None:
        """It has ended."""
        del self.handles[handle.number]
        self._retired_figures = merge([self._retired_figures, totals(handle.figures)])
        if handle.status is not None:
            self.retired = self.retired.plus(handle.status)
        self._changed.set()

    def drain(self) -> None:
        """All are about to be told to."""
        self.draining = True
        self._changed.set()

    async def ask_all(self, ask: Callable[[WorkerHandle], Awaitable[None]]) -> set[int]:
        """Ask every worker at the same time; return the numbers of those that live and did not answer."""
        silent: set[int] = set()

        async def ask_one(handle: WorkerHandle) -> None:
            try:
                await ask(handle)
            except NoAnswerError:
                silent.add(handle.number)
            except GoneError:
                # Its end is noticed where its process is waited for.
                return

        async with trio.open_nursery() as nursery:
            for handle in self.handles.values():
                nursery.start_soon(ask_one, handle)
        return silent

    # -- for a scrape -------------------------------------------------------------------------------------------------

    async def report(self) -> Report:
        """The figures of all processes as one."""

        async def ask(handle: WorkerHandle) -> None:
            if not handle.silent:
                handle.figures = await handle.channel.ask(FIGURES, within=REPORT_TIMEOUT)

        await self.ask_all(ask)
        figures = [last_words(handle.figures) if handle.silent else handle.figures for handle in self.handles.values()]
        return merge([self._retired_figures, *figures, self._own_report(self.restarts)])

    async def answer_figures(self, _of: object) -> object:
        """The same, for a worker that is scraped."""
        return to_json(await self.report())

    # -- for whoever looks on -----------------------------------------------------------------------------------------

    async def follow(self, handle: WorkerHandle) -> None:
        """Keep a worker's status new while somebody watches; return when it is gone. Owned by its nursery."""
        while True:
            while not self._watching:
                await self._watched.wait()
            with trio.CancelScope() as handle.following:
                try:
                    await self._follow(handle)
                except GoneError:
                    return
                except NoAnswerError:
                    await trio.sleep(RETRY)

    def watch(self, watching: bool) -> None:
        """Begin to keep every status new, or no longer."""
        self._watching = watching
        if watching:
            self._changed = trio.Event()
            self._watched.set()
            return
        self._watched = trio.Event()
        for handle in self.handles.values():
            handle.following.cancel()

    async def wait_changed(self) -> None:
        """Wait until something has changed since this returned last, or since it was watched."""
        await self._changed.wait()
        self._changed = trio.Event()

    async def _follow(self, handle: WorkerHandle) -> None:
        known: int | None = None
        while True:
            version, status = await handle.channel.ask(change_of(handle.number), known)
            known, handle.status = version, status
            self._changed.set()
