"""What newcomers and health checks are told while Redis is away: no second of waiting for what can't come (SPEC 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from common.serving.server import RETRY_AFTER
from tests.support.service import CHANNEL, Running, open_service, status

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from tests.support.scripted_redis import ScriptedRedis

UNAVAILABLE = b"redis is unavailable\n"
LOADING = b"redis is loading its data\n"


def refuse(redis: ScriptedRedis) -> None:
    redis.unreachable = ConnectionRefusedError(111, "Connection refused")


def load(redis: ScriptedRedis) -> None:
    redis.loading = True


def recover(redis: ScriptedRedis) -> None:
    redis.unreachable = None
    redis.loading = False


TROUBLES = [pytest.param(refuse, UNAVAILABLE, id="refused"), pytest.param(load, LOADING, id="loading")]


async def turned_away(running: Running, text: bytes) -> None:
    """A newcomer is answered in the very moment, with the reason and when to come again; `/health` says the same."""
    start = trio.current_time()
    newcomer = await running.ask("/another:log")
    assert trio.current_time() == start
    assert (newcomer.status, newcomer.header("retry-after")) == (503, str(RETRY_AFTER))
    await newcomer.wait_ended()
    assert bytes(newcomer.body) == text
    health = await running.get("/health")
    assert (health.status, bytes(health.body)) == (503, text)


@pytest.mark.parametrize(("trouble", "text"), TROUBLES)
async def test_from_the_first_failed_attempt_on_newcomers_need_not_wait(
    trouble: Callable[[ScriptedRedis], None], text: bytes, autojump_clock: MockClock
) -> None:
    async with open_service(redis_request_timeout="1s", redis_max_retries="0") as running:
        old = await running.open()
        trouble(running.redis)
        running.redis.drop_all()
        await running.redis.wait_attempts(2)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(20):
            await turned_away(running, text)
            await trio.sleep(1.7)
        assert running.service.counters.rejected == {"redis_unavailable": 20}
        recover(running.redis)
        await running.service.hub.link.wait_online()
        assert (await running.get("/health")).status == 200
        newcomer = await running.open()
        assert running.redis.publish(CHANNEL, b"again") == 1
        for client in (old, newcomer):
            await client.wait(lambda client: bool(client.messages))
            assert client.messages == [status(b"again")]


async def test_the_words_follow_what_redis_says(autojump_clock: MockClock) -> None:
    """It comes back from a restart: nobody there, then loading, then well."""
    async with open_service(redis_max_retries="0") as running:
        refuse(running.redis)
        running.redis.drop_all()
        await running.redis.wait_attempts(2)
        await trio.testing.wait_all_tasks_blocked()
        await turned_away(running, UNAVAILABLE)
        load(running.redis)
        running.redis.unreachable = None
        await running.redis.wait_attempts(len(running.redis.attempts) + 1)
        await trio.testing.wait_all_tasks_blocked()
        await turned_away(running, LOADING)
        recover(running.redis)
        await running.service.hub.link.wait_online()
        await running.open()


@pytest.mark.parametrize(("trouble", "text"), TROUBLES)
async def test_a_start_without_redis_is_an_outage_too(
    trouble: Callable[[ScriptedRedis], None], text: bytes, autojump_clock: MockClock
) -> None:
    async with open_service(online=False, prepare=trouble, redis_max_retries="0") as running:
        await running.redis.wait_attempts(1)
        await trio.testing.wait_all_tasks_blocked()
        await turned_away(running, text)


async def test_an_attempt_that_is_under_way_is_not_waited_for_either(autojump_clock: MockClock) -> None:
    async with open_service(redis_max_retries="0", redis_connect_timeout="1h") as running:
        refuse(running.redis)
        running.redis.drop_all()
        await running.redis.wait_attempts(2)
        running.redis.unreachable = None
        running.redis.holding = True
        await running.redis.wait_attempts(3)
        await turned_away(running, UNAVAILABLE)


async def test_a_connection_that_is_lost_and_comes_back_is_waited_for(autojump_clock: MockClock) -> None:
    async with open_service(redis_request_timeout="5s") as running:
        running.redis.drop_all()
        await trio.testing.wait_all_tasks_blocked()
        assert not running.service.hub.link.online
        newcomer = await running.open()
        running.redis.publish(CHANNEL, b"1")
        await newcomer.wait(lambda client: bool(client.messages))


async def test_one_that_found_no_answer_in_time_is_told_that(autojump_clock: MockClock) -> None:
    async with open_service(redis_request_timeout="1s") as running:
        running.redis.holding = True
        start = trio.current_time()
        newcomer = await running.ask()
        assert trio.current_time() - start == pytest.approx(1)
        assert newcomer.status == 503
        await newcomer.wait_ended()
        assert bytes(newcomer.body) == b"redis did not answer in time\n"
        running.redis.release()
