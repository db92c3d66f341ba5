"""The events of the operator's listener: when they come, and to whom (common/admin/feed.py, server.py)."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from common.admin.feed import PAUSE
from common.admin.server import ALIVE, WRITE_TIMEOUT
from tests.support.admin import open_admin

if TYPE_CHECKING:
    from trio.testing import MockClock

EPSILON = 1e-6


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
