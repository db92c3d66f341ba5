"""The board: what is counted, when it is new, and that no source can spoil it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema
import pytest
import trio
import trio.testing

from opsd.board import COALESCE, SnapshotError
from opsd.endpoints import MOST_EVENTS
from opsd.events import MODE, TELEMETRY, Topic
from opsd.schema import SCHEMA
from tests.support.opsd_board import HandSource, daemons, open_board
from tests.support.opsd_telemetry import Telemetry, answering, encoded, endless, event, hang, telemetry, worker

if TYPE_CHECKING:
    from trio.testing import MockClock

    from opsd.board import Board

VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def answers(total: int, errors: int = 0, seconds: float = 0.0, in_flight: int = 0) -> dict[str, object]:
    return {"total": total, "server_errors": errors, "seconds": seconds, "in_flight": in_flight}


def counted(total: int, errors: int = 0, **changes: object) -> dict[str, object]:
    return telemetry({"1": worker(answers=answers(total, errors), **changes)})


def mode(board: Board) -> str:
    return board.status.vector.directions.traffic_mode


def unavailable(board: Board) -> tuple[str, ...]:
    return board.status.meta.unavailable


# -- figures -----------------------------------------------------------------------------------------------------------


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


# -- rates -------------------------------------------------------------------------------------------------------------


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


# -- modes and events --------------------------------------------------------------------------------------------------


def changes(board: Board, kind: str) -> list[tuple[str, str, str]]:
    """The events of a kind, oldest first: the source, from what, to what."""
    return [
        (str(item.get("source", "")), str(item["from"]), str(item["to"]))
        for item in reversed(board.events())
        if item["kind"] == kind
    ]


async def test_the_mode_changes_after_two_ticks_whatever_is_pushed_between(autojump_clock: MockClock) -> None:
    a = HandSource("a")
    async with open_board([a]) as (board, logbook):
        a.shows(counted(0, uptime=9e5))
        await trio.sleep(0.5)
        # Many pushes are not many samples.
        for n in range(1, 20):
            a.shows(counted(5 * n, 3 * n, uptime=9e5))
            await trio.sleep(0.021)
            assert mode(board) == "normal"
        await trio.sleep(0.2)
        assert mode(board) == "normal"
        await trio.sleep(1)
        assert mode(board) == "isolated"
        a.shows(counted(228, 57, uptime=9e5))
        await trio.sleep(2)
        assert mode(board) == "degraded"
        await trio.sleep(65)
        assert mode(board) == "normal"
        assert board.status.vector.others.error_rate == pytest.approx(57 / 228), "that of five minutes"
        wanted = [("", "normal", "isolated"), ("", "isolated", "degraded"), ("", "degraded", "normal")]
        assert changes(board, "mode") == wanted
        assert [line["after"] for line in logbook.said("traffic mode changed")] == ["isolated", "degraded", "normal"]


async def test_an_outage_of_a_busy_daemon_shows_within_five_seconds(autojump_clock: MockClock) -> None:
    a, b = HandSource("a"), HandSource("b")
    async with open_board([a, b]) as (board, _):
        for second in range(90):
            a.shows(counted(1000 * second, uptime=9e5))
            b.shows(counted(1000 * second, uptime=9e5))
            await trio.sleep(1)
        assert mode(board) == "normal"
        # For one second, each refuses whoever comes: three users.
        down = trio.current_time()
        a.shows(counted(89_003, 3, uptime=9e5, ready=False))
        b.shows(counted(89_003, 3, uptime=9e5, ready=False))
        while mode(board) != "isolated":
            assert trio.current_time() - down <= 5
            await board.wait_newer(board.version)
        assert board.status.vector.others.error_rate < 0.001


async def test_probes_and_silence_end_no_outage(autojump_clock: MockClock) -> None:
    a = HandSource("a")
    async with open_board([a]) as (board, _):
        a.shows(counted(0, uptime=9e5))
        await trio.sleep(2)
        a.shows(counted(34, 34, uptime=9e5, ready=False, redis="waiting"))
        await trio.sleep(3)
        assert mode(board) == "isolated"
        # Nobody comes for an hour but probes, which no daemon counts; a conversation ends.
        for second in range(3600):
            if second == 100:
                a.shows(counted(34, 34, uptime=9e5, ready=False, disconnects={"client_closed": 1}))
            await trio.sleep(1)
            assert mode(board) == "isolated"
        # Redis is back: the daemon would serve whoever comes.
        a.shows(counted(34, 34, uptime=9e5, disconnects={"client_closed": 1}))
        await trio.sleep(3)
        assert mode(board) == "normal"


async def test_a_user_who_is_served_is_proof_whoever_is_away(autojump_clock: MockClock) -> None:
    a, b = HandSource("a"), HandSource("b")
    async with open_board([a, b]) as (board, _):
        a.shows(counted(0, uptime=9e5))
        b.fails()
        await trio.sleep(2)
        a.shows(counted(5, 5, uptime=9e5))
        await trio.sleep(70)
        assert mode(board) == "isolated"
        a.shows(counted(6, 5, uptime=9e5))
        await trio.sleep(3)
        assert mode(board) == "normal"


async def test_a_mode_of_before_goes_on_until_there_is_proof(autojump_clock: MockClock) -> None:
    a = HandSource("a")
    async with open_board([a]) as (board, _):
        board.resume_mode("isolated")
        assert board.conditions[MODE] == "isolated"
        a.fails()
        await trio.sleep(100)
        assert mode(board) == "isolated"
        a.shows()
        await trio.sleep(3)
        assert mode(board) == board.conditions[MODE] == "normal"
        assert changes(board, "mode") == [("", "isolated", "normal")]
        board.resume_mode("isolated")
        await trio.sleep(3)
        assert mode(board) == "normal", "it knows better"


async def test_changes_of_sources_workers_and_telemetry_are_events_but_the_start_is_none(
    autojump_clock: MockClock,
) -> None:
    a, b = HandSource("a"), HandSource("b")
    async with open_board([a, b]) as (board, logbook):
        assert Topic("source", "a") not in board.conditions, "not asked yet"
        a.shows()
        await trio.sleep(1)
        b.fails()
        await trio.sleep(1)
        assert board.events() == []
        assert board.conditions == {
            TELEMETRY: "degraded",
            Topic("source", "a"): "up",
            Topic("workers", "a"): "ready",
            Topic("source", "b"): "down",
        }, "and nothing of the mode: nobody came, and not everybody would have been served"
        b.shows()
        await trio.sleep(1)
        a.shows(telemetry({"1": worker(ready=False, redis="waiting")}))
        await trio.sleep(1)
        a.fails()
        await trio.sleep(1)
        b.fails()
        await trio.sleep(1)
        a.shows()
        await trio.sleep(1)
        assert changes(board, "source") == [
            ("b", "down", "up"),
            ("a", "up", "down"),
            ("b", "up", "down"),
            ("a", "down", "up"),
        ]
        assert changes(board, "workers") == [("a", "ready", "0 of 1 ready"), ("a", "0 of 1 ready", "ready")]
        assert changes(board, "telemetry") == [
            ("", "degraded", "healthy"),
            ("", "healthy", "degraded"),
            ("", "degraded", "offline"),
            ("", "offline", "degraded"),
        ]
        assert [line["source"] for line in logbook.said("source online")] == ["a", "b", "a"]
        assert [line["source"] for line in logbook.said("source unavailable")] == ["b", "a", "b"]
        assert [line["after"] for line in logbook.said("workers changed")] == ["0 of 1 ready", "ready"]


async def test_how_each_source_is(autojump_clock: MockClock) -> None:
    a, b, outside = HandSource("a"), HandSource("b"), HandSource("workers", outside=True)
    async with open_board([a, b, outside]) as (board, _):
        a.shows(telemetry({"1": worker(), "2": worker(pid=2, redis="waiting", ready=False)}))
        b.fails()
        outside.shows({"connected": 3})
        await trio.sleep(0.1)
        first, second, third = board.sources()
        assert first == {
            "name": "a",
            "outside": False,
            "available": True,
            "draining": False,
            "problem": "",
            "ready": 1,
            "workers": 2,
            "redis": "waiting",
        }
        assert (second["available"], second["problem"], second["redis"]) == (False, "gone", None)
        assert (third["outside"], third["ready"], third["redis"]) == (True, 3, None)


async def test_events_are_capped(autojump_clock: MockClock) -> None:
    a = HandSource("a")
    async with open_board([a]) as (board, _):
        for n in range(MOST_EVENTS + 50):
            a.fails(answers=n % 2 == 0)
            await trio.sleep(0.03)
        assert len(board.events()) == MOST_EVENTS


# -- versions ----------------------------------------------------------------------------------------------------------


async def test_a_change_makes_a_new_version_at_once_and_a_burst_few(autojump_clock: MockClock) -> None:
    a = HandSource("a")
    async with open_board([a]) as (board, _):
        await trio.sleep(0.5)
        version, begun = board.version, trio.current_time()
        a.shows()
        assert await board.wait_newer(version) == version + 1
        assert trio.current_time() == begun
        for n in range(100):
            a.shows(telemetry({"1": worker(connections=n)}))
            await trio.sleep(0.001)
        assert board.version - version <= 2 + 0.1 / COALESCE
        await trio.sleep(COALESCE)
        assert board.status.vector.sessions.websocket_connections == 99


async def test_there_is_a_new_version_each_second_whatever_happens(autojump_clock: MockClock) -> None:
    async with open_board([HandSource("a")]) as (board, _):
        for _ in range(10):
            version, body = board.version, board.body
            with trio.fail_after(1.01):
                await board.wait_newer(version)
            assert board.body is not body
            assert board.body is board.body


async def test_tmux_sessions_are_a_change_only_when_they_change(autojump_clock: MockClock) -> None:
    async with open_board([]) as (board, _):
        await trio.sleep(0.1)
        version = board.version
        board.tmux_sessions = 0
        await trio.sleep(0.1)
        assert board.version == version
        board.tmux_sessions = 2
        await trio.sleep(0.01)
        assert board.version == version + 1
        assert board.tmux_sessions == board.status.vector.sessions.tmux == 2


# -- no source spoils it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hang", "500", "garbage", "half", "flood", "down", "push garbage", "push flood"])
async def test_one_bad_source_neither_delays_nor_spoils_the_others(autojump_clock: MockClock, name: str) -> None:
    good = Telemetry(pushes=True)
    bad = Telemetry(pushes=name.startswith("push"))
    if name == "down":
        bad.up = False
    else:
        bad.status = {
            "hang": hang,
            "500": answering(500),
            "garbage": answering(200, b"{]"),
            "half": answering(200, encoded(telemetry())[:50]),
            "flood": endless(b"[" * 65536),
            "push garbage": answering(500),
            "push flood": answering(500),
        }[name]
    async with open_board(daemons({"bad": bad, "good": good})) as (board, _):
        await trio.sleep(0.2)
        for count in range(60):
            if name == "push garbage" and not bad.streams[-1].ended:
                bad.streams[-1].send(b"data: " + b"\xff" * 1000)
                bad.streams[-1].send(b"\n\n\n\nevent: status\ndata: NaN\n\n")
            if name == "push flood" and not bad.streams[-1].ended:
                bad.streams[-1].send(b"x" * 300_000)
            if count % 3:
                good.document = telemetry({"1": worker(connections=count)})
                good.streams[-1].send(event(good.document))
                sent = trio.current_time()
                while board.status.vector.sessions.websocket_connections != count:
                    await board.wait_newer(board.version)
                assert trio.current_time() - sent <= COALESCE
            await trio.sleep(0.33)
        assert unavailable(board) == ("bad",)
        assert board.status.vector.sessions.active_workers == 1
        bad.up, bad.status, bad.pushes = True, None, True
        await trio.sleep(5.2 if name == "hang" else 1.1)
        assert unavailable(board) == ()
        VALIDATOR.validate(json.loads(board.body))


async def test_daemons_that_come_and_go_at_random_leave_a_valid_status(autojump_clock: MockClock) -> None:
    servers = {"statusd": Telemetry(pushes=True), "preflightd": Telemetry(pushes=True)}
    async with open_board(daemons(servers)) as (board, logbook):
        for step in range(200):
            server = servers["statusd" if step % 3 else "preflightd"]
            server.crash() if server.up else setattr(server, "up", True)
            await trio.sleep(0.17 + step % 7 / 10)
            VALIDATOR.validate(json.loads(board.body))
        for server in servers.values():
            server.up = True
        await trio.sleep(1.1)
        assert unavailable(board) == ()
        assert not logbook.at_least("error")


async def test_a_bug_in_a_source_costs_its_figures_for_a_second(autojump_clock: MockClock) -> None:
    class Broken(HandSource):
        runs = 0

        async def run(self, changed: object) -> None:
            self.runs += 1
            raise KeyError(changed)

    broken, good = Broken("broken"), HandSource("good")
    async with open_board([broken, good]) as (board, logbook):
        good.shows()
        await trio.sleep(3.5)
        assert board.status.vector.sessions.active_workers == 1
        assert broken.runs == 4
        assert len(logbook.said("source failed")) == 4


# -- workers and snapshots ---------------------------------------------------------------------------------------------


async def test_workers_of_all_sources_have_ids_that_a_snapshot_can_be_had_by(autojump_clock: MockClock) -> None:
    sources = [HandSource("a"), HandSource("a-1"), HandSource("workers", outside=True)]
    async with open_board(sources) as (board, _):
        sources[0].shows()
        sources[1].shows()
        sources[2].shows({"connected": 1, "workers": {"1": worker()}})
        listed = board.workers()
        assert [(item["id"], item["source"]) for item in listed] == [
            ("a-1", "a"),
            ("a-1-1", "a-1"),
            ("workers-1", "workers"),
        ]
        assert listed[0]["connections"] == 2
        for item in listed:
            snapshot = await board.snapshot(str(item["id"]))
            assert snapshot.body == f"{item['source']}/1".encode()
            assert snapshot.filename.startswith(f"{item['id']}-2")
            assert snapshot.filename.endswith("Z.json")


@pytest.mark.parametrize(
    "name", ["", "a", "a-", "b-1", "a-../x", "a-..", "a-1/2", "a-1\n", "a-" + "1" * 65, "A-1", "a-é"]
)
async def test_there_is_no_snapshot_of_what_is_no_worker(autojump_clock: MockClock, name: str) -> None:
    async with open_board([HandSource("a")]) as (board, _):
        with pytest.raises(SnapshotError) as caught:
            await board.snapshot(name)
        assert caught.value.status == 404
