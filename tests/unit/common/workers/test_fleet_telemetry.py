"""Several workers as their operator sees them: the source, the desk behind it, and what a worker answers."""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from common.admin.telemetry_source import SNAPSHOT_TIMEOUT, SilentWorkerError, UnknownWorkerError
from common.telemetry.values import AnswerFigures, Audience
from common.workers.channel import PIECE
from common.workers.fleet_telemetry import STATUS_TIMEOUT, Workers
from tests.support.admin import ABOUT, worker
from tests.support.crew import Crew, open_crew

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock


@asynccontextmanager
async def open_works(count: int = 2) -> AsyncIterator[tuple[Crew, Workers]]:
    """A daemon with so many workers, and how it is seen."""
    async with open_crew(count) as crew:
        yield crew, Workers(ABOUT, crew.desk)


async def test_all_workers_are_asked_and_answer_as_one(autojump_clock: MockClock) -> None:
    async with open_works() as (_, works):
        start = trio.current_time()
        status = await works.status()
        assert [found.id for found in status.workers] == ["1", "2"]
        assert (status.daemon, status.routes) == (ABOUT.daemon, ABOUT.routes)
        assert trio.current_time() - start < STATUS_TIMEOUT


async def test_a_worker_that_hangs_is_told_of_as_it_was_and_delays_a_second_at_most(autojump_clock: MockClock) -> None:
    async with open_works() as (crew, works):
        await works.status()
        crew.worker(2).hang()
        crew.worker(2).probe.now = worker("2", messages=999)
        started = trio.current_time()
        status = await works.status()
        assert trio.current_time() - started <= STATUS_TIMEOUT + 1e-6
        assert [(found.id, found.messages, found.ready) for found in status.workers] == [
            ("1", 100, True),
            ("2", 100, False),
        ]


async def test_one_that_has_said_nothing_yet_is_not_connected(autojump_clock: MockClock) -> None:
    async with open_crew(2, ready=False, mute=[1]) as crew:
        status = await Workers(ABOUT, crew.desk).status()
        assert [found.id for found in status.workers] == [str(crew.workers[0].number)]


async def test_sums_never_go_down_when_a_worker_dies_and_is_replaced(autojump_clock: MockClock) -> None:
    def total(status: Any) -> tuple[int, int, int, int]:
        parts = [status.retired, *status.workers]
        return (
            sum(part.messages for part in parts),
            sum(part.answers.total for part in parts),
            sum(part.errors for part in parts),
            sum(part.disconnects.get("client_closed", 0) for part in parts),
        )

    async with open_works() as (crew, works):
        sums = total(await works.status())
        assert sums == (200, 20, 2, 8)
        crew.worker(1).process.end(-signal.SIGKILL)
        await trio.testing.wait_all_tasks_blocked()
        after = await works.status()
        assert len(after.workers) == 1
        assert total(after) == sums
        successor = await crew.wait_born(3)
        successor.probe.now = worker("1", messages=0, errors=0, answers=AnswerFigures(), disconnects={})
        restarted = await works.status()
        assert len(restarted.workers) == 2
        assert total(restarted) == sums


async def test_a_change_in_any_worker_is_noticed_while_watched_and_costs_nothing_otherwise(
    autojump_clock: MockClock,
) -> None:
    async with open_works() as (crew, works):
        await trio.sleep(10)
        assert [found.probe.looks for found in crew.workers] == [0, 0]
        works.start_watching()
        await trio.sleep(1)
        await works.wait_changed()
        for number in (1, 2, 1):
            probe = crew.worker(number).probe
            probe.now = worker(str(number), connections=50 + number, messages=number)
            before = trio.current_time()
            await works.wait_changed()
            assert trio.current_time() - before <= 0.025 + 1e-6
            assert works.newest().workers[number - 1].connections == 50 + number
            probe.now = worker(str(number))
            await works.wait_changed()
        with trio.move_on_after(30) as quiet:
            await works.wait_changed()
        assert quiet.cancelled_caught
        works.stop_watching()
        await trio.sleep(1)
        looks = [found.probe.looks for found in crew.workers]
        await trio.sleep(10)
        assert [found.probe.looks for found in crew.workers] == looks


