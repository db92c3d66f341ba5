"""The parent of several workers, with workers that do what the test says (SPEC 2, WORKERS; SPEC 6)."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from common.workers.supervisor import DRAIN_MARGIN, KILL_TIMEOUT, LIVED, REPLACING, RESTART
from common.workers.worker_handle import HANGS, LAP, SILENT, START
from tests.support.crew import Crew, open_crew

if TYPE_CHECKING:
    from trio.testing import MockClock

BUSY = "another worker is not ready"


# -- ready ------------------------------------------------------------------------------------------------------------


async def test_all_are_ready_when_the_last_one_is(autojump_clock: MockClock) -> None:
    async with open_crew(ready=False) as crew:
        first, second = crew.workers
        await first.ready()
        await trio.testing.wait_all_tasks_blocked()
        assert [worker.member.unready() for worker in crew.workers] == [BUSY, BUSY]
        await second.ready()
        await trio.testing.wait_all_tasks_blocked()
        assert [worker.member.unready() for worker in crew.workers] == [None, None]
        await first.ready(False)
        await trio.testing.wait_all_tasks_blocked()
        assert [worker.member.unready() for worker in crew.workers] == [BUSY, BUSY]


async def test_a_worker_that_waits_for_redis_is_left_to_wait(autojump_clock: MockClock) -> None:
    async with open_crew(ready=False) as crew:
        await crew.workers[0].ready()
        await trio.sleep(300)
        assert crew.workers[0].member.unready() == BUSY
        assert (len(crew.workers), crew.said()) == (2, [])


# -- death ------------------------------------------------------------------------------------------------------------


async def test_one_that_cannot_start_ends_the_daemon_with_its_code(autojump_clock: MockClock) -> None:
    async with open_crew(ready=False) as crew:
        await crew.workers[0].ready()
        crew.workers[1].process.end(2)
        await crew.wait_stopped()
        assert crew.code == 2
        assert crew.said() == ["worker could not start"]
        assert crew.workers[0].process.returncode == 0


async def test_a_dead_one_is_replaced_after_delays_that_grow(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        delays = []
        for deaths in range(1, 9):
            died = trio.current_time()
            crew.workers[-1].process.end(-signal.SIGSEGV)
            successor = await crew.wait_born(2 + deaths)
            delays.append(trio.current_time() - died)
            await successor.ready()
            await trio.testing.wait_all_tasks_blocked()
            assert crew.workers[0].member.unready() is None
        steps = [min(RESTART.maximum, RESTART.base * 2**k) for k in range(8)]
        assert all(step / 2 <= delay <= step for delay, step in zip(delays, steps, strict=True)), delays
        assert crew.said() == ["worker died"] * 8
        died = trio.current_time()
        await trio.sleep(LIVED)
        crew.workers[-1].process.end(1)
        await crew.wait_born(11)
        assert trio.current_time() - died - LIVED <= RESTART.base, "one that lived long is no failure"


async def test_one_that_has_drained_by_itself_is_replaced_and_no_error(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        crew.workers[0].process.end(0)
        successor = await crew.wait_born(3)
        number = crew.workers[0].number
        assert (successor.number, crew.said()) == (number, [])
        assert [line["worker"] for line in crew.logbook.said("worker ended")] == [number]


async def test_a_successor_that_cannot_be_started_is_tried_again(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        crew.failing = 2
        crew.workers[0].process.end(3)
        await crew.wait_born(3)
        assert crew.said() == ["worker died", "worker not started", "worker died", "worker not started", "worker died"]


async def test_one_that_talks_nonsense_is_killed_and_replaced(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        await crew.workers[0].say(b"what?\n")
        await crew.wait_born(3)
        assert crew.workers[0].process.signals == [signal.SIGKILL]
        assert crew.said() == ["worker's channel failed", "worker died"]


# -- its place, while nobody is there ---------------------------------------------------------------------------------


async def test_a_successor_is_not_missed_for_a_while(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        await trio.sleep(100)
        left = crew.workers[1]
        crew.workers[0].process.end(-signal.SIGSEGV)
        start = trio.current_time()
        await trio.testing.wait_all_tasks_blocked()
        assert left.member.unready() is None
        successor = await crew.wait_born(3)
        await successor.ready(False)
        await trio.testing.wait_all_tasks_blocked()
        assert (left.member.unready(), successor.member.unready()) == (None, None)
        assert successor.member.stands_in(), "it answers as the others do while it is on its way"
        await trio.sleep(start + REPLACING - 0.1 - trio.current_time())
        assert left.member.unready() is None
        await trio.sleep(0.2)
        assert (left.member.unready(), successor.member.unready()) == (BUSY, BUSY)
        assert not successor.member.stands_in()
        await successor.ready()
        await trio.testing.wait_all_tasks_blocked()
        assert left.member.unready() is None


async def test_successors_that_never_get_ready_are_missed_in_the_end(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        crew.workers[0].process.end(1)
        start = trio.current_time()
        while trio.current_time() <= start + REPLACING:
            assert crew.workers[1].member.unready() is None
            successor = await crew.wait_born(len(crew.workers) + 1)
            await successor.ready(False)
            successor.process.end(1)
            await trio.testing.wait_all_tasks_blocked()
        assert crew.workers[1].member.unready() == BUSY


async def test_where_nobody_serves_nobody_stands_in(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        crew.workers[0].process.end(-signal.SIGSEGV)
        await trio.testing.wait_all_tasks_blocked()
        assert crew.workers[1].member.unready() is None
        await crew.workers[1].ready(False)
        await trio.testing.wait_all_tasks_blocked()
        assert crew.workers[1].member.unready() == BUSY


async def test_one_that_lives_and_is_not_ready_counts_whoever_is_replaced(autojump_clock: MockClock) -> None:
    async with open_crew(3) as crew:
        crew.workers[0].process.end(-signal.SIGSEGV)
        await crew.workers[1].ready(False)
        await trio.testing.wait_all_tasks_blocked()
        assert crew.workers[2].member.unready() == BUSY
        await crew.workers[1].ready()
        await trio.testing.wait_all_tasks_blocked()
        assert crew.workers[2].member.unready() is None


async def test_a_successor_that_was_ready_counts_like_any_other(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        crew.workers[0].process.end(-signal.SIGSEGV)
        successor = await crew.wait_born(3)
        await successor.ready()
        await successor.ready(False)
        await trio.testing.wait_all_tasks_blocked()
        assert crew.workers[1].member.unready() == BUSY


async def test_workers_are_numbered_from_one_and_named_with_their_process(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        named = {worker.number: worker.process.pid for worker in crew.workers}
        assert named.keys() == {1, 2}
        assert {line["worker"]: line["pid"] for line in crew.logbook.said("worker started")} == named
        crew.workers[1].process.end(3)
        await trio.testing.wait_all_tasks_blocked()
        (line,) = crew.logbook.said("worker died")
        assert (line["worker"], line["pid"]) == (crew.workers[1].number, crew.workers[1].process.pid)


# -- silence ----------------------------------------------------------------------------------------------------------


async def test_quiet_workers_are_asked_and_live(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        await trio.sleep(600)
        assert (len(crew.workers), crew.said()) == (2, [])
        assert crew.workers[0].member.unready() is None


async def test_a_hung_worker_makes_the_daemon_unready_then_is_replaced(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        hung, well = crew.workers
        await trio.sleep(100.5)
        hung.hang()
        start = trio.current_time()
        await trio.sleep((SILENT - 1) * LAP)
        assert well.member.unready() is None
        await trio.sleep(2 * LAP)
        assert well.member.unready() == BUSY
        assert crew.said() == ["worker does not answer"]
        await crew.wait_born(3)
        assert hung.process.returncode == -signal.SIGKILL
        assert HANGS * LAP <= hung.process.ended_at - start <= (HANGS + 1) * LAP
        assert crew.said() == ["worker does not answer", "worker hangs, killing it", "worker died"]
        await crew.workers[2].ready()
        await trio.testing.wait_all_tasks_blocked()
        assert well.member.unready() is None
        assert well.process.signals == []


async def test_one_that_answers_again_is_as_it_was(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        stopped, well = crew.workers
        stopped.hang()
        await trio.sleep((SILENT + 2) * LAP)
        assert well.member.unready() == BUSY
        # What was asked meanwhile waits for it.
        stopped.wake()
        await trio.testing.wait_all_tasks_blocked()
        assert well.member.unready() is None
        await trio.sleep(300)
        assert (len(crew.workers), crew.said()) == (2, ["worker does not answer"])
        assert len(crew.logbook.said("worker answers again")) == 1


async def test_the_parents_own_absence_is_not_held_against_the_workers(autojump_clock: MockClock) -> None:
    """All were stopped together (a frozen container, a machine that slept): the parent's laps have not gone on."""
    async with open_crew() as crew:
        await trio.sleep(10.5)
        autojump_clock.jump(3600)
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(60)
        assert (len(crew.workers), crew.said()) == (2, [])


