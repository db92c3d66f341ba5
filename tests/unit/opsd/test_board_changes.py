"""What the board says has changed: the traffic mode, sources, workers, the telemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from opsd.endpoints import MOST_EVENTS
from opsd.events import MODE, TELEMETRY, EventTopic
from tests.support.opsd_board import HandSource, counted, mode, open_board
from tests.support.opsd_telemetry import telemetry, worker

if TYPE_CHECKING:
    from trio.testing import MockClock

    from opsd.board import Board


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
        assert EventTopic("source", "a") not in board.conditions, "not asked yet"
        a.shows()
        await trio.sleep(1)
        b.fails()
        await trio.sleep(1)
        assert board.events() == []
        assert board.conditions == {
            TELEMETRY: "degraded",
            EventTopic("source", "a"): "up",
            EventTopic("workers", "a"): "ready",
            EventTopic("source", "b"): "down",
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