async def test_whoever_begins_to_watch_is_told_how_things_are(autojump_clock: MockClock) -> None:
    async with open_works(1) as (crew, works):
        for connections in (7, 8):
            works.start_watching()
            await works.wait_changed()
            works.stop_watching()
            crew.worker(1).probe.now = worker("1", connections=connections)
            works.start_watching()
            await works.wait_changed()
            assert works.newest().workers[0].connections == connections
            works.stop_watching()


async def test_a_successor_is_watched_like_the_others(autojump_clock: MockClock) -> None:
    async with open_works() as (crew, works):
        works.start_watching()
        await trio.sleep(1)
        await works.wait_changed()
        crew.worker(1).process.end(-signal.SIGKILL)
        await works.wait_changed()
        assert [found.id for found in works.newest().workers] == ["2"]
        await crew.wait_born(3)
        await works.wait_changed()
        assert [found.id for found in works.newest().workers] == ["1", "2"]


async def test_watching_off_and_on_again_does_not_watch_twice(autojump_clock: MockClock) -> None:
    async with open_works(1) as (crew, works):
        for _ in range(5):
            works.start_watching()
            works.stop_watching()
            works.start_watching()
            await trio.sleep(0.1)
            works.stop_watching()
        works.start_watching()
        await trio.sleep(1)
        looks = crew.worker(1).probe.looks
        await trio.sleep(1)
        assert 38 <= crew.worker(1).probe.looks - looks <= 42


async def test_a_bug_in_looking_for_changes_is_told_and_tried_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_works(1) as (crew, works):
        monkeypatch.setattr(crew.worker(1).probe, "mark", lambda: 1 / 0)
        works.start_watching()
        await trio.sleep(0.5)
        assert [line["question"] for line in crew.logbook.said("question failed")] == ["change"]
        monkeypatch.undo()
        await works.wait_changed()
        assert [found.id for found in works.newest().workers] == ["1"]


async def test_the_clients_of_a_channel_are_those_of_all_workers(autojump_clock: MockClock) -> None:
    async with open_works(3) as (crew, works):
        for found in crew.workers:
            found.probe.audiences = {b"run:log": found.number, b"other:log": 100}
        start = trio.current_time()
        assert await works.audience(b"run:log") == Audience(6)
        assert await works.audience(b"nobody:log") == Audience(0)
        assert trio.current_time() - start < STATUS_TIMEOUT


async def test_a_worker_that_hangs_is_left_out_of_the_count_and_named(autojump_clock: MockClock) -> None:
    async with open_works(3) as (crew, works):
        for found in crew.workers:
            found.probe.audiences = {b"run:log": 2}
        crew.worker(2).hang()
        started = trio.current_time()
        assert await works.audience(b"run:log") == Audience(4, ("2",))
        assert trio.current_time() - started <= STATUS_TIMEOUT + 1e-6


async def test_the_clients_of_a_worker_that_dies_are_gone(autojump_clock: MockClock) -> None:
    async with open_works() as (crew, works), trio.open_nursery() as nursery:
        for found in crew.workers:
            found.probe.audiences = {b"run:log": 2}
        crew.worker(1).hang()
        nursery.start_soon(end_later, crew)
        assert await works.audience(b"run:log") == Audience(2)


async def end_later(crew: Crew) -> None:
    """End the first worker in half a second."""
    await trio.sleep(0.5)
    crew.worker(1).process.end(-signal.SIGKILL)


