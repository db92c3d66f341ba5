"""The parent of several workers: starts them, replaces one that died or hangs, ends them all.

`Supervisor.run` owns the processes: none outlives it. It serves no client itself. A worker that fails before all have
been ready once ends the daemon with the same code: what keeps one from starting (Redis, the configuration) keeps all.
Later a worker that dies is replaced after a jittered delay, and nobody else notices: for `REPLACING` the daemon is as
ready as those that serve. One that lives and is not ready does count.
"""

from __future__ import annotations

import itertools
import math
import random
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import trio

from common.backoff import Backoff
from common.exposition import Report, from_json, last_words, merge, to_json, totals
from common.workers.channel import Channel, ChannelError
from common.workers.charge import LAP, SILENT, Charge
from common.workers.member import AT_ONCE, DRAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from common.logs import Logger
    from common.workers.spawn import Spawn

RESTART: Final = Backoff(1.0, 30.0)
"""Delays between the death of a worker and its successor."""

LIVED: Final = 60.0
"""Seconds after which a worker's death is not held against its successor."""

REPORT_TIMEOUT: Final = 1.0
"""Seconds that a worker has to send its figures; one that has none is left out, but for what it sent before."""

DRAIN_MARGIN: Final = 5.0
"""Seconds beyond DRAIN_DELAY and DRAIN_TIMEOUT after which a worker that has not ended is killed."""

REPLACING: Final = 10.0
"""Seconds from a worker's end in which its successor is not missed while another one serves: a proxy that heard of it
from `/health` would take the others out too."""

KILL_TIMEOUT: Final = 2.0
"""Seconds that a worker has to end when it is told to end at once, before it is killed."""

FAILED: Final = 1


class WorkerObserver(Protocol):
    """Whoever wants to know of the workers besides. Its methods return at once and raise nothing but what they say."""

    def joined(self, number: int, channel: Channel, nursery: trio.Nursery) -> None:
        """A worker was started; `nursery` lives as long as its process."""

    def heard(self, number: int, message: Mapping[str, object]) -> None:
        """A worker has said something. Raises ValueError for nonsense: it is killed and replaced."""

    def left(self, number: int) -> None:
        """A worker has ended."""

    def end_began(self) -> None:
        """The workers are about to be told to drain."""


