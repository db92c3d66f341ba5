"""What befalls a run's hash besides HSET, with the recommended classes and no resync: browsers are told at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from preflightd.notifications import RECOMMENDED
from tests.support.daemon import open_daemon
from tests.support.preflight import frame_of, wait_true
from tests.support.raw import connect, open_redis

if TYPE_CHECKING:
    import trio

    from common.embedded import EmbeddedRedis
    from tests.support.raw import RawClient, RedisConnection

pytestmark = pytest.mark.integration

RUN: Final = "run"
OTHER: Final = "other"
FIELD: Final = "timestamps:build_channels"
DONE: Final = frame_of({FIELD.encode(): b"5"})
NOTHING: Final = frame_of({})

ONLY_NOTIFICATIONS: Final = {"resync_interval": "0"}


async def watch(nursery: trio.Nursery, port: int, redis: RedisConnection) -> tuple[RawClient, RawClient]:
    """Clients of a run that has its hash and of one that has none."""
    await redis.call("HSET", RUN, FIELD, "5")
    run, other = await connect(nursery, port, f"/{RUN}"), await connect(nursery, port, f"/{OTHER}")
    assert (await run.receive(1), await other.receive(1)) == ([DONE], [NOTHING])
    return run, other


@pytest.mark.parametrize(
    ("command", "run_after", "other_after"),
    [
        (["DEL", RUN], NOTHING, NOTHING),
        (["UNLINK", RUN], NOTHING, NOTHING),
        (["RENAME", RUN, OTHER], NOTHING, DONE),
        (["COPY", RUN, OTHER], DONE, DONE),
        (["MOVE", RUN, "5"], NOTHING, NOTHING),
        (["PEXPIRE", RUN, "50"], NOTHING, NOTHING),
        (["HDEL", RUN, FIELD], NOTHING, NOTHING),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
async def test_it_shows_at_once(
    redis_server: EmbeddedRedis, nursery: trio.Nursery, command: list[str], run_after: bytes, other_after: bytes
) -> None:
    async with (
        open_redis(redis_server) as redis,
        open_daemon(redis_server, ONLY_NOTIFICATIONS, module="preflightd") as daemon,
    ):
        run, other = await watch(nursery, daemon.port, redis)
        await redis.call(*command)
        for client, before, after in ((run, DONE, run_after), (other, NOTHING, other_after)):
            expected = [before] if before == after else [before, after]
            assert await client.receive(len(expected)) == expected
        await wait_true(redis, {RUN: [run], OTHER: [other]})


async def test_a_hash_that_comes_from_another_database_shows_at_once(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with (
        open_redis(redis_server) as redis,
        open_redis(redis_server) as elsewhere,
        open_daemon(redis_server, ONLY_NOTIFICATIONS, module="preflightd") as daemon,
    ):
        run, other = await watch(nursery, daemon.port, redis)
        await elsewhere.call("SELECT", "5")
        await elsewhere.call("HSET", OTHER, FIELD, "5")
        await elsewhere.call("MOVE", OTHER, "0")
        await wait_true(redis, {OTHER: [other]})
        assert other.messages == [NOTHING, DONE]
        assert run.messages == [DONE]


async def test_a_field_that_expires_shows_at_once(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    async with (
        open_redis(redis_server) as redis,
        open_daemon(redis_server, ONLY_NOTIFICATIONS, module="preflightd") as daemon,
    ):
        run, _ = await watch(nursery, daemon.port, redis)
        if await redis.call("COMMAND", "INFO", "HPEXPIRE") == [None]:
            pytest.skip("this server has no expiry of fields")
        await redis.call("HSET", RUN, "attrs:has_sbs", "true")
        assert await run.receive(2) == [DONE, frame_of({FIELD.encode(): b"5", b"attrs:has_sbs": b"true"})]
        await redis.call("HPEXPIRE", RUN, "50", "FIELDS", "1", "attrs:has_sbs")
        assert (await run.receive(3))[2:] == [DONE]


def test_the_embedded_server_notifies_of_all_of_it() -> None:
    assert set(RECOMMENDED) == set("Kghx")