@pytest.mark.parametrize("count", [None, -1, "3", True, 1.5])
async def test_a_number_of_clients_that_is_none_is_nonsense(count: Any, autojump_clock: MockClock) -> None:
    async with open_works(1) as (crew, works):
        crew.worker(1).probe.audiences = {b"run:log": count}
        assert await works.audience(b"run:log") == Audience(0)
        assert crew.worker(1).process.signals == [signal.SIGKILL]
        await trio.testing.wait_all_tasks_blocked()
        assert crew.said() == ["worker's channel failed", "worker died"]


@pytest.mark.parametrize("field", [{"id": "2"}, {"pid": "1"}, {"messages": -1}, {"answers": 1}])
async def test_a_worker_whose_status_is_nonsense_is_killed(field: dict[str, Any], autojump_clock: MockClock) -> None:
    class Nonsense:
        def document(self) -> dict[str, object]:
            return {**worker("1").document(), **field}

    async with open_works(1) as (crew, works):
        crew.worker(1).probe.now = Nonsense()  # type: ignore[assignment] # what it must not say
        assert (await works.status()).workers == ()
        assert crew.worker(1).process.signals == [signal.SIGKILL]
        await trio.testing.wait_all_tasks_blocked()
        assert crew.said() == ["worker's channel failed", "worker died"]


async def test_a_large_snapshot_comes_in_pieces(autojump_clock: MockClock) -> None:
    async with open_works() as (crew, works):
        image = bytes(range(256)) * (PIECE // 100)
        crew.worker(2).probe.image = image
        assert await works.snapshot("2") == image
        assert await works.snapshot("1") == b"image of 1"


@pytest.mark.parametrize("worker_id", ["0", "3", "-1", "", "one", "1.0", "01", "٢", "9" * 30, "../1"])
async def test_a_snapshot_of_nobody(worker_id: str, autojump_clock: MockClock) -> None:
    async with open_works() as (_, works):
        with pytest.raises(UnknownWorkerError):
            await works.snapshot(worker_id)


async def test_a_worker_that_hangs_gives_no_snapshot_and_is_not_waited_for_long(autojump_clock: MockClock) -> None:
    async with open_works() as (crew, works):
        crew.worker(1).hang()
        start = trio.current_time()
        with pytest.raises(SilentWorkerError):
            await works.snapshot("1")
        assert trio.current_time() - start <= SNAPSHOT_TIMEOUT + 1e-6


async def test_a_worker_that_dies_over_its_snapshot_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with open_works() as (crew, works), trio.open_nursery() as nursery:
        crew.worker(1).hang()
        start = trio.current_time()
        nursery.start_soon(end_later, crew)
        with pytest.raises(SilentWorkerError):
            await works.snapshot("1")
        assert trio.current_time() - start <= 0.5 + 1e-6


async def test_a_bug_in_looking_does_not_end_the_worker(autojump_clock: MockClock) -> None:
    async with open_works() as (crew, works):
        crew.worker(1).probe.image = ZeroDivisionError("bug")
        with pytest.raises(SilentWorkerError):
            await works.snapshot("1")
        assert [line["question"] for line in crew.logbook.said("question failed")] == ["snapshot"]
        assert len((await works.status()).workers) == 2


async def test_an_asker_who_goes_away_leaves_the_channel_whole(autojump_clock: MockClock) -> None:
    async with open_works() as (_, works):
        for _ in range(20):
            with trio.move_on_after(0) as gone:
                await works.status()
            assert gone.cancelled_caught
            with trio.move_on_after(0):
                await works.snapshot("1")
        await trio.sleep(1)
        assert [found.id for found in (await works.status()).workers] == ["1", "2"]


async def test_the_end_is_told(autojump_clock: MockClock) -> None:
    async with open_works(1) as (crew, works):
        crew.worker(1).busy = True
        assert not works.newest().draining
        works.start_watching()
        await works.wait_changed()
        crew.stop.set()
        await works.wait_changed()
        assert works.newest().draining
        crew.worker(1).process.end(0)
