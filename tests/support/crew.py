"""Workers without processes, for a supervisor on a MockClock: what each does is the test's to say.

A worker speaks through a real `Member` on a channel in memory. It drains and ends with 0 when it is told to, unless the
test says that it is `busy`; `hang` is what SIGSTOP or a stuck event loop do to it: nothing goes in or out.
"""

from __future__ import annotations

import random
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import trio
import trio.testing

from common.workers.answers import WorkerAnswers
from common.workers.channel import WorkerChannel
from common.workers.desk import Desk
from common.workers.member import Member
from common.workers.questions import Standing
from common.workers.supervisor import Supervisor
from tests.support.admin import ScriptedProbe
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection

    from common.admin.probe import Probe
    from common.exposition import Report
    from common.logs import Logger


class FakeProcess:
    """A process that ends when the test, or the supervisor, says so."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.ended = trio.Event()
        self.ended_at = 0.0
        self.signals: list[int] = []
        """What it was sent."""

    async def wait(self) -> int:
        """See `WorkerProcess`."""
        await self.ended.wait()
        assert self.returncode is not None
        return self.returncode

    def terminate(self) -> None:
        """See `WorkerProcess`."""
        self.signals.append(signal.SIGTERM)

    def kill(self) -> None:
        """See `WorkerProcess`."""
        self.signals.append(signal.SIGKILL)
        self.end(-signal.SIGKILL)

    def end(self, code: int) -> None:
        """Exit."""
        if self.returncode is None:
            self.returncode = code
            self.ended_at = trio.current_time()
            self.ended.set()


class Stoppable(trio.abc.Stream):
    """A stream whose owner can be stopped."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._awake = trio.Event()
        self._awake.set()

    def hang(self) -> None:
        """Let nothing through until `wake`."""
        self._awake = trio.Event()

    def wake(self) -> None:
        """Go on with what has come meanwhile."""
        self._awake.set()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See `trio.abc.ReceiveStream`."""
        data = await self._stream.receive_some(max_bytes)
        await self._awake.wait()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream`."""
        await self._awake.wait()
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """See `trio.abc.AsyncResource`."""
        await self._stream.aclose()


class FakeWorker:
    """One worker: its process and its side of the channel."""

    def __init__(self, number: int, figures: Callable[[], Report], log: Logger) -> None:
        self.number = number
        self.process = FakeProcess(1000 + number)
        self.born = trio.current_time()
        ours, theirs = trio.testing.memory_stream_pair()
        self.channel = WorkerChannel(ours, log)
        self._theirs = Stoppable(theirs)
        self.probe = ScriptedProbe(str(number))
        """What it says of how it is."""
        self.member = Member(WorkerChannel(self._theirs, log))
        self._ready = Standing()
        self._answers = WorkerAnswers(figures, cast("Probe[Any]", self.probe), self._ready)
        self.busy = False
        """Whether its drain does not end by itself."""
        self.reluctant = False
        """Whether it does not end when it is told to end at once."""

    async def run(self) -> None:
        """What its process does."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._heed)
            nursery.start_soon(self._heed_at_once)
            nursery.start_soon(self.member.run, self._answers.by_name())
            await self.process.ended.wait()
            nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(self._theirs)

    async def ready(self, ready: bool = True) -> None:
        """Be so, and let it be heard: of two changes at once the parent need only hear of the second."""
        self._ready.set(ready)
        await trio.testing.wait_all_tasks_blocked()

    def hang(self) -> None:
        """Say nothing more, and hear nothing, until `wake`."""
        self._theirs.hang()

    def wake(self) -> None:
        """Go on with what has come meanwhile."""
        self._theirs.wake()

    async def say(self, data: bytes) -> None:
        """Put raw bytes on the channel."""
        await self._theirs.send_all(data)

    async def _heed(self) -> None:
        await self.member.told_to_drain.wait()
        if not self.busy:
            self.process.end(0)

    async def _heed_at_once(self) -> None:
        await self.member.told_to_end.wait()
        if not self.reluctant:
            self.process.end(1)


class Crew:
    """A supervisor, its workers so far, oldest first, and what it said."""

    def __init__(
        self,
        count: int,
        patience: float,
        mute: Collection[int] = (),
        own_report: Callable[[int], Report] = lambda _: (),
        figures: Callable[[], Report] = tuple,
    ) -> None:
        self._figures = figures
        self._mute = mute
        self.logbook = Logbook()
        self.workers: list[FakeWorker] = []
        self.stop = trio.Event()
        self.stopped = trio.Event()
        self.scope = trio.CancelScope()
        """Around the supervisor: what the second signal cancels."""
        self.code: int | None = None
        self.failing = 0
        """How many of the next processes can't be started."""
        self.desk = Desk(own_report)
        self.supervisor = Supervisor(self._spawn, count, patience, self.logbook.log, self.desk, rng=random.Random(1))
        self._nursery: trio.Nursery | None = None
        self._born = trio.Event()

    async def _spawn(self, number: int) -> tuple[FakeProcess, WorkerChannel]:
        await trio.lowlevel.checkpoint()
        if self.failing:
            self.failing -= 1
            raise BlockingIOError("Resource temporarily unavailable")
        worker = FakeWorker(number, self._figures, self.logbook.log)
        if len(self.workers) in self._mute:
            worker.hang()
        self.workers.append(worker)
        assert self._nursery is not None
        self._nursery.start_soon(worker.run)
        self._born.set()
        self._born = trio.Event()
        return worker.process, worker.channel

    async def run(self, nursery: trio.Nursery) -> None:
        """Run the supervisor; workers live in `nursery`."""
        self._nursery = nursery
        with self.scope:
            self.code = await self.supervisor.run(self.stop)
        self.stopped.set()

    async def wait_born(self, count: int) -> FakeWorker:
        """Wait until that many workers have been started; return the last one."""
        with trio.fail_after(10_000):
            while len(self.workers) < count:
                await self._born.wait()
        await trio.testing.wait_all_tasks_blocked()
        return self.workers[count - 1]

    def worker(self, number: int) -> FakeWorker:
        """The newest of that number; which one was started first is chance."""
        return next(worker for worker in reversed(self.workers) if worker.number == number)

    async def wait_stopped(self) -> float:
        """Wait until the supervisor has ended; return when."""
        with trio.fail_after(10_000):
            await self.stopped.wait()
        assert all(worker.process.returncode is not None for worker in self.workers), "no process outlives it"
        return trio.current_time()

    def said(self) -> list[str]:
        """The messages of its warnings and errors."""
        return [line["msg"] for line in self.logbook.at_least("warn", "error")]


@asynccontextmanager
async def open_crew(
    count: int = 2,
    *,
    ready: bool = True,
    patience: float = 15.0,
    mute: Collection[int] = (),
    own_report: Callable[[int], Report] = lambda _: (),
    figures: Callable[[], Report] = tuple,
) -> AsyncIterator[Crew]:
    """A supervisor with that many workers, all ready or just started; stopped at the end.

    The workers `mute`, counted from the first to be started, hang from their birth. `own_report` is the supervisor's,
    `figures` are what each worker reports.
    """
    crew = Crew(count, patience, mute, own_report, figures)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crew.run, nursery)
        await crew.wait_born(count)
        if ready:
            for worker in crew.workers:
                await worker.ready()
            await trio.testing.wait_all_tasks_blocked()
        yield crew
        crew.stop.set()
        await crew.wait_stopped()
        nursery.cancel_scope.cancel()
