"""The daemons under real sentinels: planned and unplanned failovers under load, and sentinels that are gone or lie."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio

from common.config import load
from common.embedded import open_embedded_redis
from common.embedded_group import NoTLSError, ServerTLS, ask
from common.embedded_sentinel import MASTER, open_embedded_sentinel
from opsd.history import History, make_history_link
from opsd.keys import keys_of
from opsd.settings import OpsSettings
from tests.integration.test_opsd_history import status
from tests.support.daemon import DaemonProcess, open_daemon, run_to_end
from tests.support.daemon import environment as environment_of
from tests.support.ledger import Publisher
from tests.support.logbook import Logbook
from tests.support.preflight import frame_of
from tests.support.raw import HOST, PATIENCE, RawClient, connect, fetch, wait_until
from tests.support.replication import question, wait_copied

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from common.embedded import EmbeddedRedis
    from common.embedded_sentinel import EmbeddedSentinel

pytestmark = [pytest.mark.integration, pytest.mark.sensitive]

CHANNEL: Final = "run-1:status"
INTERVAL: Final = 0.004
"""Seconds between two messages of a publisher: 250 a second, where the machine lets it."""

DOWN_AFTER: Final = 2.0
"""Seconds without an answer of the primary after which the sentinels look for another."""
UNNOTICED: Final = 60.0
"""The same, where nothing is to befall it: a machine may stand still for longer than is thought."""

SOME: Final = 100
"""Messages of each publisher before and after what a test does."""

OUTAGE: Final = {
    "redis stream interrupted",
    "redis unavailable, retrying",
    "redis request timed out",
    "sentinel says nothing",
    "no sentinel answers",
}
"""What may be said while a primary is gone; sentinels are late on a busy machine."""

SETTINGS: Final = {
    "metrics_enabled": "true",
    "redis_request_timeout": "3s",
    "redis_connect_timeout": "5s",
    "redis_retry_base": "200ms",
    "redis_retry_max": "1s",
}


@attrs.frozen
class Scene:
    """A group, statusd, clients of one channel, and two publishers to it."""

    group: EmbeddedSentinel
    daemon: DaemonProcess
    clients: list[RawClient]
    keeping: Publisher
    asking: Publisher
    publishing: trio.CancelScope

    @property
    def publishers(self) -> tuple[Publisher, Publisher]:
        return self.keeping, self.asking

    async def more(self) -> None:
        """Wait until each publisher has said some more."""
        wanted = {publisher: len(publisher.said) + SOME for publisher in self.publishers}
        await wait_until(lambda: all(len(one.said) >= count for one, count in wanted.items()), "more is published")

    async def heard_since(self) -> dict[Publisher, int]:
        """The number of a message of each publisher from now on that every client has got."""
        await self.more()
        marks = {publisher: publisher.said[-1] for publisher in self.publishers}
        found: dict[Publisher, int] = {}

        def heard() -> bool:
            for publisher, mark in marks.items():
                lost = max({n for client in self.clients for n in publisher.account(client.messages).lost}, default=0)
                later = [number for number in publisher.said if number > max(mark, lost)]
                if len(later) < SOME:
                    return False
                found[publisher] = later[0]
            return True

        await wait_until(heard, "messages come again")
        return found

    async def finish(self) -> None:
        """Let the publishers end, and wait until what is on its way has come."""
        self.publishing.cancel()
        primary = await self.group.primary()
        await ask(primary, "PUBLISH", CHANNEL, "end:1")
        for client in self.clients:
            await client.receive_until(b'{"type":"status","data":"end:1"}')
            assert not client.ended
        assert await self.daemon.metric("status2_connections_active") == len(self.clients)
        assert await self.daemon.metric("status2_connections_total") == len(self.clients)
        assert await self.daemon.health() == 200


@asynccontextmanager
async def open_scene(redis_program: Path, down_after: float = DOWN_AFTER) -> AsyncIterator[Scene]:
    async with (
        open_embedded_sentinel(program=redis_program, down_after=down_after) as group,
        open_daemon(group.url(2), SETTINGS, expect=OUTAGE) as daemon,
        trio.open_nursery() as nursery,
    ):
        clients = [await connect(nursery, daemon.port, f"/{CHANNEL}") for _ in range(3)]
        keeping = Publisher("keeping", CHANNEL, group, INTERVAL)
        asking = Publisher("asking", CHANNEL, group, INTERVAL, asks=True)
        scope = trio.CancelScope()

        async def publish() -> None:
            with scope:
                async with trio.open_nursery() as publishing:
                    publishing.start_soon(keeping.run)
                    publishing.start_soon(asking.run)

        nursery.start_soon(publish)
        scene = Scene(group, daemon, clients, keeping, asking, scope)
        await scene.more()
        yield scene
        nursery.cancel_scope.cancel()


async def listed(node: EmbeddedRedis) -> bool:
    """Whether statusd has a connection there."""
    reply = await ask(node, "CLIENT", "LIST")
    assert isinstance(reply, bytes)
    return b" name=statusd " in reply


# -- failovers


async def test_in_a_planned_failover_nothing_is_lost_of_who_keeps_its_connection(redis_program: Path) -> None:
    async with open_scene(redis_program, UNNOTICED) as scene:
        old = await scene.group.primary()
        new = await scene.group.failover()
        await wait_until(lambda: scene.asking.moved >= 1, "who asks has moved")
        # The old one makes everybody leave after some ten seconds.
        await wait_until(lambda: scene.keeping.moved >= 1, "who keeps its connection has been sent away")
        await scene.more()
        await scene.finish()
        for client in scene.clients:
            keeping, asking = (publisher.account(client.messages) for publisher in scene.publishers)
            assert (keeping.lost, keeping.twice, keeping.ordered) == ([], 0, True)
            assert (asking.twice, asking.ordered) == (0, True)
            # It may know of the new primary before we do. How many that costs is a figure of `bench.failover`.
            assert asking.lost == scene.asking.unheard
        assert scene.daemon.said("redis stream interrupted") == []
        assert len(await scene.daemon.wait_said("redis followed elsewhere", now=f"{HOST}:{new.port}")) == 1
        assert len(await scene.daemon.wait_said("redis former server let go", address=f"{HOST}:{old.port}")) == 1


async def test_a_killed_primary_ends_no_client_and_messages_resume(redis_program: Path) -> None:
    async with open_scene(redis_program) as scene:
        old = await scene.group.primary()
        await old.kill()
        new = await scene.group.wait_moved(old)
        since = await scene.heard_since()
        await scene.finish()
        for client in scene.clients:
            for publisher in scene.publishers:
                account = publisher.account(client.messages)
                assert (account.twice, account.ordered) == (0, True)
                assert not [number for number in account.lost if number >= since[publisher]]
        assert await listed(new)


async def test_a_primary_that_stands_still_is_left_and_not_gone_back_to(redis_program: Path) -> None:
    async with open_scene(redis_program) as scene:
        old = await scene.group.primary()
        old.stop()
        new = await scene.group.wait_moved(old)

        def away() -> bool:
            return bool(scene.daemon.said("redis followed elsewhere") or len(scene.daemon.said("redis online")) > 1)

        # What the sentinels say may come before the silence is noticed, or after.
        await wait_until(away, "the new one is followed")
        await trio.sleep(5)
        old.cont()
        since = await scene.heard_since()
        await scene.group.wait_synced()
        await wait_until(lambda: scene.keeping.moved >= 1, "who keeps its connection has been sent away")
        await scene.more()
        await scene.finish()
        for client in scene.clients:
            for publisher in scene.publishers:
                account = publisher.account(client.messages)
                assert (account.twice, account.ordered) == (0, True)
            # Who kept its connection has spoken to nobody until it was sent away.
            lost = scene.asking.account(client.messages).lost
            assert not [number for number in lost if number >= since[scene.asking]]
        assert await listed(new)
        assert not await listed(old)


async def test_no_client_sees_the_checklist_of_a_primary_that_came_back_empty(redis_program: Path) -> None:
    fields: dict[str | bytes, str | bytes] = {b"timestamps:build_soils": b"1700000000"}
    true, empty = frame_of({b"timestamps:build_soils": b"1700000000"}), frame_of({})
    assert true != empty
    async with (
        open_embedded_sentinel(program=redis_program, down_after=DOWN_AFTER) as group,
        open_daemon(group.url(0), SETTINGS, module="preflightd", expect=OUTAGE) as daemon,
        trio.open_nursery() as nursery,
    ):
        old = await group.primary()
        await ask(old, "HSET", "run-1", *(part for pair in fields.items() for part in pair))
        await wait_copied(old, group.nodes[1])
        clients = [await connect(nursery, daemon.port, "/run-1") for _ in range(3)]
        for client in clients:
            assert await client.receive(1) == [true]
        await old.kill()
        new = await group.wait_moved(old)
        # Empty, and a primary by its own account until a sentinel tells it otherwise.
        await old.restart()
        assert await question(old, "HGETALL", "run-1") == []
        await daemon.wait_said("redis online", 2)
        # The daemon looks for a primary again and again meanwhile.
        for _ in range(3):
            await ask(new, "CLIENT", "KILL", "TYPE", "pubsub")
            await trio.sleep(0.5)
        await ask(new, "HSET", "run-1", "timestamps:build_landuse", "1700000001")
        changed = frame_of({b"timestamps:build_soils": b"1700000000", b"timestamps:build_landuse": b"1700000001"})
        for client in clients:
            await client.receive_until(changed)
            assert set(client.messages) == {true, changed}
            assert not client.ended
        await group.wait_synced()
        nursery.cancel_scope.cancel()


async def test_opsd_s_history_follows_the_primary(redis_program: Path) -> None:
    async with (
        open_embedded_sentinel(program=redis_program, down_after=DOWN_AFTER) as group,
        trio.open_nursery() as nursery,
    ):
        environ = {"OPS_REDIS_URL": group.url(3), "OPS_TARGETS": "none", "OPS_REDIS_REQUEST_TIMEOUT": "20s"}
        settings = load(OpsSettings, environ).settings
        logbook = Logbook()
        link = make_history_link(settings, logbook.log, random.Random())
        history = History(link, keys_of(settings), settings.history, logbook.log)
        with trio.fail_after(PATIENCE):
            await nursery.start(link.run)
        await history.record(status(1), 1.0)
        old = await group.primary()
        await wait_copied(old, group.nodes[1])
        new = await group.failover()
        await wait_until(
            lambda: [node.address for node in link.describe().nodes] == [f"{HOST}:{new.port}"],
            "the new one is followed",
        )
        await history.record(status(2), 1.0)
        # In points they may be one.
        assert await link.request("XLEN", keys_of(settings).history) == 2
        assert (link.reconnects, link.role_changes) == (1, 1)
        nursery.cancel_scope.cancel()


# -- sentinels


async def test_a_live_link_is_kept_whatever_becomes_of_the_sentinels(redis_program: Path) -> None:
    async with open_scene(redis_program, UNNOTICED) as scene:
        first, second, third = scene.group.sentinels
        other = scene.group.nodes[1]
        # One lies: it says that the replica is the primary.
        await ask(first, "SENTINEL", "REMOVE", MASTER)
        await ask(first, "SENTINEL", "MONITOR", MASTER, HOST, other.port, 3)
        await scene.more()
        for sentinel in (second, third):
            await sentinel.kill()
        await scene.daemon.wait_said("sentinel says nothing", 2)
        # There is nobody left to contradict it, but the server itself.
        unusable = "redis successor unusable, the connection is kept"
        scene.daemon.expected.add(unusable)
        await scene.daemon.wait_said(unusable, error=f"a replica, and a primary is needed: {HOST}:{other.port}")
        await first.kill()
        await scene.daemon.wait_said("no sentinel answers")
        # Who asks the sentinels has nobody to ask.
        wanted = len(scene.keeping.said) + SOME
        await wait_until(lambda: len(scene.keeping.said) >= wanted, "more is published")
        assert await scene.daemon.metric("status2_redis_up") == 1
        detail = (await fetch(scene.daemon.port, "/health")).body.decode()
        assert "no sentinel answers: the connection is kept" in detail
        assert await scene.daemon.health() == 200
        scene.publishing.cancel()
        await ask(scene.group.nodes[0], "PUBLISH", CHANNEL, "end:1")
        for client in scene.clients:
            await client.receive_until(b'{"type":"status","data":"end:1"}')
            assert scene.keeping.account(client.messages).lost == []
            assert not client.ended
        assert scene.daemon.said("redis stream interrupted") == []


async def test_a_master_that_no_sentinel_knows_fails_the_start_with_a_line(redis_program: Path) -> None:
    async with open_embedded_sentinel(program=redis_program, down_after=UNNOTICED) as group:
        url = group.url(2).replace(MASTER, "another")
        ended = await run_to_end(environ=environment_of(url, {"redis_max_retries": "1"}))
        (line,) = [line for line in ended.lines if line["msg"] == "redis unavailable at start"]
        assert "no sentinel names a primary for another: it knows no master of that name" in line["error"]
        assert ended.code == 1


async def test_sentinels_may_have_a_password_of_their_own(redis_program: Path) -> None:
    async with open_embedded_sentinel(
        password="servers'", sentinel_password="sentinels'", program=redis_program, down_after=UNNOTICED
    ) as group:
        settings = {**SETTINGS, "sentinel_password": "sentinels'"}
        async with open_daemon(group.url(2), settings) as daemon, trio.open_nursery() as nursery:
            client = await connect(nursery, daemon.port, f"/{CHANNEL}")
            await ask(await group.primary(), "PUBLISH", CHANNEL, "x")
            assert await client.receive(1) == [b'{"type":"status","data":"x"}']
            nursery.cancel_scope.cancel()
        ended = await run_to_end(environ=environment_of(group.url(2), {"sentinel_password": "wrong"}))
        (line,) = [line for line in ended.lines if line["msg"] == "redis unavailable at start"]
        assert "WRONGPASS" in line["error"]
        assert "sentinels have a login of their own" in line["error"]
        assert ended.code == 1


async def test_check_says_who_is_the_primary_and_what_each_sentinel_says(redis_program: Path) -> None:
    async with open_embedded_sentinel(program=redis_program, down_after=UNNOTICED) as group:
        await group.sentinels[2].kill()
        checked = await run_to_end("check", environ=environment_of(group.url(2)))
        assert checked.code == 0
        primary = f"{HOST}:{(await group.primary()).port}"
        lines = checked.stdout.splitlines()
        begin = next(number for number, line in enumerate(lines) if line.startswith("redis: OK, "))
        first, second, third = (f"sentinel {HOST}:{sentinel.port}: " for sentinel in group.sentinels)
        assert lines[begin + 1 :] == [
            f"node {primary}: master",
            f"{first}names {primary}, epoch 0",
            f"{second}names {primary}, epoch 0",
            f"{third}connection refused: {HOST}:{group.sentinels[2].port}",
            "warning: 1 of 3 sentinels say nothing",
        ]


async def test_with_tls_for_all_of_them(redis_program: Path) -> None:
    certificate = Path(__file__).parents[1] / "support" / "localhost.pem"
    try:
        async with open_embedded_sentinel(
            tls=ServerTLS(certificate, certificate, certificate), program=redis_program, down_after=UNNOTICED
        ) as group:
            # The certificate is not for an address.
            url = group.url(2, options="ssl_check_hostname=false")
            checked = await run_to_end("check", environ=environment_of(url))
            assert (checked.code, checked.stdout.count(": names ")) == (0, 3), checked.stdout
            async with open_daemon(url, SETTINGS, expect=OUTAGE) as daemon, trio.open_nursery() as nursery:
                client = await connect(nursery, daemon.port, f"/{CHANNEL}")
                new = await group.failover()
                await daemon.wait_said("redis followed elsewhere", now=f"{HOST}:{new.port}")
                await wait_until(lambda: bool(client.pings), "it lives")
                assert not client.ended
                nursery.cancel_scope.cancel()
    except NoTLSError as error:
        pytest.skip(f"{error}: apt-get install redis-server brings one that has it")


# -- replicas


async def test_a_replica_s_full_resync_converges(redis_program: Path) -> None:
    async with (
        open_embedded_sentinel(program=redis_program, sentinels=1, down_after=UNNOTICED) as group,
        open_embedded_redis(program=redis_program) as other,
        trio.open_nursery() as nursery,
    ):
        primary, replica = group.nodes
        await group.sentinels[0].kill()
        await ask(primary, "HSET", "run-1", "timestamps:build_soils", "1700000000")
        await ask(other, "HSET", "run-1", "timestamps:build_landuse", "1700000000")
        await wait_copied(primary, replica)
        settings = {**SETTINGS, "resync_interval": "300ms"}
        expected = {"redis is a replica", "changes without notification"}
        async with open_daemon(replica, settings, module="preflightd", expect=expected) as daemon:
            client = await connect(nursery, daemon.port, "/run-1")
            assert await client.receive(1) == [frame_of({b"timestamps:build_soils": b"1700000000"})]
            # All its data are another server's from now on: nobody is notified, and no connection ends.
            await ask(replica, "REPLICAOF", HOST, other.port)
            await client.receive_until(frame_of({b"timestamps:build_landuse": b"1700000000"}))
            assert not client.ended
            nursery.cancel_scope.cancel()


async def test_without_resyncs_a_replica_is_refused(redis_program: Path) -> None:
    async with open_embedded_sentinel(program=redis_program, sentinels=1, down_after=UNNOTICED) as group:
        replica = group.nodes[1]
        settings = {"resync_interval": "0", "redis_max_retries": "1"}
        environ = environment_of(replica, settings, module="preflightd")
        why = "a replica, and PREFLIGHT_RESYNC_INTERVAL=0 needs a primary"
        ended = await run_to_end(environ=environ, module="preflightd")
        (line,) = [line for line in ended.lines if line["msg"] == "redis unavailable at start"]
        assert (ended.code, why in line["error"]) == (1, True)
        checked = await run_to_end("check", environ=environ, module="preflightd")
        assert (checked.code, why in checked.stdout) == (1, True)
