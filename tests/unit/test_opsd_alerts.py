"""Alerts: posted in order, with retries, never waited for, and the webhook's address kept to ourselves."""

from __future__ import annotations

import itertools
import json
from random import Random
from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from common.secret import Secret
from opsd.alerts import ATTEMPTS, LONGEST_QUEUE, Alerts
from opsd.board import Event
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

URL = "https://hooks.example.gov/tell-nobody?key=tell-nobody"


class Hook(httpx.AsyncBaseTransport):
    """A webhook that answers the n-th attempt as `answer` says: a status, None for a refused connection, -1 never."""

    def __init__(self, answer: Callable[[int], int | None] = lambda _: 200) -> None:
        self.answer = answer
        self.posts: list[tuple[float, dict[str, object]]] = []
        self.urls: set[str] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.posts.append((trio.current_time(), json.loads(await request.aread())))
        self.urls.add(str(request.url))
        status = self.answer(len(self.posts))
        if status is None:
            raise httpx.ConnectError(f"no way to {request.url}")
        if status < 0:
            await trio.sleep_forever()
        return httpx.Response(status, headers={"location": "https://elsewhere.example"})


def mode_change(n: int = 0, kind: str = "mode") -> Event:
    return Event(f"2026-01-15T12:34:{n:02}.000Z", kind, "normal", "degraded", 0.123)


async def posted(hook: Hook, *events: Event, seconds: float = 600) -> Logbook:
    logbook = Logbook()
    alerts = Alerts(Secret.literal(URL, "OPS_ALERT_WEBHOOK"), logbook.log, Random(0), hook)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alerts.run)
        for event in events:
            alerts.heard(event)
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()
    assert "tell-nobody" not in str(logbook.lines)
    return logbook


async def test_a_change_of_the_mode_is_posted_once(autojump_clock: MockClock) -> None:
    hook = Hook()
    logbook = await posted(hook, mode_change(), mode_change(1, "telemetry"))
    assert [body for _, body in hook.posts] == [
        {
            "text": "traffic mode: normal → degraded, error rate 12.3%",
            "event": "traffic_mode",
            "time": "2026-01-15T12:34:00.000Z",
            "kind": "mode",
            "from": "normal",
            "to": "degraded",
            "errorRate": 0.123,
        }
    ]
    assert hook.urls == {URL}
    assert len(logbook.said("alert posted")) == 1


@pytest.mark.parametrize("failure", [500, 302, 404, None, -1])
async def test_a_failed_post_is_tried_again_later_and_later(autojump_clock: MockClock, failure: int | None) -> None:
    hook = Hook(lambda n: failure if n < ATTEMPTS else 204)
    logbook = await posted(hook, mode_change())
    times = [at for at, _ in hook.posts]
    assert len(times) == ATTEMPTS
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps == sorted(gaps)
    assert len(logbook.said("alert not posted, retrying")) == ATTEMPTS - 1
    assert len(logbook.said("alert posted")) == 1


async def test_after_five_attempts_it_is_given_up_and_the_next_has_its_turn(autojump_clock: MockClock) -> None:
    hook = Hook(lambda n: 500 if n <= ATTEMPTS else 200)
    logbook = await posted(hook, mode_change(1), mode_change(2))
    assert [body["time"] for _, body in hook.posts][-2:] == ["2026-01-15T12:34:01.000Z", "2026-01-15T12:34:02.000Z"]
    assert len(hook.posts) == ATTEMPTS + 1
    assert len(logbook.said("alert given up")) == 1


async def test_of_too_many_the_oldest_are_dropped(autojump_clock: MockClock) -> None:
    hook = Hook()
    logbook = await posted(hook, *(mode_change(n) for n in range(LONGEST_QUEUE + 3)))
    assert [body["time"] for _, body in hook.posts] == [mode_change(n).time for n in range(3, LONGEST_QUEUE + 3)]
    assert len(logbook.said("alert dropped, too many are waiting")) == 3