async def test_one_that_never_says_a_word_is_replaced(autojump_clock: MockClock) -> None:
    async with open_crew(ready=False, mute=[0]) as crew:
        mute, other = crew.workers
        await other.ready()
        await crew.wait_born(3)
        assert mute.process.returncode == -signal.SIGKILL
        assert START * LAP <= mute.process.ended_at - mute.born <= (START + 1) * LAP
        assert crew.said() == ["worker hangs, killing it", "worker died"]


async def test_figures_of_a_silent_worker_are_not_waited_for(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        crew.workers[0].hang()
        # In the middle of a lap: of what is due at one moment, either may come first.
        await trio.sleep((SILENT + 1.5) * LAP)
        start = trio.current_time()
        await crew.desk.report()
        assert trio.current_time() == start


# -- the end ----------------------------------------------------------------------------------------------------------


async def test_the_end_is_passed_on_and_as_long_as_the_longest_drain(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        crew.workers[1].busy = True
        start = trio.current_time()
        crew.stop.set()
        await trio.sleep(7)
        assert [worker.process.returncode for worker in crew.workers] == [0, None]
        assert [worker.process.signals for worker in crew.workers] == [[signal.SIGTERM]] * 2
        crew.workers[1].process.end(0)
        assert await crew.wait_stopped() - start == 7
        assert (crew.code, crew.said(), len(crew.workers)) == (0, [], 2)


async def test_a_stop_before_the_start_starts_nothing(autojump_clock: MockClock) -> None:
    crew = Crew(2, 15.0)
    crew.stop.set()
    async with trio.open_nursery() as nursery:
        await crew.run(nursery)
    assert (crew.code, crew.workers, crew.said()) == (0, [], [])


@pytest.mark.parametrize("code", [0, -signal.SIGTERM])
async def test_a_stop_while_the_workers_are_starting_is_a_clean_end(autojump_clock: MockClock, code: int) -> None:
    async with open_crew(ready=False) as crew:
        for worker in crew.workers:
            worker.busy = True
        crew.stop.set()
        await trio.testing.wait_all_tasks_blocked()
        for worker in crew.workers:
            assert worker.process.signals == [signal.SIGTERM]
            worker.process.end(code)
        await crew.wait_stopped()
        assert (crew.code, crew.said()) == (0, [])


async def test_one_that_dies_in_the_drain_is_not_replaced_and_is_told_of(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        crew.workers[1].busy = True
        crew.stop.set()
        await trio.sleep(1)
        crew.workers[1].process.end(-signal.SIGSEGV)
        await crew.wait_stopped()
        assert (crew.code, len(crew.workers)) == (1, 2)


async def test_a_stop_during_the_wait_for_a_successor_starts_none(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        crew.workers[0].process.end(-signal.SIGSEGV)
        await trio.sleep(0.1)
        start = trio.current_time()
        crew.stop.set()
        assert await crew.wait_stopped() == start
        assert (crew.code, len(crew.workers)) == (0, 2)


async def test_a_hung_worker_does_not_hold_the_end_up(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        crew.workers[0].hang()
        await trio.sleep((SILENT + 2) * LAP)
        start = trio.current_time()
        crew.stop.set()
        assert await crew.wait_stopped() - start <= LAP
        assert (crew.code, crew.workers[1].process.returncode) == (1, 0)


async def test_one_that_hangs_in_the_drain_is_killed_before_its_deadline(autojump_clock: MockClock) -> None:
    async with open_crew(patience=600) as crew:
        crew.workers[0].hang()
        start = trio.current_time()
        crew.stop.set()
        assert await crew.wait_stopped() - start <= (SILENT + 1) * LAP
        assert crew.code == 1


async def test_a_drain_that_never_ends_is_ended(autojump_clock: MockClock) -> None:
    async with open_crew(patience=30) as crew:
        crew.workers[0].busy = True
        start = trio.current_time()
        crew.stop.set()
        assert await crew.wait_stopped() - start == 30 + DRAIN_MARGIN
        assert (crew.code, crew.said()) == (1, ["workers did not drain in time"])
        assert crew.workers[0].process.signals == [signal.SIGTERM], "it was told, and ended by itself"


async def test_at_once_comes_over_the_channel(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        for worker in crew.workers:
            worker.busy = True
        crew.stop.set()
        await trio.sleep(2)
        start = trio.current_time()
        crew.scope.cancel()
        assert await crew.wait_stopped() == start
        assert [worker.process.returncode for worker in crew.workers] == [1, 1]
        assert [worker.process.signals for worker in crew.workers] == [[signal.SIGTERM]] * 2


async def test_one_that_does_not_end_at_once_is_killed(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        crew.workers[0].reluctant = True
        start = trio.current_time()
        crew.scope.cancel()
        assert await crew.wait_stopped() - start == KILL_TIMEOUT
        assert crew.workers[0].process.returncode == -signal.SIGKILL
        assert crew.workers[1].process.returncode == 1
