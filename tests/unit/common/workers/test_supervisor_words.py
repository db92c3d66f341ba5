"""What the parent of several workers says: each line with its level, who it is about, and its figures."""

from __future__ import annotations

import random
import signal
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from common.workers.desk import Desk
from common.workers.lines import GoneError
from common.workers.supervisor import KILL_TIMEOUT, LIVED, REPLACING, RESTART, Supervisor
from common.workers.worker_handle import HANGS, LAP, SILENT
from tests.support.crew import Crew, open_crew
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    from trio.testing import MockClock

BUSY = "another worker is not ready"


def only(logbook: Logbook, message: str) -> dict[str, Any]:
    """The fields of the one line with this message, without its time and its logger's name."""
    (line,) = logbook.said(message)
    return {name: value for name, value in line.items() if name not in {"time", "component", "daemon", "msg"}}


async def test_the_life_of_the_daemon_is_told(autojump_clock: MockClock) -> None:
    async with open_crew(3, ready=False) as crew:
        assert not crew.supervisor.ready.is_set()
        for worker in crew.workers[:2]:
            await worker.ready()
        await trio.testing.wait_all_tasks_blocked()
        assert (crew.supervisor.ready.is_set(), crew.logbook.said("all workers ready")) == (False, [])
        await crew.workers[2].ready()
        await trio.testing.wait_all_tasks_blocked()
        assert crew.supervisor.ready.is_set()
        assert only(crew.logbook, "all workers ready") == {"level": "info", "workers": 3}
        assert [crew.desk.draining] == [False]
        crew.stop.set()
        await crew.wait_stopped()
        assert only(crew.logbook, "draining") == {"level": "info", "workers": 3}
        assert only(crew.logbook, "stopped") == {"level": "info", "code": 0}
        assert [crew.desk.draining] == [True]
    assert crew.desk.handles == {}


