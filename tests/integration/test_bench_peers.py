"""The peers of the bench are honest only if they do the same work: the same frames, pings, goodbyes and ends.

A peer whose runtime is not on this machine is skipped with the reason.
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import chain
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import pytest
import trio

import bench.targets
from bench.targets import FANOUT_TARGETS, PREFLIGHT_TARGETS, BenchTarget, RunningTarget, TargetError, open_target
from preflightd.checklist import packaged
from tests.support.ports import free_port
from tests.support.raw import PATIENCE, connect, open_redis, wait_until

if TYPE_CHECKING:
    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

CLIENTS: Final = 20
CHANNEL: Final = "bench;;peer;;_base:wepp"
RUN: Final = "bench;;peer;;_base"
DATABASE: Final = 2
FRAME_HEAD: Final = 4
"""Bytes before the payload of a frame of 126 to 65,535 bytes."""
MESSAGES: Final = [f'{number} "routed" \\ to the outlet' for number in range(10)]
FRAMES: Final = [
    b'{"type":"status","data":"%d \\"routed\\" \\\\ to the outlet"}' % number for number in range(len(MESSAGES))
]
PREPARATION: Final = 20.0
PING_INTERVAL: Final = 5.0

PYTHON_LOOP: Final = BenchTarget(
    "limit_loop",
    lambda port, redis: [sys.executable, "-m", "bench.peers.limit.loop", "--port", str(port), "--redis", redis],
)
FANOUT_PEERS: Final = [*(target for name, target in FANOUT_TARGETS.items() if name != "statusd"), PYTHON_LOOP]
PREFLIGHT_PEERS: Final = [target for name, target in PREFLIGHT_TARGETS.items() if name != "preflightd"]
PEERS: Final = [*FANOUT_PEERS, *PREFLIGHT_PEERS]


def path_of(peer: BenchTarget) -> str:
    """One that it serves."""
    return f"/{RUN if peer in PREFLIGHT_PEERS else CHANNEL}"


async def why_not(peer: BenchTarget) -> str | None:
    """Why it can't run here; None when it is prepared."""
    if reason := peer.missing():
        return reason
    if peer.prepare is None:
        return None
    with trio.move_on_after(PREPARATION):
        try:
            await peer.prepare()
        except TargetError as error:
            if peer.name != "node_ws":
                raise
            return str(error)  # most likely a registry that can't be reached
        return None
    return f"preparing {peer.name} takes longer than {PREPARATION:g} s"


@pytest.fixture(params=PEERS, ids=lambda peer: peer.name)
def peer(request: pytest.FixtureRequest) -> BenchTarget:
    """Each in turn, prepared; the test is skipped when it can't run here."""
    chosen: BenchTarget = request.param
    if reason := trio.run(why_not, chosen):
        pytest.skip(reason)
    return chosen


