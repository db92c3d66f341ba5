"""The history when the clock or the primary is not what it was, against real servers."""

from __future__ import annotations

import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from common.config import load
from common.embedded import open_embedded_redis
from common.redis.handler import Deaf
from common.redis.link import Link, LinkPolicy
from opsd.history import INTERVAL, RECONNECT_GAP, History, HistoryUnavailableError, make_history_link
from opsd.settings import OpsSettings
from tests.integration.test_opsd import DOWN, get, open_opsd
from tests.integration.test_opsd_history import status
from tests.support.logbook import Logbook
from tests.support.opsd_board import KEYS
from tests.support.raw import PATIENCE, open_redis, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from common.embedded import EmbeddedRedis
    from common.redis.links import RedisLink

pytestmark = pytest.mark.integration

HOUR = 3600.0


@attrs.define
class Clock:
    """The time of day, and how wrong it is. It goes on by a sample's interval each time that a sample is taken."""

    wrong: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.wrong

    async def record(self, history: History, connections: int) -> None:
        await history.record(status(connections), 1.0)
        self.wrong += INTERVAL


@asynccontextmanager
async def open_history(
    link: RedisLink, logbook: Logbook, wall: Callable[[], float] = time.time
) -> AsyncIterator[History]:
    """A history whose link is kept, and which takes no samples by itself."""
    history = History(link, KEYS, 86400.0, logbook.log, wall=wall)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(history._keep_link)
        with trio.fail_after(PATIENCE):
            await link.wait_online()
        yield history
        nursery.cancel_scope.cancel()


def link_to(redis: EmbeddedRedis, logbook: Logbook) -> RedisLink:
    environ = {
        "OPS_REDIS_URL": f"redis://127.0.0.1:{redis.port}",
        "OPS_TARGETS": "none",
        "OPS_REDIS_CONNECT_TIMEOUT": "1m",
        "OPS_REDIS_REQUEST_TIMEOUT": "1m",
    }
    return make_history_link(load(OpsSettings, environ).settings, logbook.log, random.Random())


async def shown(history: History) -> list[object]:
    """The connections of each point, oldest first."""
    return [point["connections"] for point in await history.query(60, 5000)]


@pytest.mark.parametrize("jump", [-HOUR, -30 * 86400.0, HOUR, 86400.0])
async def test_after_a_jump_of_the_clock_samples_are_recorded_and_shown(
    redis_server: EmbeddedRedis, jump: float
) -> None:
    clock, logbook = Clock(), Logbook()
    async with open_history(link_to(redis_server, logbook), logbook, clock) as history:
        await clock.record(history, 1)
        clock.wrong += jump
        await clock.record(history, 2)
        await clock.record(history, 3)
        assert (await shown(history))[-2:] == [2, 3]
        # And back: what was taken meanwhile counts as taken when the clock said so.
        clock.wrong -= jump
        await clock.record(history, 4)
        assert await shown(history) == [1, 4]


@pytest.mark.parametrize("ahead", [HOUR, 3650 * 86400.0])
async def test_ids_in_the_future_hide_nothing(redis_server: EmbeddedRedis, ahead: float) -> None:
    # What a clock leaves behind that was ahead, that of Redis as well as ours.
    clock, logbook = Clock(), Logbook()
    link = link_to(redis_server, logbook)
    async with open_history(link, logbook, clock) as history:
        at = int((time.time() + ahead) * 1000)
        for number in range(1500):
            await link.request("XADD", KEYS.history, f"{at}-{number + 1}", "v", "9,1,1,0,normal", "t", at + number)
        await link.request("XADD", KEYS.history, f"{at}-5000", "v", "8,1,1,0,normal")
        assert await shown(history) == []
        for count in (1, 2, 3):
            await clock.record(history, count)
        assert await shown(history) == [1, 2, 3]
    # The next process sees them too.
    async with open_history(link_to(redis_server, logbook), logbook, clock) as history:
        assert await shown(history) == [1, 2, 3]


async def test_what_older_versions_recorded_is_shown(redis_server: EmbeddedRedis) -> None:
    logbook = Logbook()
    link = link_to(redis_server, logbook)
    async with open_history(link, logbook) as history:
        at = int((time.time() - 60) * 1000)
        await link.request("XADD", KEYS.history, f"{at}-1", "v", "7,1,1,0,normal")
        for nonsense in ("", "-1", "1e3", "x" * 100, "9" * 16):
            await link.request("XADD", KEYS.history, "*", "v", "9,1,1,0,normal", "t", nonsense)
        await history.record(status(1), 1.0)
        assert await shown(history) == [7, 1]


