"""preflightd as a process before a real redis-server: what browsers are told of a run, and how often Redis is asked."""

from __future__ import annotations

import json
import random
import re
import sys
from typing import TYPE_CHECKING, Final

import pytest
import trio

from tests.support.client import CLOSE, HANGUP_PAYLOAD
from tests.support.daemon import environment, open_daemon, run_to_end
from tests.support.preflight import WEPP, check_no_repeats, frame_of, gather, wait_true
from tests.support.raw import HOST, PATIENCE, RawClient, connect, fetch, open_redis, wait_until

if TYPE_CHECKING:
    from common.embedded import EmbeddedRedis
    from tests.support.raw import RedisConnection

pytestmark = pytest.mark.integration

RUN: Final = "batch;;hill-7;;_base"

NO_RESYNC: Final = {"resync_interval": "0", "metrics_enabled": "true"}
"""Nothing but notifications mends anything."""

REFUSED: Final = "run hash refused"
ENDED: Final = "connection ended with error"
NOTIFICATIONS: Final = "keyspace notifications"

ALL_FALSE: Final = (
    b'{"type":"preflight","checklist":{"sbs_map":false,"channels":false,"outlet":false,"subcatchments":false,'
    b'"landuse":false,"rangeland_cover":false,"soils":false,"climate":false,"rap_ts":false,"openet_ts":false,'
    b'"wepp":false,"ag_fields":false,"observed":false,"debris":false,"watar":false,"omni_scenarios":false,'
    b'"omni_contrasts":false,"run_path_ce":false,"roads":false,"rhem":false,"rusle":false,"geneva":false,'
    b'"postfire_debris_flow":false,"dss_export":false},"lock_statuses":{}}'
)


async def reads(redis: RedisConnection) -> int:
    """How many HGETALL Redis has answered since its statistics were reset."""
    info = await redis.call("INFO", "commandstats")
    assert isinstance(info, bytes)
    found = re.search(rb"cmdstat_hgetall:calls=(\d+)", info)
    return int(found[1]) if found else 0


async def settle(redis: RedisConnection) -> int:
    """Wait until the reads have come to rest, and return how many there were."""
    count = await reads(redis)
    while True:
        # Ten times the pause between two reads.
        await trio.sleep(0.1)
        last, count = count, await reads(redis)
        if last == count:
            return count


# -- frames -----------------------------------------------------------------------------------------------------------


