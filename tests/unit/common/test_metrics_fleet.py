"""What the figures of several workers become as one: ready, workers, notifications (SPEC 2, WORKERS; SPEC 4)."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import trio
import trio.testing

from common.exposition import Report, Reporter, from_json, last_words, merge, to_json
from common.histogram import Histogram
from common.metrics import Counters, DaemonCollector, Gauges, HashFigures, supervised
from common.workers.worker_handle import HANGS, LAP, SILENT
from tests.support.crew import open_crew

if TYPE_CHECKING:
    from trio.testing import MockClock

    from common.labels import Notifications


def report(
    *,
    ready: bool = True,
    redis_up: bool = True,
    draining: bool = False,
    notifications: Notifications = "on",
    connections: int = 0,
) -> Report:
    """What one worker of two says."""
    gauges = Gauges(
        connections_active=connections,
        backlog_bytes=0,
        topics_active=0,
        ready=ready,
        draining=draining,
        workers=2,
        redis_up=redis_up,
        redis_reconnects=int(redis_up),
        redis_timeouts=0,
        redis_round_trips=Histogram(),
        client_round_trips=Histogram(),
        origin_check_disabled=True,
    )
    counters = Counters(hashes=HashFigures(notifications=notifications, reads=Histogram()))
    return Reporter(DaemonCollector("preflight2", "messages_sent", counters, lambda: gauges)).report()


def values(*reports: Report) -> dict[str, float]:
    """The daemon's own samples; a label's value stands behind the name."""
    return {
        " ".join([name.removeprefix("preflight2_"), *(value for _, value in labels)]): value
        for family in merge(reports)
        for name, labels, value in family.samples
        if name.startswith("preflight2_")
    }


def test_the_daemon_is_as_ready_as_the_worker_says_that_sees_most_of_it() -> None:
    assert values(report(), report())["ready"] == 1
    # One that is being started says so of itself; the other one knows whether it counts.
    assert values(report(), report(ready=False, redis_up=False))["ready"] == 1
    assert values(report(ready=False), report(ready=False, redis_up=False))["ready"] == 0


def test_workers_are_counted_and_wanted_once() -> None:
    found = values(report(), report(), supervised("preflight2", 0))
    assert (found["workers"], found["workers_ready"], found["workers_restarted_total"]) == (2, 2, 0)
    found = values(report(), report(redis_up=False), supervised("preflight2", 3))
    assert (found["workers"], found["workers_ready"], found["workers_restarted_total"]) == (2, 1, 3)


def test_one_that_drains_is_not_ready_and_drains_for_all() -> None:
    found = values(report(), report(ready=False, draining=True))
    assert (found["draining"], found["workers_ready"]) == (1, 1)


def test_one_that_does_not_answer_is_ready_for_nothing_but_holds_what_it_held() -> None:
    silent = last_words(report(connections=5))
    found = values(silent)
    assert (found["ready"], found["workers_ready"], found["connections_active"], found["redis_up"]) == (0, 0, 5, 1)
    found = values(silent, report(ready=False, connections=2))
    assert (found["ready"], found["workers_ready"], found["connections_active"]) == (0, 1, 7)


def test_notifications_count_the_workers_that_know_so() -> None:
    found = values(report(notifications="on"), report(notifications="off"), report(notifications="on"))
    assert {state: found[f"notifications {state}"] for state in ("on", "off", "unknown")} == {
        "on": 2,
        "off": 1,
        "unknown": 0,
    }


def test_no_first_connection_of_a_worker_is_a_recovery() -> None:
    found = values(report(), report(), report(redis_up=False))
    assert (found["redis_reconnects_total"], found["redis_recoveries_total"]) == (2, 0)


def test_it_all_survives_the_json_channel() -> None:
    original = report()
    assert from_json(json.loads(json.dumps(to_json(original)))) == original


async def test_the_parent_counts_those_that_took_the_place_of_another(autojump_clock: MockClock) -> None:
    async with open_crew(own_report=lambda restarted: supervised("status2", restarted)) as crew:

        async def restarted() -> float:
            (family,) = await crew.desk.report()
            ((_, _, number),) = family.samples
            return number

        assert await restarted() == 0
        for deaths in range(1, 4):
            crew.workers[-1].process.end(-signal.SIGKILL)
            await trio.testing.wait_all_tasks_blocked()
            assert await restarted() == deaths - 1, "nobody has taken its place yet"
            await (await crew.wait_born(2 + deaths)).ready()
            assert await restarted() == deaths


async def test_the_parent_does_not_believe_that_a_silent_worker_is_ready(autojump_clock: MockClock) -> None:
    async with open_crew(own_report=lambda _: (), figures=report) as crew:
        # The figures are asked for once, so that there are some that might be believed.
        assert values(await crew.desk.report())["workers_ready"] == 2
        crew.workers[1].hang()
        await trio.sleep((SILENT + 2) * LAP - LAP / 2)
        assert values(await crew.desk.report())["workers_ready"] == 1
        assert SILENT + 2 < HANGS