async def test_a_primary_that_became_a_replica_is_left_for_where_the_name_leads(redis_program: Path) -> None:
    async with open_embedded_redis(program=redis_program) as old, open_embedded_redis(program=redis_program) as new:
        leads_to = old

        async def connect(_host: str, _port: int) -> trio.abc.Stream:
            return await trio.open_tcp_stream("127.0.0.1", leads_to.port)

        logbook = Logbook()
        policy = LinkPolicy(
            request_timeout=PATIENCE, connect_timeout=PATIENCE, retry_base=0.05, retry_max=0.1, max_retries=0
        )
        url = load(OpsSettings, {}).settings.redis_url
        link = Link(
            url=url,
            client_name="opsd",
            policy=policy,
            handler=Deaf(),
            log=logbook.log,
            rng=random.Random(),
            connect=connect,
        )
        async with open_history(link, logbook) as history, open_redis(old) as admin:
            assert not works(history)
            await history.record(status(1), 1.0)
            assert works(history)

            # The failover: the old one follows the new one, and the name leads there; no connection ends.
            await admin.call("REPLICAOF", "127.0.0.1", new.port)
            with pytest.raises(HistoryUnavailableError, match="READONLY"):
                await history.record(status(2), 1.0)
            assert not works(history)
            assert len(logbook.said("history: redis is no primary, connecting anew")) == 1
            # Not yet: it still leads to the replica.
            await wait_until(lambda: link.reconnects == 2 and link.online, "connected anew")
            await trio.sleep(RECONNECT_GAP)
            with pytest.raises(HistoryUnavailableError, match="READONLY"):
                await history.record(status(2), 1.0)
            leads_to = new
            await wait_until(lambda: link.reconnects == 3 and link.online, "connected anew, again")
            await record_at_last(history)
            assert works(history)
            assert 3 in await shown(history)
            async with open_redis(new) as there:
                await there.call("SELECT", 3)
                assert await there.call("EXISTS", KEYS.history) == 1


async def test_a_replica_is_never_taken_and_a_primary_that_becomes_one_is_left_unasked(redis_program: Path) -> None:
    """Nothing is written meanwhile: what the server says it is decides, before a write is refused."""
    async with open_embedded_redis(program=redis_program) as redis, open_embedded_redis(program=redis_program) as other:
        logbook = Logbook()
        link = link_to(redis, logbook)
        async with open_redis(redis) as admin, open_history(link, logbook) as history:
            await history.record(status(1), 1.0)
            await admin.call("REPLICAOF", "127.0.0.1", other.port)
            await wait_until(lambda: not link.online, "left")
            await wait_until(lambda: len(refusals(logbook)) >= 2, "refused when it connected anew, too")
            assert link.reconnects == 1
            with pytest.raises(HistoryUnavailableError, match="no connection"):
                await history.query(60, 10)
            await admin.call("REPLICAOF", "NO", "ONE")
            await wait_until(lambda: link.online, "a primary again")
            await record_at_last(history)
            assert link.reconnects == 2


def refusals(logbook: Logbook) -> list[object]:
    """The lines that say why a server was left, or not taken."""
    lines = [*logbook.said("redis stream interrupted"), *logbook.said("redis unavailable, retrying")]
    return [line for line in lines if str(line["error"]).startswith("a replica, and a primary is needed: ")]


def works(history: History) -> bool:
    return history.working


async def record_at_last(history: History) -> None:
    with trio.fail_after(PATIENCE):
        while True:
            try:
                await history.record(status(3), 1.0)
            except HistoryUnavailableError:
                await trio.sleep(0.1)
            else:
                return


async def test_health_and_metrics_say_whether_there_is_a_history(redis_server: EmbeddedRedis) -> None:
    # What comes first: a sample that is refused, or the link's own question.
    noticed = ("history: redis is no primary, connecting anew", "redis stream interrupted")
    expected = (*DOWN, *noticed, "history not recorded")
    async with (
        open_opsd(redis_server, expect=expected, metrics_enabled="true") as opsd,
        open_redis(redis_server) as admin,
    ):

        async def says(word: str) -> bool:
            health = await get(opsd, "/health")
            assert health.status_code == 200
            return bool(health.json()["history"] == word)

        await wait_until(lambda: says("ok"), "it works")
        assert "opsd_history_up 1.0" in (await get(opsd, "/metrics")).text
        await admin.call("REPLICAOF", "127.0.0.1", 1)
        await wait_until(lambda: says("down"), "it is down")
        assert "opsd_history_up 0.0" in (await get(opsd, "/metrics")).text
        await admin.call("REPLICAOF", "NO", "ONE")
        await wait_until(lambda: says("ok"), "it works again")
        await wait_until(lambda: any(opsd.said(message) for message in noticed), "the log says why")
