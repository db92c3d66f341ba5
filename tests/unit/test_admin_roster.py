"""Workers and their parent, joined by channels in memory (common/admin/roster.py, informant.py)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest
import trio
import trio.testing

from common.admin.informant import PIECE, Informant
from common.admin.roster import STATUS_TIMEOUT, Roster
from common.admin.source import SNAPSHOT_TIMEOUT, SilentWorkerError, UnknownWorkerError
from common.telemetry.values import AnswerFigures, Audience, WorkerStatus
from common.workers.channel import Channel
from tests.support.admin import ABOUT, worker
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from common.admin.probe import Probe


class ScriptedProbe:
    """A worker's process as the test wants it."""

    def __init__(self, worker_id: str) -> None:
        self.now = worker(worker_id)
        self.looks = 0
        self.audiences: dict[bytes, int] = {}
        self.image: bytes | Exception = b"image of " + worker_id.encode()

    def status(self, backlog: int | None = None) -> WorkerStatus:
        return self.now if backlog is None else attrs.evolve(self.now, backlog=backlog)

    def mark(self) -> tuple[object, ...]:
        self.looks += 1
        return (self.now.connections, self.now.messages)

    def backlog(self) -> int:
        return self.now.backlog

    def clients(self, channel: bytes) -> int:
        return self.audiences.get(channel, 0)

    async def snapshot(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if isinstance(self.image, Exception):
            raise self.image
        return self.image


@attrs.define
class Worker:
    """One worker and the way to it."""

    probe: ScriptedProbe
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    deaf: bool = False
    heard: list[dict[str, Any]] = attrs.field(factory=list)


class Works:
    """A parent's roster and its workers."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.roster = Roster(ABOUT)
        self.workers: dict[int, Worker] = {}
        self.logbook = Logbook()
        self._nursery = nursery

    async def start(self, number: int, *, deaf: bool = False) -> Worker:
        """Start a worker; a deaf one hears nothing."""
        found = self.workers[number] = Worker(ScriptedProbe(str(number)), deaf=deaf)
        await self._nursery.start(self._run, number, found)
        return found

    async def _run(self, number: int, found: Worker, *, task_status: trio.TaskStatus[None]) -> None:
        ours, theirs = (Channel(stream) for stream in trio.testing.memory_stream_pair())
        informant = Informant(theirs, cast("Probe[Any]", found.probe), self.logbook.log)
        with found.scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(informant.run)
                self.roster.joined(number, ours, nursery)
                nursery.start_soon(self._hear_parent, theirs, informant, found)
                task_status.started()
                async for message in ours.messages():
                    self.roster.heard(number, message)
        self.roster.left(number)

    async def _hear_parent(self, channel: Channel, informant: Informant[Any], found: Worker) -> None:
        async for message in channel.messages():
            found.heard.append(message)
            if not found.deaf:
                informant.hear(message)


@asynccontextmanager
async def open_works(count: int = 2) -> AsyncIterator[Works]:
    """A parent with `count` workers."""
    async with trio.open_nursery() as nursery:
        works = Works(nursery)
        for number in range(1, count + 1):
            await works.start(number)
        yield works
        nursery.cancel_scope.cancel()


async def test_all_workers_are_asked_and_answer_as_one(autojump_clock: MockClock) -> None:
    async with open_works() as works:
        status = await works.roster.status()
        assert [found.id for found in status.workers] == ["1", "2"]
        assert (status.daemon, status.routes) == (ABOUT.daemon, ABOUT.routes)
        assert trio.current_time() < STATUS_TIMEOUT


async def test_a_worker_that_hangs_is_told_of_as_it_was_and_delays_a_second_at_most(autojump_clock: MockClock) -> None:
    async with open_works() as works:
        await works.roster.status()
        works.workers[2].deaf = True
        works.workers[2].probe.now = worker("2", messages=999)
        started = trio.current_time()
        status = await works.roster.status()
        assert trio.current_time() - started <= STATUS_TIMEOUT + 1e-6
        assert [(found.id, found.messages, found.ready) for found in status.workers] == [
            ("1", 100, True),
            ("2", 100, False),
        ]


async def test_one_that_has_said_nothing_yet_is_not_connected(autojump_clock: MockClock) -> None:
    async with open_works(1) as works:
        await works.start(2, deaf=True)
        assert [found.id for found in (await works.roster.status()).workers] == ["1"]


async def test_sums_never_go_down_when_a_worker_dies_and_is_replaced(autojump_clock: MockClock) -> None:
    def total(status: Any) -> tuple[int, int, int, int]:
        parts = [status.retired, *status.workers]
        return (
            sum(part.messages for part in parts),
            sum(part.answers.total for part in parts),
            sum(part.errors for part in parts),
            sum(part.disconnects.get("client_closed", 0) for part in parts),
        )

    async with open_works() as works:
        sums = total(await works.roster.status())
        assert sums == (200, 20, 2, 8)
        works.workers[1].scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        after = await works.roster.status()
        assert len(after.workers) == 1
        assert total(after) == sums
        successor = await works.start(1)
        successor.probe.now = worker("1", messages=0, errors=0, answers=AnswerFigures(), disconnects={})
        restarted = await works.roster.status()
        assert len(restarted.workers) == 2
        assert total(restarted) == sums


async def test_a_change_in_any_worker_is_noticed_while_watched_and_costs_nothing_otherwise(
    autojump_clock: MockClock,
) -> None:
    async with open_works() as works:
        await trio.sleep(10)
        assert [found.probe.looks for found in works.workers.values()] == [0, 0]
        works.roster.start_watching()
        await trio.sleep(1)
        await works.roster.wait_changed()
        for number in (1, 2, 1):
            works.workers[number].probe.now = worker(str(number), connections=50 + number, messages=number)
            before = trio.current_time()
            await works.roster.wait_changed()
            assert trio.current_time() - before <= 0.025 + 1e-6
            assert works.roster.newest().workers[number - 1].connections == 50 + number
            works.workers[number].probe.now = worker(str(number))
            await works.roster.wait_changed()
        with trio.move_on_after(30) as quiet:
            await works.roster.wait_changed()
        assert quiet.cancelled_caught
        works.roster.stop_watching()
        await trio.sleep(1)
        looks = [found.probe.looks for found in works.workers.values()]
        await trio.sleep(10)
        assert [found.probe.looks for found in works.workers.values()] == looks


async def test_a_successor_is_watched_like_the_others(autojump_clock: MockClock) -> None:
    async with open_works() as works:
        works.roster.start_watching()
        await trio.sleep(1)
        await works.roster.wait_changed()
        works.workers[1].scope.cancel()
        await works.roster.wait_changed()
        assert [found.id for found in works.roster.newest().workers] == ["2"]
        await works.start(1)
        await works.roster.wait_changed()
        assert [found.id for found in works.roster.newest().workers] == ["1", "2"]


async def test_watching_off_and_on_again_does_not_watch_twice(autojump_clock: MockClock) -> None:
    async with open_works(1) as works:
        for _ in range(5):
            works.roster.start_watching()
            works.roster.stop_watching()
        works.roster.start_watching()
        await trio.sleep(1)
        looks = works.workers[1].probe.looks
        await trio.sleep(1)
        assert 38 <= works.workers[1].probe.looks - looks <= 42


async def test_the_clients_of_a_channel_are_those_of_all_workers(autojump_clock: MockClock) -> None:
    async with open_works(3) as works:
        for number, found in works.workers.items():
            found.probe.audiences = {b"run:log": number, b"other:log": 100}
        assert await works.roster.audience(b"run:log") == Audience(6)
        assert await works.roster.audience(b"nobody:log") == Audience(0)
        assert trio.current_time() < STATUS_TIMEOUT


async def test_a_worker_that_hangs_is_left_out_of_the_count_and_named(autojump_clock: MockClock) -> None:
    async with open_works(3) as works:
        for found in works.workers.values():
            found.probe.audiences = {b"run:log": 2}
        works.workers[2].deaf = True
        started = trio.current_time()
        assert await works.roster.audience(b"run:log") == Audience(4, ("2",))
        assert trio.current_time() - started <= STATUS_TIMEOUT + 1e-6


async def test_the_clients_of_a_worker_that_dies_are_gone(autojump_clock: MockClock) -> None:
    async with open_works() as works, trio.open_nursery() as nursery:
        for found in works.workers.values():
            found.probe.audiences = {b"run:log": 2}
        works.workers[1].deaf = True

        async def die() -> None:
            await trio.sleep(0.5)
            works.workers[1].scope.cancel()

        nursery.start_soon(die)
        assert await works.roster.audience(b"run:log") == Audience(2)


@pytest.mark.parametrize("count", [None, -1, "3", True, 1.5])
async def test_a_number_of_clients_that_is_none_is_nonsense(count: object, autojump_clock: MockClock) -> None:
    async with open_works(1) as works, trio.open_nursery() as nursery:
        works.workers[1].deaf = True
        nursery.start_soon(works.roster.audience, b"run:log")
        await trio.testing.wait_all_tasks_blocked()
        (asked,) = [message["clients"] for message in works.workers[1].heard if "clients" in message]
        with pytest.raises(ValueError, match="number of clients"):
            works.roster.heard(1, {"clients": asked, "count": count})
        # To what nobody has asked nobody listens.
        works.roster.heard(1, {"clients": asked + 1000, "count": count})


async def test_a_large_snapshot_comes_in_pieces(autojump_clock: MockClock) -> None:
    async with open_works() as works:
        image = bytes(range(256)) * (PIECE // 100)
        works.workers[2].probe.image = image
        assert await works.roster.snapshot("2") == image
        assert await works.roster.snapshot("1") == b"image of 1"


@pytest.mark.parametrize("worker_id", ["0", "3", "-1", "", "one", "1.0", "01", "٢", "9" * 30, "../1"])
async def test_a_snapshot_of_nobody(worker_id: str, autojump_clock: MockClock) -> None:
    async with open_works() as works:
        with pytest.raises(UnknownWorkerError):
            await works.roster.snapshot(worker_id)


async def test_a_worker_that_hangs_gives_no_snapshot_and_is_not_waited_for_long(autojump_clock: MockClock) -> None:
    async with open_works() as works:
        works.workers[1].deaf = True
        with pytest.raises(SilentWorkerError):
            await works.roster.snapshot("1")
        assert trio.current_time() <= SNAPSHOT_TIMEOUT + 1e-6


async def test_a_worker_that_dies_over_its_snapshot_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with open_works() as works, trio.open_nursery() as nursery:
        works.workers[1].deaf = True

        async def die() -> None:
            await trio.sleep(0.5)
            works.workers[1].scope.cancel()

        nursery.start_soon(die)
        with pytest.raises(SilentWorkerError):
            await works.roster.snapshot("1")
        assert trio.current_time() <= 0.5 + 1e-6


async def test_a_bug_in_looking_does_not_end_the_worker(autojump_clock: MockClock) -> None:
    async with open_works() as works:
        works.workers[1].probe.image = ZeroDivisionError("bug")
        with pytest.raises(SilentWorkerError):
            await works.roster.snapshot("1")
        assert works.logbook.said("operator's question failed")
        assert len((await works.roster.status()).workers) == 2


async def test_an_asker_who_goes_away_leaves_the_channel_whole(autojump_clock: MockClock) -> None:
    async with open_works() as works:
        for _ in range(20):
            with trio.move_on_after(0) as gone:
                await works.roster.status()
            assert gone.cancelled_caught
            with trio.move_on_after(0):
                await works.roster.snapshot("1")
        await trio.sleep(1)
        assert [found.id for found in (await works.roster.status()).workers] == ["1", "2"]


@pytest.mark.parametrize(
    "message",
    [{"worker": 1}, {"worker": {}}, {"worker": {"id": "1", "pid": "1"}}, {"worker": worker("2").document()}],
)
async def test_nonsense_of_a_worker_is_said_to_be_so(message: dict[str, object], autojump_clock: MockClock) -> None:
    async with open_works() as works:
        with pytest.raises(ValueError, match="worker"):
            works.roster.heard(1, message)


async def test_the_end_is_told() -> None:
    roster = Roster(ABOUT)
    assert not roster.newest().draining
    roster.start_watching()
    roster.end_began()
    await roster.wait_changed()
    assert roster.newest().draining
