"""opsd's series: what is there from the start, and the counter that never falls (opsd/prometheus.py, opsd/cpu.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from common.telemetry.parse import MOST_WORKERS, parse_status
from opsd.alerts import Outcomes
from opsd.cpu import CpuTime
from opsd.prometheus import Beside, expose
from tests.support.opsd_board import HandSource, open_board
from tests.support.opsd_telemetry import encoded, telemetry, worker

if TYPE_CHECKING:
    from trio.testing import MockClock

    from common.telemetry.values import WorkerStatus
    from opsd.board import Board


def series(board: Board) -> dict[str, dict[str, float]]:
    """Sample name -> label's value, empty without one -> number."""
    beside = Beside(history_up=True, cpu_seconds=board.cpu_seconds, sources=board.source_names, alerts=Outcomes())
    body, _ = expose(board.status, beside, "", process=False)
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})["".join(sample.labels.values())] = sample.value
    return found


async def test_every_source_has_its_series_from_the_start(autojump_clock: MockClock) -> None:
    statusd, preflightd = HandSource("statusd"), HandSource("preflightd")
    async with open_board([statusd, preflightd]) as (board, _):
        assert series(board)["opsd_source_unavailable"] == {"statusd": 1, "preflightd": 1}
        statusd.shows()
        await trio.sleep(1)
        assert series(board)["opsd_source_unavailable"] == {"statusd": 0, "preflightd": 1}
        statusd.fails()
        preflightd.shows()
        await trio.sleep(1)
        assert series(board)["opsd_source_unavailable"] == {"statusd": 1, "preflightd": 0}


async def test_the_cpu_time_never_falls(autojump_clock: MockClock) -> None:
    source = HandSource("statusd")
    outside = HandSource("elsewhere", outside=True)
    async with open_board([source, outside]) as (board, _):

        async def cpu_when(*workers: dict[str, object]) -> float:
            source.shows(telemetry({str(number): worker for number, worker in enumerate(workers)}))
            await trio.sleep(1)
            return series(board)["opsd_cpu_seconds_total"][""]

        outside.shows(telemetry({"1": worker(cpu=1000.0)}))
        assert await cpu_when(worker(pid=1, cpu=10.0), worker(pid=2, cpu=5.0)) == 15
        assert await cpu_when(worker(pid=1, cpu=11.0)) == 16, "a worker is gone"
        source.fails()
        await trio.sleep(1)
        assert series(board)["opsd_cpu_seconds_total"][""] == 16, "the daemon is away"
        assert await cpu_when(worker(pid=1, cpu=13.0)) == 18, "the same process goes on"
        assert await cpu_when(worker(pid=1, start="2027-01-01T00:00:00Z", cpu=1.0)) == 19, "another with its number"


def status(pid: int, cpu: float) -> WorkerStatus:
    (found,) = parse_status(encoded(telemetry({"1": worker(pid=pid, cpu=cpu)}))).workers
    return found


@given(st.lists(st.lists(st.tuples(st.integers(1, 4), st.floats(0, 1e6)), max_size=4), max_size=20))
def test_whatever_sources_say_it_only_grows(said: list[list[tuple[int, float]]]) -> None:
    time = CpuTime()
    highest: dict[int, float] = {}
    for workers in said:
        before = time.seconds
        time.feed("statusd", [status(pid, cpu) for pid, cpu in workers])
        assert time.seconds >= before
        for pid, cpu in workers:
            highest[pid] = max(highest.get(pid, 0.0), cpu)
    assert time.seconds == pytest.approx(sum(highest.values()))


def test_a_source_with_new_processes_all_the_time_is_not_remembered_for_ever() -> None:
    time = CpuTime()
    for pid in range(3 * MOST_WORKERS):
        time.feed("statusd", [status(pid, 1.0)])
    assert time.seconds == 3 * MOST_WORKERS
    assert sum(map(len, time._seen.values())) == MOST_WORKERS
