"""The operator's connections: answers, events, limits, and what none of it can do (common/admin/server.py, feed.py)."""

from __future__ import annotations

import gzip
import itertools
import json
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from common.admin.access import Access
from common.admin.feed import PAUSE
from common.admin.server import ALIVE, HEAD_TIMEOUT, MAX_CONNECTIONS, RESTART, WRITE_TIMEOUT
from common.admin.source import SilentWorkerError
from common.exposition import Family
from common.secret import Secret
from tests.support.admin import ABOUT, LOOPBACK, Operator, open_admin, worker
from tests.support.web import read_answer

if TYPE_CHECKING:
    from trio.testing import MockClock

EPSILON = 1e-6
UP = (Family("up", "gauge", "Whether", (("up", (), 1.0),)),)


async def get(operator: Operator, path: str, *headers: tuple[str, str], method: str = "GET") -> tuple[int, bytes]:
    """Status and body of one request."""
    await operator.ask(path, headers, method=method)
    answer = read_answer(await operator.read_to_end(), method=method)
    return answer.status, answer.body


async def test_the_status_is_json_of_every_worker(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        admin.source.workers = (worker("1"), worker("2", connections=5))
        operator = admin.operator()
        await operator.ask("/workers/status")
        answer = read_answer(await operator.read_to_end())
        assert answer.headers["content-type"] == ["application/json"]
        assert answer.headers["cache-control"] == ["no-store"]
        document = json.loads(answer.body)
        assert (document["connected"], document["daemon"], document["draining"]) == (2, "statusd", False)
        assert tuple(document["routes"]) == ABOUT.routes
        assert document["workers"]["2"] == worker("2", connections=5).document()
        assert set(document["retired"]) >= {"answers", "disconnects", "messages"}


@pytest.mark.parametrize("path", ["/workers/status", "/metrics", "/workers/snapshot/1"])
async def test_head_is_get_without_its_body(path: str, autojump_clock: MockClock) -> None:
    async with open_admin(report=UP) as admin:
        admin.source.snapshots["1"] = gzip.compress(b"{}")
        asked, headed = admin.operator(), admin.operator()
        await asked.ask(path)
        await headed.ask(path, method="HEAD")
        full = read_answer(await asked.read_to_end())
        head = read_answer(await headed.read_to_end(), method="HEAD")
        assert full.body
        assert not head.body
        assert head.status == full.status == 200
        assert head.headers["content-length"] == full.headers["content-length"] == [str(len(full.body))]


async def test_head_of_the_events_ends_at_once(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        operator = admin.operator()
        await operator.ask("/events", method="HEAD")
        answer = await operator.read_to_end()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\n")
        assert b"\r\nContent-Type: text/event-stream\r\n" in answer
        assert admin.source.watched == 0


async def test_a_snapshot_is_gzipped_for_those_who_take_it(autojump_clock: MockClock) -> None:
    text = json.dumps({"connections": list(range(100_000))}).encode()
    async with open_admin() as admin:
        admin.source.snapshots["2"] = gzip.compress(text)
        zipped, plain = admin.operator(), admin.operator()
        await zipped.ask("/workers/snapshot/2", [("Accept-Encoding", "br, gzip")])
        answer = read_answer(await zipped.read_to_end())
        assert answer.headers["content-encoding"] == ["gzip"]
        assert answer.headers["content-type"] == ["application/json"]
        assert answer.headers["vary"] == ["Accept-Encoding"]
        (disposition,) = answer.headers["content-disposition"]
        assert disposition.startswith('attachment; filename="statusd-2-')
        assert disposition.endswith('Z.json"')
        assert gzip.decompress(answer.body) == text
        await plain.ask("/workers/snapshot/2")
        answer = read_answer(await plain.read_to_end())
        assert "content-encoding" not in answer.headers
        assert answer.body == text


async def test_a_snapshot_that_cannot_be_had(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        admin.source.snapshots["2"] = SilentWorkerError()
        assert (await get(admin.operator(), "/workers/snapshot/1"))[0] == 404
        assert (await get(admin.operator(), "/workers/snapshot/2"))[0] == 504


async def test_metrics_are_served(autojump_clock: MockClock) -> None:
    async with open_admin(report=UP) as admin:
        status, body = await get(admin.operator(), "/metrics")
        assert status == 200
        assert b"\nup 1.0\n" in body


async def test_requests_are_logged_for_debugging_and_refusals_for_everybody(autojump_clock: MockClock) -> None:
    async with open_admin(Access(LOOPBACK, Secret.literal("s3cret", "T"))) as admin:
        assert (await get(admin.operator(), "/workers/status"))[0] == 401
        assert (await get(admin.operator(), "/workers/status", ("Authorization", "Bearer s3cret")))[0] == 200
        (refused,) = admin.logbook.said("admin request refused")
        assert (refused["level"], refused["status"], refused["path"]) == ("info", 401, "/workers/status")
        (served,) = admin.logbook.said("admin request")
        assert (served["level"], served["status"]) == ("debug", 200)
        assert "s3cret" not in json.dumps(admin.logbook.lines)


@pytest.mark.parametrize(
    ("sent", "status"), [(b"GET / HTTP/1.1\r\nHost: x\r\nhalf", 408), (b"nonsense\r\n\r\n", 400), (b"", None)]
)
async def test_a_head_that_does_not_come_is_not_waited_for(
    sent: bytes, status: int | None, autojump_clock: MockClock
) -> None:
    async with open_admin() as admin:
        operator = admin.operator()
        started = trio.current_time()
        await operator.stream.send_all(sent)
        answer = await operator.read_to_end()
        assert trio.current_time() - started <= HEAD_TIMEOUT + EPSILON
        assert (read_answer(answer).status if answer else None) == status


async def test_connections_are_few_and_a_place_comes_free_again(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        idle = [admin.operator() for _ in range(MAX_CONNECTIONS)]
        await trio.testing.wait_all_tasks_blocked()
        assert read_answer(await admin.operator().read_to_end()).status == 503
        await idle[0].stream.aclose()
        await idle[0].ended.wait()
        assert (await get(admin.operator(), "/workers/status"))[0] == 200


async def test_a_bug_in_answering_ends_that_connection_only(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        admin.source.snapshots["1"] = ZeroDivisionError("bug")
        listener = admin.operator()
        await listener.ask("/events")
        await listener.head()
        await listener.event()
        assert (await get(admin.operator(), "/workers/snapshot/1"))[0] == 500
        assert "ZeroDivisionError" in admin.logbook.said("admin request failed")[0]["traceback"]
        admin.source.change(connections=9)
        assert (await listener.event()).data["workers"]["1"]["connections"] == 9


async def test_a_failure_of_the_whole_listener_is_logged_and_it_starts_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with open_admin() as admin:
        broken = admin.source.newest
        monkeypatch.setattr(admin.source, "newest", lambda: 1 / 0)
        monkeypatch.setattr(admin.source, "status", lambda: _status(broken()))
        listener = admin.operator()
        await listener.ask("/events")
        await listener.head()
        await listener.event()
        admin.source.change(connections=9)
        await trio.sleep(RESTART / 2)
        assert admin.logbook.said("operator's listener failed")
        monkeypatch.undo()
        await trio.sleep(RESTART)
        admin.source.change(connections=10)
        assert (await listener.event()).data["workers"]["1"]["connections"] == 10


async def _status(value: object) -> object:
    await trio.lowlevel.checkpoint()
    return value


# -- events ------------------------------------------------------------------------------------------------------------


async def test_the_status_comes_at_once_and_after_every_change(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        operator = admin.operator()
        started = trio.current_time()
        await operator.ask("/events")
        head = await operator.head()
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nContent-Type: text/event-stream\r\n" in head
        first = await operator.event()
        assert (first.name, first.time) == ("status", started)
        assert first.data == json.loads(admin.source.newest().render())
        for number in range(1, 4):
            await trio.sleep(1)
            admin.source.change(messages=number)
            changed = trio.current_time()
            event = await operator.event()
            assert event.data["workers"]["1"]["messages"] == number
            assert event.time - changed <= EPSILON, "the first change after a pause is told at once"


async def test_a_storm_of_changes_is_at_most_one_event_in_50_ms_and_the_last_is_told(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        operator = admin.operator()
        await operator.ask("/events")
        await operator.head()
        events = [await operator.event()]

        async def storm() -> None:
            for number in range(1, 1001):
                admin.source.change(messages=1000 + number)
                await trio.sleep(0.001)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(storm)
            while events[-1].data["workers"]["1"]["messages"] < 2000:
                events.append(await operator.event())
        gaps = [later.time - earlier.time for earlier, later in itertools.pairwise(events)]
        assert min(gaps) >= PAUSE - EPSILON
        assert max(gaps) <= PAUSE + 0.002
        assert len(events) <= 1 + 1.1 / PAUSE


async def test_silence_is_broken_by_a_comment(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        operator = admin.operator()
        await operator.ask("/events")
        await operator.head()
        times = [(await operator.event()).time]
        for _ in range(3):
            event = await operator.event()
            assert (event.name, event.data) == ("", "alive")
            times.append(event.time)
        assert [later - earlier for earlier, later in itertools.pairwise(times)] == pytest.approx([ALIVE] * 3)
        admin.source.change(connections=4)
        assert (await operator.event()).name == "status"


async def test_changes_are_noticed_only_while_somebody_listens(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        assert (admin.source.watching, admin.source.watched) == (False, 0)
        one, two = admin.operator(), admin.operator()
        for operator in (one, two):
            await operator.ask("/events")
            await operator.head()
            await operator.event()
        assert (admin.source.watching, admin.source.watched) == (True, 1)
        await one.stream.aclose()
        await one.ended.wait()
        assert (admin.source.watching, admin.source.watched) == (True, 1)
        admin.source.change(connections=8)
        assert (await two.event()).data["workers"]["1"]["connections"] == 8
        await two.stream.aclose()
        await two.ended.wait()
        assert (admin.source.watching, admin.source.watched) == (False, 1)
        again = admin.operator()
        await again.ask("/events")
        await again.head()
        await again.event()
        assert (admin.source.watching, admin.source.watched) == (True, 2)


async def test_a_change_while_the_first_status_is_asked_for_is_not_missed(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        admin.source.asked = trio.Event()
        operator = admin.operator()
        await operator.ask("/events")
        await trio.testing.wait_all_tasks_blocked()
        admin.source.change(connections=77)
        admin.source.asked.set()
        await operator.head()
        seen = await operator.event()
        while seen.data["workers"]["1"]["connections"] != 77:
            seen = await operator.event()
        assert seen.name == "status"


async def test_a_client_that_takes_nothing_is_dropped_and_delays_nobody(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        stalled, healthy = admin.operator(lockstep=True), admin.operator()
        for operator in (stalled, healthy):
            await operator.ask("/events")
        await healthy.head()
        await stalled.head()
        await healthy.event()
        await stalled.event()
        started = trio.current_time()
        for number in range(10):
            admin.source.change(messages=number)
            event = await healthy.event()
            assert event.data["workers"]["1"]["messages"] == number
        assert trio.current_time() - started < 1
        await stalled.ended.wait()
        assert trio.current_time() - started <= WRITE_TIMEOUT + PAUSE + EPSILON
        assert [line["reason"] for line in admin.logbook.said("admin client dropped")] == ["takes nothing"]
        assert admin.source.watching, "the other one listens still"


async def test_an_answer_that_nobody_takes_is_given_up(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        operator = admin.operator(lockstep=True)
        await operator.ask("/workers/status")
        await operator.ended.wait()
        assert trio.current_time() > 0
        assert admin.logbook.said("admin client gone")