@pytest.fixture(autouse=True)
def _beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer is told its port: one that no other worker of the suite tells another. They have a machine to themselves
    only in the bench: here one may take longer to start and to end."""
    monkeypatch.setattr(bench.targets, "_free_port", free_port)
    monkeypatch.setattr(bench.targets, "START_TIMEOUT", PATIENCE)
    monkeypatch.setattr(bench.targets, "STOP_TIMEOUT", PATIENCE)


def exit_status(process: RunningTarget) -> int | None:
    """Of an ended process, which stays to be waited for by its owner; None while it runs."""
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return None if ended is None else ended.si_status


async def stop(running: RunningTarget) -> None:
    """Ask a peer to end: it does, before anybody kills it."""
    os.kill(running.pid, signal.SIGTERM)
    await wait_until(lambda: exit_status(running) is not None, f"{running.name} ends when it is asked to")


@pytest.mark.parametrize("peer", FANOUT_PEERS, ids=lambda peer: peer.name, indirect=True)
async def test_every_client_gets_every_message_once_and_in_order(
    peer: BenchTarget, redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_target(peer, redis_server.url(DATABASE)) as running, open_redis(redis_server) as redis:
        port = running.address[1]
        clients = [await connect(nursery, port, f"/{CHANNEL}") for _ in range(CLIENTS)]
        other = await connect(nursery, port, "/bench;;peer;;other:wepp")
        # The 101 was not sent before the subscription held: nothing is lost, however soon it comes.
        await redis.publish(CHANNEL, MESSAGES)
        for client in clients:
            await client.receive(len(FRAMES))

        for client in (*clients, other):
            await client.send_close(1000)
            await client.wait_ended()
        assert all(client.messages == FRAMES for client in clients)
        assert other.messages == []
        assert {client.close_code for client in clients} == {1000}

        await stop(running)


@pytest.mark.parametrize("peer", PREFLIGHT_PEERS, ids=lambda peer: peer.name, indirect=True)
async def test_every_client_gets_the_frames_of_preflightd_and_only_those_that_tell_something_new(
    peer: BenchTarget, redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    stamps = [{b"timestamps:build_channels": b"%d" % number} for number in range(1, 11)]
    contents: list[dict[bytes, bytes]] = [{}, *stamps]
    frames = [packaged().evaluate(content).frame()[FRAME_HEAD:] for content in contents]
    async with open_target(peer, redis_server.url(DATABASE)) as running, open_redis(redis_server) as redis:
        port = running.address[1]
        await redis.call("SELECT", DATABASE)
        clients = [await connect(nursery, port, quote(f"/{RUN}")) for _ in range(CLIENTS)]
        other = await connect(nursery, port, "/bench;;peer;;other")
        for number, content in enumerate(stamps, 1):
            for client in clients:
                await client.receive(number)
            await redis.call("HSET", RUN, "of-no-interest", number)
            await redis.call("HSET", RUN, *chain.from_iterable(content.items()))
        for client in clients:
            await client.receive(len(frames))

        for client in (*clients, other):
            await client.send_close(1000)
            await client.wait_ended()
        assert all(client.messages == frames for client in clients)
        assert other.messages == frames[:1]

        await stop(running)


@pytest.mark.parametrize("peer", PREFLIGHT_PEERS, ids=lambda peer: peer.name, indirect=True)
async def test_of_many_changes_at_once_the_last_is_told(
    peer: BenchTarget, redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    last = packaged().evaluate({b"last_modified": b"1000"}).frame()[FRAME_HEAD:]
    async with open_target(peer, redis_server.url(DATABASE)) as running, open_redis(redis_server) as redis:
        client = await connect(nursery, running.address[1], f"/{RUN}")
        await redis.call("SELECT", DATABASE)
        for number in range(1, 1001):
            await redis.send("HSET", RUN, "last_modified", number)
        await client.wait(lambda client: last in client.messages)
        assert client.messages[-1] == last
        assert len(set(client.messages)) == len(client.messages)


async def test_a_lost_redis_ends_the_peer_with_a_failure(
    peer: BenchTarget, redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_target(peer, redis_server.url(DATABASE)) as running:
        client = await connect(nursery, running.address[1], path_of(peer))
        await redis_server.terminate()
        await client.wait_ended()
        await wait_until(lambda: exit_status(running) is not None, "the peer ends")
        assert exit_status(running) != 0


@pytest.mark.sensitive
async def test_all_peers_ping_every_five_seconds(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    peers = [peer for peer in PEERS if await why_not(peer) is None]

    async def check(peer: BenchTarget) -> None:
        async with open_target(peer, redis_server.url(DATABASE)) as running:
            started_at = trio.current_time()
            client = await connect(nursery, running.address[1], path_of(peer))
            await client.wait(lambda client: bool(client.pings))
            # No sooner, but for the clock of another runtime. How much later is the machine's business.
            assert client.pings[0] - started_at >= PING_INTERVAL - 0.1, peer.name

    async with trio.open_nursery() as checks:
        for peer in peers:
            checks.start_soon(check, peer)