async def test_that_all_are_ready_is_told_once(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        for ready in (False, True):
            await crew.workers[0].ready(ready)
        await trio.testing.wait_all_tasks_blocked()
        assert len(crew.logbook.said("all workers ready")) == 1


async def test_only_those_that_live_are_told_to_drain(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        crew.workers[0].process.end(-signal.SIGSEGV)
        await trio.testing.wait_all_tasks_blocked()
        crew.stop.set()
        await crew.wait_stopped()
        assert only(crew.logbook, "draining")["workers"] == 1


@pytest.mark.parametrize("code", [3, -signal.SIGSEGV])
async def test_a_death_is_an_error_with_its_code_and_the_wait(code: int, autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        dead = crew.workers[0]
        assert crew.desk.restarts == 0
        died = trio.current_time()
        dead.process.end(code)
        await crew.wait_born(3)
        assert only(crew.logbook, "worker died") == {
            "level": "error",
            "worker": dead.number,
            "pid": dead.process.pid,
            "code": code,
            "backoff": round(trio.current_time() - died, 3),
        }
        assert crew.logbook.said("worker ended") == []
        assert crew.desk.restarts == 1
        assert len(crew.logbook.said("worker started")) == 3


async def test_one_that_has_ended_well_is_no_error(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        ended = crew.workers[1]
        now = trio.current_time()
        ended.process.end(0)
        await crew.wait_born(3)
        line = only(crew.logbook, "worker ended")
        assert (line["level"], line["code"], line["worker"]) == ("info", 0, ended.number)
        assert line["backoff"] == round(trio.current_time() - now, 3)
        assert crew.logbook.said("worker died") == []
        assert crew.desk.restarts == 1


@pytest.mark.parametrize("code", [1, 2])
async def test_one_that_could_not_start_is_an_error_with_its_code(code: int, autojump_clock: MockClock) -> None:
    async with open_crew(ready=False) as crew:
        failed = crew.workers[0]
        failed.process.end(code)
        await crew.wait_stopped()
        assert only(crew.logbook, "worker could not start") == {
            "level": "error",
            "worker": failed.number,
            "pid": failed.process.pid,
            "code": code,
        }
        assert only(crew.logbook, "stopped") == {"level": "info", "code": code}
        assert crew.desk.restarts == 0


@pytest.mark.parametrize("code", [0, -signal.SIGKILL])
async def test_before_all_were_ready_one_that_was_ended_from_outside_is_replaced(
    code: int, autojump_clock: MockClock
) -> None:
    async with open_crew(ready=False) as crew:
        crew.workers[0].process.end(code)
        successor = await crew.wait_born(3)
        assert (successor.number, crew.stopped.is_set()) == (crew.workers[0].number, False)
        assert crew.logbook.said("worker could not start") == []


async def test_a_process_that_cannot_be_made_is_told_by_its_number(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        crew.failing = 1
        crew.workers[0].process.end(3)
        await crew.wait_born(3)
        assert only(crew.logbook, "worker not started") == {
            "level": "error",
            "worker": crew.workers[0].number,
            "error": "Resource temporarily unavailable",
        }
        first, second = crew.logbook.said("worker died")
        assert (first["pid"], second.get("pid"), second["code"]) == (crew.workers[0].process.pid, None, 1)
        assert crew.desk.restarts == 2


async def test_a_channel_that_fails_is_an_error_of_its_worker(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        mad = crew.workers[1]
        await mad.say(b"what?\n")
        await crew.wait_born(3)
        line = only(crew.logbook, "worker's channel failed")
        assert (line["level"], line["worker"], line["pid"]) == ("error", mad.number, mad.process.pid)
        assert line["error"] == "not JSON"
        assert mad.process.signals == [signal.SIGKILL]


async def test_a_worker_whose_channel_is_broken_is_told_of_the_end_all_the_same(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def order(_name: str) -> None:
        await trio.lowlevel.checkpoint()
        raise GoneError

    async with open_crew() as crew:
        deaf = crew.workers[0]
        monkeypatch.setattr(deaf.channel, "order", order)
        crew.stop.set()
        await trio.testing.wait_all_tasks_blocked()
        assert deaf.process.signals == [signal.SIGTERM]
        deaf.process.end(-signal.SIGTERM)
        await crew.wait_stopped()
        assert (crew.code, crew.said()) == (0, [])


async def test_each_worker_is_followed_while_somebody_watches(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        assert [handle.status for handle in crew.desk.handles.values()] == [None, None]
        crew.desk.watch(True)
        await trio.testing.wait_all_tasks_blocked()
        assert None not in [handle.status for handle in crew.desk.handles.values()]


async def test_a_silence_is_told_when_it_begins_when_it_ends_and_when_it_is_enough(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        silent = crew.workers[0]
        who = {"worker": silent.number, "pid": silent.process.pid}
        silent.hang()
        await trio.sleep((SILENT + 2) * LAP)
        assert only(crew.logbook, "worker does not answer") == {"level": "warn", **who, "seconds": SILENT * LAP}
        silent.wake()
        await trio.testing.wait_all_tasks_blocked()
        assert only(crew.logbook, "worker answers again") == {"level": "info", **who}
        silent.hang()
        await crew.wait_born(3)
        assert only(crew.logbook, "worker hangs, killing it") == {"level": "error", **who, "seconds": HANGS * LAP}
        assert len(crew.logbook.said("worker does not answer")) == 2
        assert len(crew.logbook.said("worker answers again")) == 1


async def test_a_drain_that_does_not_end_is_an_error(autojump_clock: MockClock) -> None:
    async with open_crew(patience=30) as crew:
        crew.workers[0].busy = True
        crew.stop.set()
        await crew.wait_stopped()
        assert only(crew.logbook, "workers did not drain in time") == {"level": "error"}
        assert only(crew.logbook, "stopped") == {"level": "info", "code": 1}


@pytest.mark.parametrize(
    ("codes", "code"),
    [([0, 0], 0), ([0, -signal.SIGTERM], 0), ([-signal.SIGTERM, 1], 1), ([3, 0], 1), ([-signal.SIGKILL, 0], 1)],
)
async def test_the_worst_end_of_a_drain_is_the_daemons(codes: list[int], code: int, autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        for worker in crew.workers:
            worker.busy = True
        crew.stop.set()
        await trio.testing.wait_all_tasks_blocked()
        for worker, own in zip(crew.workers, codes, strict=True):
            worker.process.end(own)
            await trio.testing.wait_all_tasks_blocked()
        await crew.wait_stopped()
        assert (crew.code, crew.said()) == (code, [])


async def test_one_that_lived_long_is_replaced_as_after_a_first_death(autojump_clock: MockClock) -> None:
    """And the next one, which did not, is not held against it."""
    async with open_crew() as crew:
        waits = []
        for lived in (LIVED, LIVED - 1, LIVED, 0.0):
            await trio.sleep(crew.workers[-1].born + lived - trio.current_time())
            died = trio.current_time()
            crew.workers[-1].process.end(1)
            await crew.wait_born(len(crew.workers) + 1)
            waits.append(trio.current_time() - died)
        ceilings = [RESTART.base, 2 * RESTART.base, RESTART.base, 2 * RESTART.base]
        assert all(ceiling / 2 <= wait <= ceiling for wait, ceiling in zip(waits, ceilings, strict=True)), waits


async def test_a_place_is_vacant_from_the_end_of_the_first_that_left_it(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        left = crew.workers[1]
        crew.workers[0].process.end(1)
        start = trio.current_time()
        successor = await crew.wait_born(3)
        await trio.sleep(start + REPLACING - 1 - trio.current_time())
        successor.process.end(1)
        await trio.sleep(start + REPLACING + 0.25 - trio.current_time())
        assert left.member.unready() == BUSY


async def test_before_all_were_ready_no_place_is_vacant(autojump_clock: MockClock) -> None:
    async with open_crew(ready=False) as crew:
        await crew.workers[1].ready()
        crew.workers[0].process.end(0)
        await trio.testing.wait_all_tasks_blocked()
        assert crew.workers[1].member.unready() == BUSY


async def test_where_all_are_replaced_nobody_serves(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        for worker in crew.workers[:2]:
            worker.process.end(1)
        successor = await crew.wait_born(3)
        await trio.testing.wait_all_tasks_blocked()
        assert successor.member.unready() == BUSY
        assert not successor.member.stands_in()


async def test_cancelled_before_anybody_has_spoken_it_kills(autojump_clock: MockClock) -> None:
    async with open_crew(ready=False, mute=[0, 1]) as crew:
        start = trio.current_time()
        crew.scope.cancel()
        assert await crew.wait_stopped() == start
        assert [worker.process.signals for worker in crew.workers] == [[signal.SIGKILL]] * 2


async def test_cancelled_one_that_is_silent_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        crew.workers[0].hang()
        await trio.sleep((SILENT + 1.5) * LAP)
        start = trio.current_time()
        crew.scope.cancel()
        assert await crew.wait_stopped() == start
        assert crew.workers[0].process.signals == [signal.SIGKILL]
        assert crew.workers[1].process.signals == []


async def test_a_process_that_not_even_a_kill_ends_is_not_waited_for_for_ever(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_crew() as crew:
        stuck = crew.workers[0].process
        monkeypatch.setattr(stuck, "kill", lambda: stuck.signals.append(signal.SIGKILL))
        crew.workers[0].reluctant = True
        start = trio.current_time()
        crew.scope.cancel()
        with trio.move_on_after(1000):
            await crew.stopped.wait()
        waited = trio.current_time() - start
        stuck.end(-signal.SIGKILL)
        assert waited == 2 * KILL_TIMEOUT
        assert stuck.signals == [signal.SIGKILL]


async def test_a_worker_that_ends_by_itself_is_sent_nothing(autojump_clock: MockClock) -> None:
    async with open_crew() as crew:
        crew.workers[0].process.end(0)
        await crew.wait_born(3)
        assert crew.workers[0].process.signals == []


async def test_without_a_generator_the_jitter_is_the_systems() -> None:
    crew = Crew(1, 1.0)
    supervisor = Supervisor(crew._spawn, 1, 1.0, Logbook().log, Desk())
    assert isinstance(supervisor._rng, random.SystemRandom)
    await trio.lowlevel.checkpoint()
