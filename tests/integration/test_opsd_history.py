"""The history against a real redis-server: kept, capped, thinned out, and there again after a restart."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio

from common.config import load
from opsd.history import History, HistoryUnavailableError, make_history_link
from opsd.settings import OpsSettings
from opsd.vector import Directions, Meta, Others, RequestFlow, Sessions, Status, Vector
from tests.support.logbook import Logbook
from tests.support.opsd_board import KEYS
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from common.embedded import EmbeddedRedis
    from common.redis.links import RedisLink
    from opsd.vector import Mode

pytestmark = pytest.mark.integration

FIGURES: Final = {"connections": 5, "messagesPerSecond": 12.5, "latency": 1.5, "errorRate": 0.2}


def status(connections: int, error_rate: float = 0.0, mode: Mode = "normal") -> Status:
    vector = Vector(
        Sessions(websocket_connections=connections),
        Directions("r", mode, RequestFlow(avg_latency=1.5)),
        Others(error_rate=error_rate),
    )
    return Status("2026-01-15T12:34:56.789Z", vector, Meta())


@asynccontextmanager
async def open_history(redis: EmbeddedRedis, keep: float = 86400.0) -> AsyncIterator[tuple[History, RedisLink]]:
    """A history whose link is kept, and which takes no samples of itself: they would stand among the test's."""
    environ = {
        "OPS_REDIS_URL": f"redis://127.0.0.1:{redis.port}",
        "OPS_TARGETS": "none",
        "OPS_REDIS_CONNECT_TIMEOUT": "1m",
        "OPS_REDIS_REQUEST_TIMEOUT": "1m",
        "OPS_REDIS_RETRY_BASE": "50ms",
        "OPS_REDIS_RETRY_MAX": "100ms",
    }
    settings = load(OpsSettings, environ).settings
    logbook = Logbook()
    link = make_history_link(settings, logbook.log, random.Random())
    history = History(link, KEYS, keep, logbook.log)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(history._keep_link)
        with trio.fail_after(PATIENCE):
            await link.wait_online()
        yield history, link
        nursery.cancel_scope.cancel()


async def add(link: RedisLink, ago: float, value: str) -> None:
    """A sample of some seconds ago."""
    match await link.request("TIME"):
        case [bytes(seconds), *_]:
            await link.request("XADD", KEYS.history, f"{int((int(seconds) - ago) * 1000)}-1", "v", value)
        case other:
            pytest.fail(f"TIME is {other!r}")


async def wait_offline(link: RedisLink) -> None:
    with trio.fail_after(PATIENCE):
        while link.online:  # noqa: ASYNC110 - a link has no event for its loss
            await trio.sleep(0.01)


def figure(point: dict[str, object], which: str) -> object:
    """The lowest or highest number of connections."""
    figures = point[which]
    assert isinstance(figures, dict)
    return figures["connections"]


async def test_samples_are_kept_over_a_restart(redis_server: EmbeddedRedis) -> None:
    async with open_history(redis_server) as (history, _):
        assert await history.query(60, 300) == []
        await history.record(status(5, 0.2, "degraded"), 12.5)
    async with open_history(redis_server) as (history, _):
        (point,) = await history.query(60, 300)
        time = point.pop("time")
        assert isinstance(time, str)
        assert time.endswith("Z")
        assert point == {
            "connections": 5,
            "messagesPerSecond": 12.5,
            "latency": 1.5,
            "errorRate": 0.2,
            "mode": "degraded",
            "min": FIGURES,
            "max": FIGURES,
        }


async def test_the_server_thins_them_out_and_looks_only_at_the_time_asked_for(redis_server: EmbeddedRedis) -> None:
    async with open_history(redis_server) as (history, link):
        for n in range(2500, 0, -1):
            await add(link, n * 5, f"{n % 2 * 10},1,1,{0.9 if n == 100 else 0},normal")
        await link.request("XADD", KEYS.history, "*", "something", "else", "of", "others")
        points = await history.query(60, 60)
        assert 59 <= len(points) <= 60
        assert all(4 <= float(str(point["connections"])) <= 6 for point in points[1:-1])
        assert max(float(str(point["errorRate"])) for point in points) == 0.9
        # What the mean hides.
        assert all(figure(point, "min") == 0 and figure(point, "max") == 10 for point in points[1:-1])
        assert [point["time"] for point in points] == sorted(str(point["time"]) for point in points)
        assert len(await history.query(220, 5000)) == 2500
        assert len(await history.query(220, 10)) == 10


async def test_no_more_is_kept_or_shown_than_the_time_configured(redis_server: EmbeddedRedis) -> None:
    async with open_history(redis_server, keep=500.0) as (history, link):
        for n in range(700, 0, -1):
            await add(link, n, "1,1,1,0,normal")
        await history.record(status(1), 1.0)
        # Redis trims by whole nodes of a hundred.
        length = await link.request("XLEN", KEYS.history)
        assert isinstance(length, int)
        assert 100 <= length <= 300
        points = await history.query(1440, 5000)
        assert len(points) == min(length, 501)


async def test_without_redis_it_says_so_and_it_comes_back(redis_server: EmbeddedRedis) -> None:
    async with open_history(redis_server) as (history, link):
        await history.record(status(5), 1.0)
        await redis_server.kill()
        await wait_offline(link)
        with pytest.raises(HistoryUnavailableError):
            await history.query(60, 300)
        with pytest.raises(HistoryUnavailableError):
            await history.record(status(5), 1.0)
        await redis_server.start()
        with trio.fail_after(PATIENCE):
            await link.wait_online()
        await history.record(status(6), 1.0)
        assert [point["connections"] for point in await history.query(60, 300)] == [6]


async def test_a_key_of_another_kind_is_no_history(redis_server: EmbeddedRedis) -> None:
    async with open_history(redis_server) as (history, link):
        await link.request("SET", KEYS.history, "x")
        with pytest.raises(HistoryUnavailableError, match="WRONGTYPE"):
            await history.query(60, 300)
        with pytest.raises(HistoryUnavailableError, match="WRONGTYPE"):
            await history.record(status(5), 1.0)


async def test_two_opsd_on_one_redis_have_each_its_own_past(redis_server: EmbeddedRedis) -> None:
    other = attrs.evolve(KEYS, history="opsd:history:other", alerts="opsd:alerts:other")
    async with open_history(redis_server) as (ours, link):
        theirs = History(link, other, 86400.0, Logbook().log)
        await ours.record(status(5), 1.0)
        await theirs.record(status(7), 1.0)
        assert [point["connections"] for point in await ours.query(60, 300)] == [5]
        assert [point["connections"] for point in await theirs.query(60, 300)] == [7]
        await ours.keep("mine")
        assert await theirs.recall() is None


async def test_a_text_is_kept_over_a_restart_and_only_the_last(redis_server: EmbeddedRedis) -> None:
    async with open_history(redis_server) as (history, link):
        assert await history.recall() is None
        for text in ("one", "two é", "three"):
            await history.keep(text)
            assert await history.recall() == text
        assert await link.request("XLEN", KEYS.alerts) == 1
    async with open_history(redis_server) as (history, _):
        assert await history.recall() == "three"