class Supervisor:
    """Runs `count` workers, which `spawn` starts.

    `patience` is how many seconds a worker may take to drain, its delay included; `observer` is told of every worker;
    `rng` is the generator of the jitter. `own_report` makes this process's part of the figures of how many workers took
    the place of another.
    """

    def __init__(
        self,
        spawn: Spawn,
        count: int,
        patience: float,
        log: Logger,
        *,
        observer: WorkerObserver | None = None,
        rng: random.Random | None = None,
        own_report: Callable[[int], Report] = lambda _restarts: (),
    ) -> None:
        self._spawn = spawn
        self._count = count
        self._patience = patience
        self._log = log
        self._observer = observer
        self._rng = rng or random.SystemRandom()
        self._own_report = own_report
        self._restarts = 0
        self._workers: dict[int, Charge] = {}
        self._vacant: dict[int, float] = {}
        """Since when there has been nobody ready at a place whose worker has ended."""
        self._retired: Report = ()
        self._numbers = itertools.count()
        self._started = False
        self._changed = trio.Event()
        self._stop = trio.Event()
        self._code = 0
        self.ready = trio.Event()
        """Set when all workers have been ready once."""

    async def run(self, stop: trio.Event) -> int:
        """Keep the workers running until `stop` is set, then drain them; return the exit code.

        Cancelling it ends every worker at once.
        """
        if stop.is_set():
            self._stop.set()
        async with trio.open_nursery() as telling:
            telling.start_soon(self._tell_ready)
            async with trio.open_nursery() as keeping:
                for number in range(1, self._count + 1):
                    keeping.start_soon(self._keep, number)
                await self._wait_stop(stop)
                self._log.info("draining", workers=len(self._workers))
                if self._observer is not None:
                    self._observer.end_began()
                keeping.cancel_scope.deadline = trio.current_time() + self._patience + DRAIN_MARGIN
            if keeping.cancel_scope.cancelled_caught:
                self._log.error("workers did not drain in time")
                self._code = FAILED
            telling.cancel_scope.cancel()
        self._log.info("stopped", code=self._code)
        return self._code

    async def report(self) -> Report:
        """The figures of all workers as one; one that has none to send in time is told of as it was before."""
        return merge(await self._gather())

    async def _wait_stop(self, stop: trio.Event) -> None:
        """Wait for `stop`, or for a worker that could not start."""

        async def forward() -> None:
            await stop.wait()
            self._stop.set()

        async with trio.open_nursery() as waiting:
            waiting.start_soon(forward)
            await self._stop.wait()
            waiting.cancel_scope.cancel()

    # -- one worker's life --------------------------------------------------------------------------------------------

    async def _keep(self, number: int) -> None:
        """Keep one worker running until the end."""
        failures = 0
        while not self._stop.is_set():
            born = trio.current_time()
            self._restarts += failures > 0
            named = {"worker": number}
            try:
                worker, code = await self._run_worker(number)
                named = worker.named()
            except OSError as error:
                self._log.error("worker not started", **named, error=str(error))
                code = FAILED
            if self._stop.is_set():
                # One that our SIGTERM met before it could heed it had nobody to drain.
                self._code = max(self._code, 0 if code in {0, -signal.SIGTERM} else FAILED)
                return
            if not self._started and code > 0:
                self._log.error("worker could not start", **named, code=code)
                self._code = code
                self._stop.set()
                return
            failures = 1 if trio.current_time() - born >= LIVED else failures + 1
            delay = RESTART.after_failure(failures, self._rng)
            # One that was signalled by itself and has drained did what it was told.
            say = self._log.error if code else self._log.info
            say("worker died" if code else "worker ended", **named, code=code, backoff=round(delay, 3))
            with trio.move_on_after(delay):
                await self._stop.wait()

    async def _run_worker(self, number: int) -> tuple[Charge, int]:
        """One worker from its start to its end; return it and its exit code, negative for a signal. Raises OSError."""
        process, channel = await self._spawn(number)
        worker = self._workers[number] = Charge(number, process, channel)
        self._log.info("worker started", **worker.named())
        try:
            async with trio.open_nursery() as nursery:
                if self._observer is not None:
                    self._observer.joined(number, channel, nursery)
                nursery.start_soon(self._hear, worker, nursery)
                nursery.start_soon(self._watch_over, worker)
                nursery.start_soon(self._drain_when_stopped, worker)
                code = await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            del self._workers[number]
            if self._started:
                self._vacant.setdefault(number, trio.current_time())
            self._retired = merge([self._retired, totals(worker.figures)])
            if self._observer is not None:
                self._observer.left(number)
            await self._put_down(worker)
            await channel.aclose()
            self._note_change()
        return worker, code

    async def _hear(self, worker: Charge, nursery: trio.Nursery) -> None:
        """Hear one worker until its channel ends. One that talks nonsense is killed and replaced."""
        try:
            async for message in worker.channel.messages():
                if worker.heard():
                    self._log.info("worker answers again", **worker.named())
                    self._note_change()
                if "ready" in message:
                    worker.ready = message["ready"] is True
                    if worker.ready:
                        self._vacant.pop(worker.number, None)
                    self._note_change()
                if isinstance(number := message.get("ask"), int):
                    # In a task of its own: the asker's own figures come through this loop.
                    nursery.start_soon(self._answer, worker, number)
                if self._observer is not None:
                    self._observer.heard(worker.number, message)
                if isinstance(number := message.get("report"), int):
                    worker.figures = from_json(message.get("figures"))
                    if number in worker.reports:
                        worker.reports[number].set()
        except (ChannelError, ValueError) as error:
            self._log.error("worker's channel failed", **worker.named(), error=str(error))
            worker.process.kill()

    async def _watch_over(self, worker: Charge) -> None:
        """Ask the worker for a sign of life each lap; kill it when none has come for long."""
        while True:
            if worker.laps == 0:
                # One question at a time: a worker that takes none must not be in our way.
                with suppress(ChannelError):
                    await worker.channel.send({"beat": True})
            await trio.sleep(LAP)
            worker.end_lap()
            if worker.spoke and worker.laps == SILENT:
                self._log.warning("worker does not answer", **worker.named(), seconds=SILENT * LAP)
                self._note_change()
            if worker.hangs(draining=self._stop.is_set()):
                self._log.error("worker hangs, killing it", **worker.named(), seconds=worker.laps * LAP)
                worker.process.kill()
                return

    async def _drain_when_stopped(self, worker: Charge) -> None:
        """Pass the end on, also to a worker that was on its way when it came."""
        await self._stop.wait()
        with suppress(ChannelError):
            # One whose channel is broken is noticed as silent.
            await worker.channel.send({"end": DRAIN})
        # For one that does not hear its channel yet.
        worker.process.terminate()

    async def _put_down(self, worker: Charge) -> None:
        """Make sure that the worker's process has ended: told to end at once, if it listens, then killed."""
        process = worker.process
        if process.returncode is not None:
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 2 * KILL_TIMEOUT):
            if worker.spoke and not worker.silent:
                with trio.move_on_after(KILL_TIMEOUT), suppress(ChannelError):
                    await worker.channel.send({"end": AT_ONCE})
                    await process.wait()
                    return
            process.kill()
            await process.wait()

    # -- all of them --------------------------------------------------------------------------------------------------

    def _note_change(self) -> None:
        self._changed.set()

    async def _tell_ready(self) -> None:
        """Tell every worker whether the daemon is ready, after each change, and when a successor is overdue."""
        while True:
            self._changed = trio.Event()
            now = trio.current_time()
            serving = {number for number, worker in self._workers.items() if worker.serves}
            if len(serving) == self._count and not self._started:
                self._started = True
                self.ready.set()
                self._log.info("all workers ready", workers=self._count)
            due = {number: since + REPLACING for number, since in self._vacant.items() if now < since + REPLACING}
            awaited = self._count - len(serving | due.keys())
            await self._send_all({"all_ready": bool(serving) and not awaited})
            with trio.move_on_at(min(due.values(), default=math.inf)):
                await self._changed.wait()

    async def _answer(self, asker: Charge, question: int) -> None:
        """Gather everybody's figures for one worker."""
        figures = [to_json(report) for report in await self._gather()]
        with suppress(ChannelError):
            # An asker that is gone needs no answer; its end is noticed where its process is waited for.
            await asker.channel.send({"answer": question, "figures": figures})

    async def _gather(self) -> list[Report]:
        """Everybody's figures, and those that dead workers left; of a silent worker the last that it sent."""
        number = next(self._numbers)
        workers = [worker for worker in self._workers.values() if not worker.silent]
        for worker in workers:
            worker.reports[number] = trio.Event()
        try:
            with trio.move_on_after(REPORT_TIMEOUT):
                await self._send_all({"report": number})
                for worker in workers:
                    await worker.reports[number].wait()
        finally:
            for worker in workers:
                del worker.reports[number]
        figures = [last_words(worker.figures) if worker.silent else worker.figures for worker in self._workers.values()]
        return [self._retired, *figures, self._own_report(self._restarts)]

    async def _send_all(self, message: Mapping[str, object]) -> None:
        """Send `message` to every worker; one that takes nothing holds up no other."""

        async def send(worker: Charge) -> None:
            with suppress(ChannelError):
                await worker.channel.send(message)

        async with trio.open_nursery() as nursery:
            for worker in self._workers.values():
                nursery.start_soon(send, worker)
