"""Alerts: told until they are taken, over restarts, never waited for, and the webhook's address kept to ourselves."""

from __future__ import annotations

import itertools
import json
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

import attrs
import httpx
import pytest
import trio

from common.secret import Secret
from opsd.alerts import BACKOFF, KEEP_INTERVAL, RECALL_TIMEOUT, Alerts
from opsd.history import HistoryUnavailableError
from opsd.ledger import SETTLE
from tests.support.logbook import Logbook
from tests.support.opsd_board import HandSource, open_board
from tests.support.opsd_telemetry import telemetry, worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

URL = "https://hooks.example.gov/tell-nobody?key=tell-nobody"
HOURS = 4 * 3600.0


class Hook(httpx.AsyncBaseTransport):
    """A webhook that answers with a status; None is a refused connection, -1 no answer."""

    def __init__(self) -> None:
        self.answer: int | None = 200
        self.posts: list[tuple[float, dict[str, object]]] = []
        """Those that it took."""
        self.attempts: list[float] = []
        self.urls: set[str] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(await request.aread())
        self.attempts.append(trio.current_time())
        self.urls.add(str(request.url))
        if self.answer is None:
            raise httpx.ConnectError(f"no way to {request.url}")
        if self.answer < 0:
            await trio.sleep_forever()
        if self.answer < 300:
            self.posts.append((trio.current_time(), body))
        return httpx.Response(self.answer, headers={"location": "https://elsewhere.example"})

    def told(self) -> list[tuple[object, object, object]]:
        """What was taken: about what, from what, to what."""
        return [(body.get("source", body["kind"]), body["from"], body["to"]) for _, body in self.posts]


@attrs.define
class Shelf:
    """What a test's Redis keeps, where it is there."""

    text: str | None = None
    up: bool = True
    kept: int = 0

    async def keep(self, text: str) -> None:
        """See `opsd.alerts.Shelf`."""
        await trio.lowlevel.checkpoint()
        if not self.up:
            raise HistoryUnavailableError("down")
        self.text = text
        self.kept += 1

    async def recall(self) -> str | None:
        """See `opsd.alerts.Shelf`."""
        await trio.lowlevel.checkpoint()
        if not self.up:
            raise HistoryUnavailableError("down")
        return self.text


@attrs.define
class Life:
    """One process's life: an opsd that watches one daemon. Hook and shelf outlive it."""

    source: HandSource
    alerts: Alerts
    logbook: Logbook
    served: int = 0
    refused: int = 0

    def shows(self, *, served: int = 0, refused: int = 0, ready: bool = True) -> None:
        """The daemon has served and refused so many more."""
        self.served += served
        self.refused += refused
        answers = {"total": self.served + self.refused, "server_errors": self.refused}
        self.source.shows(telemetry({"1": worker(answers=answers, ready=ready, uptime=9e5)}))

    async def outage(self) -> None:
        """Everybody is refused."""
        self.shows()
        await trio.sleep(1)
        self.shows(refused=5, ready=False)
        await trio.sleep(3)

    async def recover(self) -> None:
        """It would serve everybody, and nobody was refused for a minute."""
        self.shows()
        await trio.sleep(70)


@asynccontextmanager
async def open_life(hook: Hook, shelf: Shelf) -> AsyncIterator[Life]:
    logbook = Logbook()
    alerts = Alerts(Secret.literal(URL, "OPS_ALERT_WEBHOOK"), shelf, logbook.log, Random(0), hook)
    source = HandSource("statusd")
    async with open_board([source]) as (board, _), trio.open_nursery() as nursery:
        nursery.start_soon(alerts.run, board)
        yield Life(source, alerts, logbook)
        nursery.cancel_scope.cancel()
    assert "tell-nobody" not in str(logbook.lines)


OUTAGE = {("mode", "normal", "isolated"), ("telemetry", "healthy", "degraded"), ("statusd", "ready", "0 of 1 ready")}
RECOVERY = {(about, after, before) for about, before, after in OUTAGE}


async def test_an_incident_is_told_and_resolved(autojump_clock: MockClock) -> None:
    hook = Hook()
    async with open_life(hook, Shelf()) as life:
        await life.outage()
        assert set(hook.told()) == OUTAGE
        mode = next(body for _, body in hook.posts if body["kind"] == "mode")
        assert mode.pop("time")
        assert mode == {
            "text": "traffic mode: normal → isolated, error rate 100.0%",
            "event": "traffic_mode",
            "kind": "mode",
            "from": "normal",
            "to": "isolated",
            "errorRate": 1.0,
        }
        workers = next(body for _, body in hook.posts if body["kind"] == "workers")
        assert (workers["text"], workers["event"]) == ("workers of statusd: ready → 0 of 1 ready", "workers")
        await life.recover()
        assert set(hook.told()[3:]) == RECOVERY
        life.source.fails()
        await trio.sleep(1 + SETTLE)
        assert ("statusd", "up", "down") in hook.told()
        assert hook.urls == {URL}
        assert (life.alerts.outcomes.sent, life.alerts.outcomes.failed) == (len(hook.posts), 0)
        assert len(life.logbook.said("alert posted")) == len(hook.posts)


