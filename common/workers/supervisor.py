"""The parent of several workers: starts them, restarts one that died, ends them all.

`Supervisor.run` owns the processes: none outlives it. It serves no client itself. A worker that fails before all have
been ready once ends the daemon with the same code: what keeps one from starting (Redis, the configuration) keeps all.
Later a worker that dies is replaced after a jittered delay, and nobody else notices.
"""

from __future__ import annotations

import itertools
import random
import signal
import socket
import subprocess
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final, Protocol

import attrs
import trio

from common.backoff import Backoff
from common.exposition import Report, from_json, merge, to_json, totals
from common.workers.channel import Channel, ChannelError
from common.workers.worker import worker_arguments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from common.logs import Logger

RESTART: Final = Backoff(1.0, 30.0)
"""Delays between the death of a worker and its successor."""

LIVED: Final = 60.0
"""Seconds after which a worker's death is not held against its successor."""

REPORT_TIMEOUT: Final = 1.0
"""Seconds that a worker has to send its figures; one that has none is left out, but for what it sent before."""

DRAIN_MARGIN: Final = 5.0
"""Seconds beyond DRAIN_TIMEOUT after which a worker that has not ended is killed."""

KILL_TIMEOUT: Final = 2.0
"""Seconds that a worker has to end when it is told to end at once, before it is killed."""

FAILED: Final = 1


