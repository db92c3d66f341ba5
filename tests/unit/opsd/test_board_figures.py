"""The board's figures: what is counted, over which time, over restarts and absences."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.support.opsd_board import VALIDATOR, HandSource, answers, counted, open_board, unavailable
from tests.support.opsd_telemetry import telemetry, worker

if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_figures_are_over_all_daemons(autojump_clock: MockClock) -> None:
    a, b, outside = HandSource("a"), HandSource("b"), HandSource("workers", outside=True)
    async with open_board([a, b, outside]) as (board, _):
        a.shows(telemetry({"1": worker(answers=answers(5, in_flight=2), uptime=5), "2": worker(connections=7)}))
        b.shows(telemetry({"1": worker(uptime=100, connections=1)}))
        outside.shows({"connected": 4})
        board.tmux_sessions = 3
        board.request_started()
        await trio.sleep(1)
        vector, meta = board.status.vector, board.status.meta
        sessions, flow, others = vector.sessions, vector.directions.request_flow, vector.others
        assert (sessions.tmux, sessions.active_workers) == (3, 7)
        assert (sessions.api_sessions, sessions.websocket_connections) == (3, 10)
        assert (flow.total_routes, flow.active_routes, meta.total_endpoints) == (18, 18, 18)
        assert (others.memory, others.cpu, others.uptime) == (3000, 4500, 100.0)
        assert (meta.telemetry_status, meta.unavailable) == ("healthy", ())
        VALIDATOR.validate(json.loads(board.body))
        assert json.loads(board.body) == board.status.document()


async def test_a_source_that_goes_has_no_figures_but_its_routes_are_remembered(autojump_clock: MockClock) -> None:
    a, b = HandSource("a"), HandSource("b")
    async with open_board([a, b]) as (board, _):
        a.shows()
        b.shows()
        await trio.sleep(1)
        a.fails()
        await trio.sleep(0.1)
        vector, meta = board.status.vector, board.status.meta
        assert vector.sessions.active_workers == 1
        assert vector.sessions.websocket_connections == 2
        assert vector.others.memory == 1000
        assert (vector.directions.request_flow.total_routes, vector.directions.request_flow.active_routes) == (18, 14)
        assert meta.unavailable == ("a",)
        assert [item["id"] for item in board.workers()] == ["b-1"]
        b.fails()
        await trio.sleep(0.1)
        assert unavailable(board) == ("a", "b")
        assert (board.status.vector.others.memory, board.status.vector.others.uptime) == (0, 0.0)


@pytest.mark.parametrize(
    ("a", "outside", "status"),
    [
        ("up", "up", "healthy"),
        # Healthy is calm: not while anybody is away, or anybody is not ready.
        ("up", "down", "degraded"),
        ("up", "error", "degraded"),
        ("up", "empty", "degraded"),
        ("unready", "up", "degraded"),
        ("empty", "down", "degraded"),
        ("error", "down", "degraded"),
        ("empty", "up", "degraded"),
        ("down", "empty", "degraded"),
        ("down", "error", "degraded"),
        ("down", "down", "offline"),
    ],
)
async def test_telemetry_status(autojump_clock: MockClock, a: str, outside: str, status: str) -> None:
    first, second = HandSource("a"), HandSource("workers", outside=True)
    async with open_board([first, second]) as (board, _):
        assert not board.ready
        for source, state, full in ((first, a, telemetry()), (second, outside, {"connected": 2})):
            empty = telemetry({}) if source is first else {"connected": 0}
            if state == "unready":
                source.shows(telemetry({"1": worker(), "2": worker(pid=2, ready=False)}))
            elif state in {"up", "empty"}:
                source.shows(full if state == "up" else empty)
            else:
                source.fails(answers=state == "error")
        await trio.sleep(0.1)
        assert board.status.meta.telemetry_status == status
        assert board.ready


async def test_without_any_source_it_is_offline_and_valid(autojump_clock: MockClock) -> None:
    async with open_board([]) as (board, _):
        await trio.sleep(1.5)
        assert board.status.meta.telemetry_status == "offline"
        assert board.ready
        VALIDATOR.validate(json.loads(board.body))


async def test_requests_and_latency_are_measured_over_a_minute(autojump_clock: MockClock) -> None:
    a = HandSource("a")
    async with open_board([a]) as (board, _):
        for second in range(130):
            a.shows(telemetry({"1": worker(answers=answers(100 + 10 * second, seconds=0.05 * second), uptime=9e5)}))
            # Ours are not what users get.
            board.request_started()
            board.request_ended()
            await trio.sleep(1)
        flow = board.status.vector.directions.request_flow
        assert flow.requests_per_second == pytest.approx(10, rel=0.03)
        assert flow.avg_latency == pytest.approx(5.0, rel=0.03)
        assert board.status.vector.sessions.api_sessions == 0
        await trio.sleep(61)
        assert board.status.vector.directions.request_flow.requests_per_second == 0


async def test_messages_a_second(autojump_clock: MockClock) -> None:
    a = HandSource("a")
    async with open_board([a]) as (board, _):
        for second in range(30):
            a.shows(telemetry({"1": worker(messages=20 * second, uptime=9e5)}))
            await trio.sleep(1)
        assert board.messages_per_second == pytest.approx(20, rel=0.12)


async def test_errors_are_counted_over_five_minutes_and_over_restarts(autojump_clock: MockClock) -> None:
    a = HandSource("a")
    async with open_board([a]) as (board, _):
        a.shows(counted(1000, 900, uptime=9e5))
        await trio.sleep(1)
        assert board.status.vector.others.error_rate == 0.0
        a.shows(counted(1010, 900, uptime=9e5, disconnects={"internal_error": 2, "client_closed": 8}))
        await trio.sleep(1)
        assert board.status.vector.others.error_rate == pytest.approx(0.1)
        a.fails()
        await trio.sleep(1)
        # What has happened has happened, though the one who told is gone.
        assert board.status.vector.others.error_rate == pytest.approx(0.1)
        a.shows(counted(20, 8, pid=5, uptime=0.5))
        await trio.sleep(1)
        assert board.status.vector.others.error_rate == pytest.approx(0.25)
        await trio.sleep(295)
        assert board.status.vector.others.error_rate > 0
        await trio.sleep(5)
        assert board.status.vector.others.error_rate == 0.0


async def test_what_a_daemon_counted_since_it_started_under_our_eyes_counts(autojump_clock: MockClock) -> None:
    a = HandSource("a")
    async with open_board([a]) as (board, _):
        await trio.sleep(10)
        a.shows(counted(50, uptime=3))
        await trio.sleep(0.1)
        assert board.status.vector.directions.request_flow.requests_per_second == pytest.approx(5, rel=0.1)