@pytest.mark.parametrize("failure", [500, 302, 404, None, -1])
async def test_a_receiver_that_is_away_for_hours_hears_in_the_end(
    autojump_clock: MockClock, failure: int | None
) -> None:
    hook = Hook()
    async with open_life(hook, Shelf()) as life:
        hook.answer = failure
        await life.outage()
        await trio.sleep(HOURS)
        assert hook.posts == []
        gaps = [later - earlier for earlier, later in itertools.pairwise(hook.attempts)]
        assert max(gaps) <= BACKOFF.maximum + 5.1
        assert min(gaps[8:]) >= BACKOFF.maximum / 2, "it is not pestered"
        hook.answer = 204
        await trio.sleep(BACKOFF.maximum + 1)
        assert set(hook.told()) == OUTAGE
        assert (life.alerts.outcomes.sent, life.alerts.outcomes.failed) == (3, len(hook.attempts) - 3)


async def test_the_newest_state_wins(autojump_clock: MockClock) -> None:
    hook = Hook()
    async with open_life(hook, Shelf()) as life:
        hook.answer = None
        await life.outage()
        await life.recover()
        life.source.fails()
        await trio.sleep(60)
        life.shows()
        await trio.sleep(60)
        hook.answer = 200
        await trio.sleep(BACKOFF.maximum + 1)
        # What an attempt was made for may have reached somebody: that it is over is told, and nothing else.
        assert ("mode", "isolated", "normal") in hook.told()
        assert set(hook.told()) <= {*RECOVERY, ("statusd", "down", "up")}
        assert len(hook.told()) == len(set(hook.told()))


async def test_an_incident_is_resolved_by_the_next_process(autojump_clock: MockClock) -> None:
    hook, shelf = Hook(), Shelf()
    async with open_life(hook, shelf) as life:
        await life.outage()
    assert set(hook.told()) == OUTAGE
    async with open_life(hook, shelf) as life:
        # Nobody comes, and the daemon would serve nobody.
        life.shows(ready=False)
        await trio.sleep(300)
        assert len(hook.told()) == 3
        await life.recover()
        assert set(hook.told()[3:]) == RECOVERY
    async with open_life(hook, shelf) as life:
        await life.recover()
    assert len(hook.told()) == 6


async def test_what_could_not_be_told_is_told_by_the_next_process(autojump_clock: MockClock) -> None:
    hook, shelf = Hook(), Shelf()
    hook.answer = 500
    async with open_life(hook, shelf) as life:
        await life.outage()
    assert hook.posts == []
    hook.answer = 200
    async with open_life(hook, shelf) as life:
        life.shows(ready=False)
        await trio.sleep(10)
        assert set(hook.told()) == OUTAGE


async def test_without_redis_it_is_said_once_and_things_are_told_as_they_are(autojump_clock: MockClock) -> None:
    hook, shelf = Hook(), Shelf(up=False)
    async with open_life(hook, shelf) as life:
        life.shows()
        await trio.sleep(RECALL_TIMEOUT - 1)
        assert hook.posts == []
        await trio.sleep(600)
        assert hook.told() == [("mode", "unknown", "normal"), ("telemetry", "unknown", "healthy")]
        await life.outage()
        assert len(life.logbook.said("alerts are kept in memory only")) == 1
        shelf.up = True
        await trio.sleep(KEEP_INTERVAL + 1)
    async with open_life(hook, shelf) as life:
        await life.recover()
        assert set(hook.told()[-3:]) == RECOVERY


async def test_a_redis_that_goes_and_comes_is_said_once_each(autojump_clock: MockClock) -> None:
    hook, shelf = Hook(), Shelf()
    async with open_life(hook, shelf) as life:
        life.shows()
        await trio.sleep(5)
        shelf.up = False
        await life.outage()
        await trio.sleep(300)
        assert len(life.logbook.said("alerts are kept in memory only")) == 1
        shelf.up = True
        await trio.sleep(KEEP_INTERVAL + 1)
        assert len(life.logbook.said("alerts are kept again")) == 1
        kept = shelf.kept
        await trio.sleep(300)
        assert shelf.kept == kept, "nothing new"


async def test_what_is_no_ledger_is_said_and_harms_nobody(autojump_clock: MockClock) -> None:
    hook = Hook()
    async with open_life(hook, Shelf("{}")) as life:
        life.shows()
        await trio.sleep(10)
        assert hook.told() == [("mode", "unknown", "normal"), ("telemetry", "unknown", "healthy")]
        assert len(life.logbook.said("what was kept of the alerts is of no use")) == 1
