"""The parent of several workers: starts them, replaces one that died or hangs, ends them all.

`Supervisor.run` owns the processes: none outlives it. It serves no client itself. A worker that fails before all have
been ready once ends the daemon with the same code: what keeps one from starting (Redis, the configuration) keeps all.
Later a worker that dies is replaced after a jittered delay, and nobody else notices: for `REPLACING` the daemon is as
ready as those that serve. One that lives and is not ready does count.
"""

from __future__ import annotations

import math
import random
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from common.backoff import Backoff
from common.exits import Exit
from common.workers.lines import ChannelError
from common.workers.questions import AT_ONCE, BEAT, DRAIN, FIGURES, READY, SERVING, Standing
from common.workers.worker_handle import LAP, SILENT, WorkerHandle

if TYPE_CHECKING:
    from common.logs import Logger
    from common.workers.desk import Desk
    from common.workers.spawn import Spawn

RESTART: Final = Backoff(1.0, 30.0)
"""Delays between the death of a worker and its successor."""

LIVED: Final = 60.0
"""Seconds after which a worker's death is not held against its successor."""

DRAIN_MARGIN: Final = 5.0
"""Seconds beyond DRAIN_DELAY and DRAIN_TIMEOUT after which a worker that has not ended is killed."""

REPLACING: Final = 10.0
"""Seconds from a worker's end in which its successor is not missed while another one serves: a proxy that heard of it
from `/health` would take the others out too."""

KILL_TIMEOUT: Final = 2.0
"""Seconds that a worker has to end when it is told to end at once, before it is killed."""


class Supervisor:
    """Runs `count` workers, which `spawn` starts.

    `patience` is how many seconds a worker may take to drain, its delay included; `desk` is told who comes and goes;
    `rng` is the generator of the jitter.
    """

    def __init__(
        self,
        spawn: Spawn,
        count: int,
        patience: float,
        log: Logger,
        desk: Desk,
        *,
        rng: random.Random | None = None,
    ) -> None:
        self._spawn = spawn
        self._count = count
        self._patience = patience
        self._log = log
        self._desk = desk
        self._rng = rng or random.SystemRandom()
        self._workers = desk.handles
        self._vacant: dict[int, float] = {}
        """Since when there has been nobody ready at a place whose worker has ended."""
        self._serving = Standing()
        """Whether the daemon as a whole takes clients."""
        self._started = False
        self._changed = trio.Event()
        self._stop = trio.Event()
        self._code: int = Exit.OK
        self.ready = trio.Event()
        """Set when all workers have been ready once."""

    async def run(self, stop: trio.Event) -> int:
        """Keep the workers running until `stop` is set, then drain them; return the exit code.

        Cancelling it ends every worker at once.
        """
        if stop.is_set():
            self._stop.set()
        async with trio.open_nursery() as telling:
            telling.start_soon(self._keep_serving_known)
            async with trio.open_nursery() as keeping:
                for number in range(1, self._count + 1):
                    keeping.start_soon(self._keep, number)
                await self._wait_stop(stop)
                self._log.info("draining", workers=len(self._workers))
                self._desk.drain()
                keeping.cancel_scope.deadline = trio.current_time() + self._patience + DRAIN_MARGIN
            if keeping.cancel_scope.cancelled_caught:
                self._log.error("workers did not drain in time")
                self._code = Exit.FAILED
            telling.cancel_scope.cancel()
        self._log.info("stopped", code=self._code)
        return self._code

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
            self._desk.restarts += failures > 0
            named = {"worker": number}
            try:
                worker, code = await self._run_worker(number)
                named = worker.named()
            except OSError as error:
                self._log.error("worker not started", **named, error=str(error))
                code = Exit.FAILED
            if self._stop.is_set():
                # One that our SIGTERM met before it could heed it had nobody to drain.
                self._code = max(self._code, 0 if code in {0, -signal.SIGTERM} else Exit.FAILED)
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

    async def _run_worker(self, number: int) -> tuple[WorkerHandle, int]:
        """One worker from its start to its end; return it and its exit code, negative for a signal. Raises OSError."""
        process, channel = await self._spawn(number)
        worker = WorkerHandle(number, process, channel)
        self._desk.join(worker)
        self._log.info("worker started", **worker.named())
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, worker)
                nursery.start_soon(self._follow_readiness, worker)
                nursery.start_soon(self._desk.follow, worker)
                nursery.start_soon(self._watch_over, worker)
                nursery.start_soon(self._drain_when_stopped, worker)
                code = await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._desk.leave(worker)
            if self._started:
                self._vacant.setdefault(number, trio.current_time())
            await self._put_down(worker)
            await channel.aclose()
            self._note_change()
        return worker, code

    async def _hear(self, worker: WorkerHandle) -> None:
        """Hear one worker until its channel ends. One that talks nonsense is killed and replaced."""
        try:
            await worker.channel.run({SERVING.name: self._serving.unlike, FIGURES.name: self._desk.answer_figures})
        except ChannelError as error:
            self._log.error("worker's channel failed", **worker.named(), error=str(error))
            worker.process.kill()

    async def _follow_readiness(self, worker: WorkerHandle) -> None:
        known: bool | None = None
        with suppress(ChannelError):
            while True:
                known = worker.ready = await worker.channel.ask(READY, known)
                if worker.ready:
                    self._vacant.pop(worker.number, None)
                self._note_change()

    async def _watch_over(self, worker: WorkerHandle) -> None:
        """Ask the worker for a sign of life each lap; kill it when none has come for long."""
        async with trio.open_nursery() as asking:
            while True:
                if worker.laps == 0:
                    # One question at a time: a worker that takes none must not be in our way.
                    asking.start_soon(self._ask_for_life, worker)
                await trio.sleep(LAP)
                worker.end_lap()
                if worker.spoke and worker.laps == SILENT:
                    self._log.warning("worker does not answer", **worker.named(), seconds=SILENT * LAP)
                    self._note_change()
                if worker.hangs(draining=self._stop.is_set()):
                    self._log.error("worker hangs, killing it", **worker.named(), seconds=worker.laps * LAP)
                    worker.process.kill()
                    break
            asking.cancel_scope.cancel()

    async def _ask_for_life(self, worker: WorkerHandle) -> None:
        with suppress(ChannelError):
            await worker.channel.ask(BEAT)
            if worker.heard():
                self._log.info("worker answers again", **worker.named())
                self._note_change()

    async def _drain_when_stopped(self, worker: WorkerHandle) -> None:
        """Pass the end on, also to a worker that was on its way when it came."""
        await self._stop.wait()
        with suppress(ChannelError):
            # One whose channel is broken is noticed as silent.
            await worker.channel.order(DRAIN)
        # For one that does not hear its channel yet.
        worker.process.terminate()

    async def _put_down(self, worker: WorkerHandle) -> None:
        """Make sure that the worker's process has ended: told to end at once, if it listens, then killed."""
        process = worker.process
        if process.returncode is not None:
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 2 * KILL_TIMEOUT):
            if worker.spoke and not worker.silent:
                with trio.move_on_after(KILL_TIMEOUT), suppress(ChannelError):
                    await worker.channel.order(AT_ONCE)
                    await process.wait()
                    return
            process.kill()
            await process.wait()

    # -- all of them --------------------------------------------------------------------------------------------------

    def _note_change(self) -> None:
        self._changed.set()

    async def _keep_serving_known(self) -> None:
        """Judge whether the daemon is ready, after each change, and when a successor is overdue."""
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
            self._serving.set(bool(serving) and not awaited)
            with trio.move_on_at(min(due.values(), default=math.inf)):
                await self._changed.wait()