@attrs.define(eq=False)
class _Worker:
    """One process and what it has said."""

    number: int
    process: trio.Process
    channel: Channel
    ready: bool = False
    figures: Report = ()
    """Its last report; what it counted stays in the sums when it is gone."""
    reports: dict[int, trio.Event] = attrs.field(factory=dict)


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
    """Runs `count` workers on `listeners`.

    `command` starts a worker when the arguments of `worker_arguments` are added; `environ` is its environment;
    `drain_timeout` is in seconds; `observer` is told of every worker.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        listeners: Sequence[socket.socket],
        count: int,
        drain_timeout: float,
        log: Logger,
        observer: WorkerObserver | None = None,
    ) -> None:
        self._command = command
        self._environ = environ
        self._listeners = listeners
        self._count = count
        self._drain_timeout = drain_timeout
        self._log = log
        self._observer = observer
        self._rng = random.SystemRandom()
        self._workers: dict[int, _Worker] = {}
        self._retired: Report = ()
        self._numbers = itertools.count()
        self._started = False
        self._stop = trio.Event()
        self._code = 0

    async def run(self, stop: trio.Event) -> int:
        """Keep the workers running until `stop` is set, then drain them; return the exit code.

        Cancelling it ends every worker at once.
        """
        async with trio.open_nursery() as nursery:
            for number in range(self._count):
                nursery.start_soon(self._keep, number)
            async with trio.open_nursery() as waiting:
                waiting.start_soon(self._forward, stop)
                await self._stop.wait()
                waiting.cancel_scope.cancel()
            self._log.info("draining", workers=len(self._workers))
            if self._observer is not None:
                self._observer.end_began()
            for worker in self._workers.values():
                worker.process.terminate()
            nursery.cancel_scope.deadline = trio.current_time() + self._drain_timeout + DRAIN_MARGIN
        if nursery.cancel_scope.cancelled_caught:
            self._log.error("workers did not drain in time")
            self._code = FAILED
        self._log.info("stopped", code=self._code)
        return self._code

    async def report(self) -> Report:
        """The figures of all workers as one; one that has none to send in time is told of as it was before."""
        return merge(await self._gather())

    async def _forward(self, stop: trio.Event) -> None:
        await stop.wait()
        self._stop.set()

    async def _keep(self, number: int) -> None:
        """Keep one worker running until the end."""
        failures = 0
        while not self._stop.is_set():
            born = trio.current_time()
            try:
                code = await self._run_worker(number)
            except OSError as error:
                self._log.error("worker not started", worker=number, error=str(error))
                code = FAILED
            if self._stop.is_set():
                # One that our SIGTERM met before it could heed it had nobody to drain.
                self._code = max(self._code, 0 if code in {0, -signal.SIGTERM} else FAILED)
                return
            if not self._started and code > 0:
                self._log.error("worker could not start", worker=number, code=code)
                self._code = code
                self._stop.set()
                return
            failures = 1 if trio.current_time() - born >= LIVED else failures + 1
            delay = RESTART.after_failure(failures, self._rng)
            self._log.error("worker died", worker=number, code=code, backoff=round(delay, 3))
            with trio.move_on_after(delay):
                await self._stop.wait()

    async def _run_worker(self, number: int) -> int:
        """One worker from its start to its end; return its exit code, negative for a signal."""
        ours, theirs = socket.socketpair()
        with ExitStack() as failed, theirs:
            failed.callback(ours.close)
            inherited = [listener.fileno() for listener in self._listeners]
            process = await trio.lowlevel.open_process(
                [*self._command, *worker_arguments(number, theirs.fileno(), inherited)],
                env=self._environ,
                pass_fds=(theirs.fileno(), *inherited),
                stdin=subprocess.DEVNULL,
                # A terminal's Ctrl-C must reach the workers once, from here, and not a second time from the terminal.
                process_group=0,
            )
            failed.pop_all()
        channel = Channel(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        worker = self._workers[number] = _Worker(number, process, channel)
        if self._stop.is_set():
            # It was on its way while the others were told.
            process.terminate()
        try:
            async with trio.open_nursery() as nursery:
                if self._observer is not None:
                    self._observer.joined(number, channel, nursery)
                nursery.start_soon(self._hear, worker, nursery)
                code = await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            del self._workers[number]
            self._retired = merge([self._retired, totals(worker.figures)])
            if self._observer is not None:
                self._observer.left(number)
            await self._put_down(process)
            await channel.aclose()
        await self._tell_ready()
        return code

    async def _hear(self, worker: _Worker, nursery: trio.Nursery) -> None:
        """Hear one worker until its channel ends. One that talks nonsense is killed and replaced."""
        try:
            async for message in worker.channel.messages():
                if "ready" in message:
                    worker.ready = message["ready"] is True
                    await self._tell_ready()
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
            self._log.error("worker's channel failed", worker=worker.number, error=str(error))
            worker.process.kill()

    async def _tell_ready(self) -> None:
        """Tell every worker whether all are ready."""
        all_ready = len(self._workers) == self._count and all(worker.ready for worker in self._workers.values())
        if all_ready and not self._started:
            self._started = True
            self._log.info("all workers ready", workers=self._count)
        await self._send_all({"all_ready": all_ready})

    async def _answer(self, asker: _Worker, question: int) -> None:
        """Gather everybody's figures for one worker."""
        figures = [to_json(report) for report in await self._gather()]
        with suppress(ChannelError):
            # An asker that is gone needs no answer; its end is noticed where its process is waited for.
            await asker.channel.send({"answer": question, "figures": figures})

    async def _gather(self) -> list[Report]:
        """Everybody's figures, and those that dead workers left."""
        number = next(self._numbers)
        workers = list(self._workers.values())
        for worker in workers:
            worker.reports[number] = trio.Event()
        try:
            await self._send_all({"report": number})
            with trio.move_on_after(REPORT_TIMEOUT):
                for worker in workers:
                    await worker.reports[number].wait()
        finally:
            for worker in workers:
                del worker.reports[number]
        return [self._retired, *(worker.figures for worker in workers)]

    async def _send_all(self, message: Mapping[str, object]) -> None:
        for worker in list(self._workers.values()):
            with suppress(ChannelError):
                await worker.channel.send(message)

    async def _put_down(self, process: trio.Process) -> None:
        """Make sure that `process` has ended: a second signal ends a worker at once, SIGKILL one that hangs."""
        if process.returncode is not None:
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 2 * KILL_TIMEOUT):
            # The first signal drains a worker that was not draining yet, the second ends it at once.
            process.terminate()
            process.terminate()
            with trio.move_on_after(KILL_TIMEOUT):
                await process.wait()
                return
            process.kill()
            await process.wait()
