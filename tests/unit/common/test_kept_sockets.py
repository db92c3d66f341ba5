"""A daemon on sockets that somebody keeps for it: who comes at the wrong moment waits (common/daemon)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from common.daemon import NEWCOMERS_WAIT
from tests.support.client import handshake
from tests.support.service import PATH, open_service

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.support.scripted_redis import ScriptedRedis


def refuse(redis: ScriptedRedis) -> None:
    redis.unreachable = ConnectionRefusedError(111, "Connection refused")


async def test_newcomers_wait_until_redis_is_there(autojump_clock: MockClock) -> None:
    async with open_service(
        online=False,
        kept=True,
        prepare=refuse,
        redis_max_retries="0",
        redis_retry_base="100ms",
        redis_retry_max="100ms",
    ) as running:
        client = running.arrive()
        await client.send_raw(handshake(PATH))
        await trio.sleep(NEWCOMERS_WAIT / 2)
        assert client.status is None
        running.redis.unreachable = None
        await client.wait(lambda client: client.status is not None)
        assert client.status == 101


async def test_newcomers_are_told_what_is_amiss_when_it_lasts(autojump_clock: MockClock) -> None:
    async with open_service(online=False, kept=True, prepare=refuse, redis_max_retries="0") as running:
        start = trio.current_time()
        client = await running.ask()
        assert client.status == 503
        assert trio.current_time() - start >= NEWCOMERS_WAIT


@pytest.mark.parametrize(("kept", "status"), [(False, 503), (True, None)])
async def test_who_comes_during_the_goodbyes_is_the_next_ones(
    kept: bool, status: int | None, autojump_clock: MockClock
) -> None:
    async with open_service(kept=kept, drain_timeout="1m", pong_timeout="1h") as running:
        stubborn = await running.open(answers=False)
        running.stop.set()
        await trio.sleep(1)
        client = running.arrive()
        await client.send_raw(handshake(PATH))
        await trio.sleep(1)
        assert client.status == status
        # A worker's parent lets all doors be opened for the drain; this one has been left.
        running.service.door.reopen()
        await trio.sleep(1)
        assert client.status == status
        if kept:
            # Where it waits is no part of the daemon.
            del running.sockets[client]
        await stubborn.send_close()


async def test_told_to_end_before_redis_was_there_it_leaves_newcomers_to_the_next_one(
    autojump_clock: MockClock,
) -> None:
    async with open_service(
        online=False, kept=True, prepare=refuse, redis_max_retries="0", drain_delay="1m"
    ) as running:
        running.stop.set()
        await trio.testing.wait_all_tasks_blocked()
        # A worker's parent lets all doors be opened for the drain; this one has not been open yet.
        running.service.door.reopen()
        client = running.arrive()
        await client.send_raw(handshake(PATH))
        await trio.sleep(30)
        assert (client.status, running.stopped.is_set()) == (None, False)
        # Where it waits is no part of the daemon.
        del running.sockets[client]


async def test_during_the_delay_before_it_newcomers_are_served(autojump_clock: MockClock) -> None:
    async with open_service(kept=True, drain_delay="10s") as running:
        running.stop.set()
        await trio.sleep(1)
        client = await running.ask()
        assert client.status == 101