async def test_a_run_without_a_hash_and_its_first_field(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    async with open_daemon(redis_server, NO_RESYNC, module="preflightd") as daemon, open_redis(redis_server) as redis:
        client = await connect(nursery, daemon.port, f"/{RUN}")
        assert await client.receive(1) == [ALL_FALSE]
        await redis.call("HSET", RUN, "timestamps:build_channels", "1700000000")
        channels = ALL_FALSE.replace(b'"channels":false', b'"channels":true')
        known = channels.replace(b'"lock_statuses":{}', b'"lock_statuses":{},"last_modified":1700000000')
        assert await client.receive(2) == [ALL_FALSE, known]
        await redis.call("HSET", RUN, 'locked:a:b "é', "true", "locked:", "true", "last_modified", "+7")
        locks = '"lock_statuses":{"a:b \\"é":true},"last_modified":7'
        locked = channels.replace(b'"lock_statuses":{}', locks.encode())
        assert await client.receive(3) == [ALL_FALSE, known, locked]
        await redis.call("HDEL", RUN, 'locked:a:b "é', "locked:", "last_modified")
        assert await client.receive(4) == [ALL_FALSE, known, locked, known]


async def test_the_bytes_on_the_wire(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    """One unmasked text frame with a 16-bit length right behind the 101, and nothing else."""
    settings = NO_RESYNC | {"ping_interval": "1h", "pong_timeout": "3h"}
    async with open_daemon(redis_server, settings, module="preflightd") as daemon:
        client = await connect(nursery, daemon.port, f"/{RUN}/?x=1")
        await client.receive(1)
        assert bytes(client.body) == b"\x81\x7e" + len(ALL_FALSE).to_bytes(2, "big") + ALL_FALSE


async def test_another_database_is_not_ours(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    url = redis_server.url(7)
    async with open_daemon(url, NO_RESYNC, module="preflightd") as daemon, open_redis(redis_server) as redis:
        client = await connect(nursery, daemon.port, f"/{RUN}")
        await client.receive(1)
        await redis.call("HSET", RUN, "attrs:has_sbs", "true")
        await redis.call("SELECT", 7)
        await redis.call("HSET", RUN, "timestamps:run_rhem", "1")
        await client.receive(2)
        assert client.messages[1] == frame_of({b"timestamps:run_rhem": b"1"})


async def test_a_project_from_beginning_to_end(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    """Each step is told, its locks too."""
    async with open_daemon(redis_server, NO_RESYNC, module="preflightd") as daemon, open_redis(redis_server) as redis:
        client = await connect(nursery, daemon.port, f"/{RUN}")
        fields: dict[bytes, bytes] = {}
        expected = [frame_of(fields)]
        for stamp, step in enumerate(WEPP, 1_700_000_000):
            changes = (
                (b"locked:" + step, b"true"),
                (b"timestamps:" + step, b"%d" % stamp),
                (b"locked:" + step, b"false"),
            )
            for field, value in changes:
                assert await client.receive(len(expected)) == expected
                fields[field] = value
                await redis.call("HSET", RUN, field, value)
                expected.append(frame_of(fields))
        assert await client.receive(len(expected)) == expected
        checklist = json.loads(expected[-1])["checklist"]
        done = {"channels", "outlet", "subcatchments", "landuse", "soils", "climate", "wepp"}
        assert {key for key, value in checklist.items() if value} == done


# -- nobody is stale --------------------------------------------------------------------------------------------------


async def test_clients_that_come_while_the_run_is_written_all_know_its_end(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_daemon(redis_server, NO_RESYNC, module="preflightd") as daemon, open_redis(redis_server) as redis:
        rng, gathered = random.Random(3), trio.Event()
        async with trio.open_nursery() as writing:
            writing.start_soon(_write_until, gathered, redis, rng)
            clients = await gather(nursery, daemon.port, [RUN], 100)
            gathered.set()
        await wait_true(redis, {RUN: clients})
        check_no_repeats(clients)


async def _write_until(stop: trio.Event, redis: RedisConnection, rng: random.Random) -> None:
    """Write to the run every few milliseconds, and some more when the others are done."""
    number, most = 0, sys.maxsize
    while number < most:
        if stop.is_set():
            most = min(most, number + 50)
        number += 1
        step, lock = rng.choice(WEPP), rng.choice(["true", "false"])
        await redis.call("HSET", RUN, b"timestamps:" + step, number, b"locked:" + step, lock)
        await trio.sleep(rng.uniform(0, 0.006))


async def test_the_last_of_a_burst_is_never_lost(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    """Bursts of every length, each ended by a moment of rest: always the end of it is what is known."""
    async with open_daemon(redis_server, NO_RESYNC, module="preflightd") as daemon, open_redis(redis_server) as redis:
        clients = await gather(nursery, daemon.port, [RUN], 5)
        rng = random.Random(11)
        for burst in range(60):
            for number in range(rng.choice([1, 2, 3, 50])):
                await redis.call("HSET", RUN, "last_modified", burst * 1000 + number)
                if rng.random() < 0.5:
                    await trio.sleep(rng.uniform(0, 0.02))
            await wait_true(redis, {RUN: clients})
        check_no_repeats(clients)


async def test_pages_that_reload_are_never_stale(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    """The last client leaves and comes again within the linger, the run being written all the while."""
    async with open_daemon(redis_server, NO_RESYNC, module="preflightd") as daemon, open_redis(redis_server) as redis:
        rng = random.Random(5)
        for number in range(60):
            client = await connect(nursery, daemon.port, f"/{RUN}")
            if rng.random() < 0.8:
                await client.receive(1)
            await redis.call("HSET", RUN, "last_modified", 2 * number)
            await trio.sleep(rng.choice([0, 0.001, 0.002]))
            await client.leave()
            await redis.call("HSET", RUN, "last_modified", 2 * number + 1)
            again = await connect(nursery, daemon.port, f"/{RUN}")
            await wait_true(redis, {RUN: [again]})
            check_no_repeats([again])
            await again.leave()


# -- resyncs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["DEL", "expiry", "FLUSHALL", "RENAME", "notifications off"])
async def test_a_change_that_is_not_notified_is_found_by_a_resync(
    redis_server: EmbeddedRedis, nursery: trio.Nursery, how: str
) -> None:
    async with open_redis(redis_server) as redis:
        if how == "notifications off":
            await redis.call("CONFIG", "SET", "notify-keyspace-events", "")
        await redis.call("HSET", RUN, "attrs:has_sbs", "true", "locked:a", "true")
        settings = {"resync_interval": "1s"}
        expect = {NOTIFICATIONS} if how == "notifications off" else set()
        async with open_daemon(redis_server, settings, expect=expect, module="preflightd") as daemon:
            clients = await gather(nursery, daemon.port, [RUN, "another"], 6)
            mine = clients[::2]
            await wait_true(redis, {RUN: mine, "another": clients[1::2]})
            match how:
                case "DEL":
                    await redis.call("DEL", RUN)
                case "FLUSHALL":
                    await redis.call("FLUSHALL")
                case "expiry":
                    await redis.call("PEXPIRE", RUN, 10)
                    await wait_until(lambda: is_gone(redis), "expired")
                case "RENAME":
                    await redis.call("HSET", "made-elsewhere", "timestamps:run_rhem", "5")
                    await redis.call("RENAME", "made-elsewhere", RUN)
                case _:
                    await redis.call("HSET", RUN, "attrs:has_sbs", "false")
            await wait_true(redis, {RUN: mine})
            assert all(len(client.messages) == 2 for client in mine)


async def is_gone(redis: RedisConnection) -> bool:
    """Whether the run has no hash any more."""
    return await redis.call("EXISTS", RUN) == 0


# -- no repeats, and few reads ----------------------------------------------------------------------------------------


async def test_a_thousand_writes_that_change_nothing_send_nothing(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_daemon(redis_server, NO_RESYNC, module="preflightd") as daemon, open_redis(redis_server) as redis:
        await redis.call("HSET", RUN, "timestamps:build_channels", 5, "attrs:has_sbs", "true")
        clients = await gather(nursery, daemon.port, [RUN], 10)
        await wait_true(redis, {RUN: clients})
        for number in range(500):
            await redis.call("HSET", RUN, "timestamps:build_channels", 5)
            await redis.call("HSET", RUN, "note", number)
        await settle(redis)
        assert all(len(client.messages) == 1 for client in clients)
        # What comes next is the next frame: none was on its way.
        await redis.call("HSET", RUN, "attrs:has_sbs", "false")
        await wait_true(redis, {RUN: clients})
        assert all(len(client.messages) == 2 for client in clients)
        assert await daemon.metric("preflight2_messages_sent_total") == 20


async def test_one_read_per_change_whatever_the_number_of_clients(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_daemon(redis_server, NO_RESYNC, module="preflightd") as daemon, open_redis(redis_server) as redis:
        clients = await gather(nursery, daemon.port, [RUN], 200)
        # The first client's read; perhaps one more, where a client came before the answer.
        before = await settle(redis)
        assert 1 <= before <= 2
        for number in range(20):
            await redis.call("HSET", RUN, "last_modified", number)
            for client in clients:
                await client.receive(number + 2)
        # The frame tells that the read is over, the statistics that there was no other.
        assert 1 + 20 <= await settle(redis) <= 2 + 20
        check_no_repeats(clients)


async def test_a_burst_is_few_reads(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    async with open_daemon(redis_server, NO_RESYNC, module="preflightd") as daemon, open_redis(redis_server) as redis:
        clients = await gather(nursery, daemon.port, [RUN], 20)
        await settle(redis)
        await redis.call("CONFIG", "RESETSTAT")
        start = trio.current_time()
        for number in range(2000):
            await redis.call("HSET", RUN, "last_modified", number)
        await settle(redis)
        # At most 100 a second, however many writes there are.
        assert await reads(redis) <= 100 * (trio.current_time() - start) + 2
        await wait_true(redis, {RUN: clients})
        check_no_repeats(clients)


# -- refusals ---------------------------------------------------------------------------------------------------------


async def check_refused(client: RawClient, before: list[bytes]) -> None:
    """After these frames the client is told by hangup and close code that its run is not to be had."""
    await client.wait_ended(within=PATIENCE)
    assert client.status == 101
    assert client.messages == [*before, HANGUP_PAYLOAD]
    assert client.seen[-1][1:] == (CLOSE, b"\x03\xf3refused_by_redis")


async def test_a_run_that_is_no_hash_ends_its_clients_only(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    expect = {REFUSED, ENDED}
    settings = {"resync_interval": "1s", "metrics_enabled": "true"}
    async with (
        open_daemon(redis_server, settings, expect=expect, module="preflightd") as daemon,
        open_redis(redis_server) as redis,
    ):
        others = await gather(nursery, daemon.port, ["good", "better"], 6)
        await redis.call("SET", RUN, "a string")
        for client in [await connect(nursery, daemon.port, f"/{RUN}") for _ in range(3)]:
            await check_refused(client, [])
        assert await daemon.metric("preflight2_disconnects_total", 'reason="refused_by_redis"') == 3
        assert all("WRONGTYPE" in line["error"] for line in await daemon.wait_said(REFUSED, run_id=RUN))

        # A hash that becomes a string, and a string that becomes a hash.
        await redis.call("DEL", RUN)
        client = await connect(nursery, daemon.port, f"/{RUN}")
        await client.receive(1)
        await redis.call("SET", RUN, "a string")
        await check_refused(client, [ALL_FALSE])
        await redis.call("DEL", RUN)
        await redis.call("HSET", RUN, "attrs:has_sbs", "true")
        client = await connect(nursery, daemon.port, f"/{RUN}")
        assert await client.receive(1) == [frame_of({b"attrs:has_sbs": b"true"})]

        await redis.call("HSET", "good", "timestamps:run_rhem", "1")
        await wait_true(redis, {"good": others[::2], "better": others[1::2]})
        assert not any(other.ended for other in others)
        assert await daemon.health() == 200
        assert await daemon.metric("preflight2_redis_reconnects_total") == 1


async def test_a_run_that_we_may_not_read_ends_its_clients_only(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_redis(redis_server) as redis:
        await redis.call("ACL", "SETUSER", "limited", "on", ">secret", "~allowed", "&*", "+@all")
        url = f"redis://limited:secret@{HOST}:{redis_server.port}"
        async with open_daemon(url, NO_RESYNC, expect={REFUSED, ENDED}, module="preflightd") as daemon:
            allowed = await connect(nursery, daemon.port, "/allowed")
            await check_refused(await connect(nursery, daemon.port, f"/{RUN}"), [])
            assert all("NOPERM" in line["error"] for line in await daemon.wait_said(REFUSED, run_id=RUN))
            await redis.call("HSET", "allowed", "attrs:has_sbs", "true")
            await wait_true(redis, {"allowed": [allowed]})


# -- notifications ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", ["", "K", "Eh", "EA", "Kx", "KA", "Kh", "Kghx"])
async def test_a_server_that_does_not_notify_is_told_of_with_the_command_that_mends_it(
    redis_server: EmbeddedRedis, nursery: trio.Nursery, flags: str
) -> None:
    well = flags in {"KA", "Kh", "Kghx"}
    async with open_redis(redis_server) as redis:
        await redis.call("CONFIG", "SET", "notify-keyspace-events", flags)
        checked = await run_to_end("check", environ=environment(redis_server, module="preflightd"), module="preflightd")
        assert checked.code == 0
        lines = [line for line in checked.stdout.splitlines() if "notify-keyspace-events" in line]
        assert len(lines) == 1
        assert lines[0].partition(": ")[0] == ("note" if flags == "Kh" else lines[0] if well else "warning")
        assert ("redis-cli config set notify-keyspace-events" in lines[0]) is (not well or flags == "Kh")
        expect = set() if well else {NOTIFICATIONS}
        async with open_daemon(redis_server, expect=expect, module="preflightd") as daemon:
            client = await connect(nursery, daemon.port, f"/{RUN}")
            await client.receive(1)
            if not well:
                (line,) = await daemon.wait_said(NOTIFICATIONS, level="warn")
                assert "redis-cli config set notify-keyspace-events" in line["warning"]
            elif flags == "Kh":
                (line,) = await daemon.wait_said(NOTIFICATIONS, level="info")
                assert "redis-cli config set notify-keyspace-events hKgx" in line["hint"]
            else:
                assert not daemon.said(NOTIFICATIONS)


async def test_the_command_that_mends_it_takes_nothing_from_others(redis_server: EmbeddedRedis) -> None:
    """Somebody else listens to expiries: what we tell the operator to run leaves that as it is."""
    async with open_redis(redis_server) as redis:
        await redis.call("CONFIG", "SET", "notify-keyspace-events", "Ex")
        checked = await run_to_end("check", environ=environment(redis_server, module="preflightd"), module="preflightd")
        found = re.search(r"redis-cli config set notify-keyspace-events (\S+)", checked.stdout)
        assert found is not None
        assert set("ExKgh") <= set(found[1])
        await redis.call("CONFIG", "SET", "notify-keyspace-events", found[1])


async def test_a_server_that_does_not_let_us_look_is_told_of(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_redis(redis_server) as redis:
        await redis.call("ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", "-config")
        url = f"redis://limited:secret@{HOST}:{redis_server.port}"
        checked = await run_to_end("check", environ=environment(url, module="preflightd"), module="preflightd")
        assert checked.code == 0
        assert "warning: can't tell whether redis notifies" in checked.stdout
        async with open_daemon(url, NO_RESYNC, expect={NOTIFICATIONS}, module="preflightd") as daemon:
            (line,) = await daemon.wait_said(NOTIFICATIONS, level="warn")
            assert "can't tell" in line["warning"]
            assert "NOPERM" in line["warning"]
            client = await connect(nursery, daemon.port, f"/{RUN}")
            await redis.call("HSET", RUN, "attrs:has_sbs", "true")
            await wait_true(redis, {RUN: [client]})


# -- pages and the end ------------------------------------------------------------------------------------------------


async def test_pages(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, {"metrics_enabled": "true"}, module="preflightd") as daemon:
        assert await daemon.health() == 200
        assert (await fetch(daemon.port, "/health/live")).status == 200
        assert (await fetch(daemon.port, "/")).status == 404
        assert (await fetch(daemon.port, f"/{RUN}")).status == 426
        assert (await fetch(daemon.port, f"/{RUN}:log")).status == 400
        assert [(await fetch(daemon.port, path)).status for path in ("/metrics/", "/%6detrics", "/health/")] == [
            404
        ] * 3
        page = (await fetch(daemon.port, "/metrics")).body.decode()
        for name in ("connections_active", "messages_sent_total", "redis_reconnects_total", "write_errors_total"):
            assert re.search(rf"^preflight2_{name} ", page, re.MULTILINE), name


async def test_a_drain_says_goodbye_to_every_client(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    async with open_daemon(redis_server, NO_RESYNC, module="preflightd") as daemon, open_redis(redis_server) as redis:
        clients = await gather(nursery, daemon.port, [RUN, "other"], 20)
        daemon.signal()
        for client in clients:
            await client.wait_ended(within=PATIENCE)
            assert client.messages == [ALL_FALSE, HANGUP_PAYLOAD]
            assert client.seen[-1][1:] == (CLOSE, b"\x03\xe9drain")
        assert await daemon.wait_exit() == 0
        assert await redis.subscribers(f"__keyspace@0__:{RUN}") == 0
        assert daemon.said("stopped", code=0)


async def test_a_topic_is_given_back_with_its_last_client(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    async with open_daemon(redis_server, NO_RESYNC, module="preflightd") as daemon, open_redis(redis_server) as redis:
        client = await connect(nursery, daemon.port, f"/{RUN}")
        assert await redis.subscribers(f"__keyspace@0__:{RUN}") == 1
        await client.leave()

        async def gone() -> bool:
            return await redis.subscribers(f"__keyspace@0__:{RUN}") == 0

        await wait_until(gone, "unsubscribed")
        assert await daemon.metric("preflight2_topics_active") == 0
