"""Several processes that serve one port as one daemon (SPEC 2, WORKERS): real processes, killed for real."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.client import HANGUP_PAYLOAD, handshake
from tests.support.daemon import DaemonProcess, environment, open_daemon, run_to_end
from tests.support.raw import HOST, PATIENCE, connect, open_redis, start_client, wait_until

if TYPE_CHECKING:
    from common.embedded import EmbeddedRedis
    from tests.support.raw import RawClient

pytestmark = pytest.mark.integration

WORKERS = 2
TWO = {"workers": str(WORKERS), "metrics_enabled": "true"}
CLIENTS = 24


def processes(daemon: DaemonProcess) -> list[int]:
    """The process ids of the daemon's workers."""
    # A child belongs to the thread that forked it.
    tasks = Path(f"/proc/{daemon.pid}/task").glob("*/children")
    return [int(pid) for children in tasks for pid in children.read_text().split()]


async def connected(nursery: trio.Nursery, daemon: DaemonProcess) -> list[RawClient]:
    """Clients on one channel, enough of them that every worker has some."""
    return [await connect(nursery, daemon.port, "/run:log") for _ in range(CLIENTS)]


async def test_every_client_gets_every_message_whichever_worker_serves_it(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, TWO) as daemon, trio.open_nursery() as nursery:
        clients = await connected(nursery, daemon)
        async with open_redis(redis_server) as redis:
            assert await redis.subscribers("run:log") <= WORKERS
            await redis.publish("run:log", map(str, range(100)))
        expected = [b'{"type":"status","data":"%d"}' % number for number in range(100)]
        for client in clients:
            assert await client.receive(100) == expected
        daemon.signal()
        for client in clients:
            await client.wait_ended(within=10)
            assert client.messages[100:] == [HANGUP_PAYLOAD]
            assert client.close_code == 1001


async def test_one_scrape_speaks_for_all_workers(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, TWO) as daemon, trio.open_nursery() as nursery:
        clients = await connected(nursery, daemon)
        async with open_redis(redis_server) as redis:
            await redis.publish("run:log", ["once"])
        for client in clients:
            await client.receive(1)
        assert await daemon.metric("status2_connections_active") == CLIENTS
        assert await daemon.metric("status2_messages_forwarded_total") == CLIENTS
        assert await daemon.metric("status2_redis_up") == 1
        assert await daemon.metric("process_open_fds") > CLIENTS
        nursery.cancel_scope.cancel()


async def test_a_killed_worker_is_replaced_and_nobody_elses_client_notices(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, TWO, expect=["worker died"]) as daemon, trio.open_nursery() as nursery:
        clients = await connected(nursery, daemon)
        assert await daemon.metric("status2_connections_total") == CLIENTS
        victim = processes(daemon)[0]
        os.kill(victim, signal.SIGKILL)
        await wait_until(lambda: any(client.ended for client in clients), "the victim's clients are gone")
        await daemon.wait_said("worker died", code=-signal.SIGKILL)
        survivors = [client for client in clients if not client.ended]
        async with open_redis(redis_server) as redis:
            await redis.publish("run:log", ["after"])
        for client in survivors:
            assert await client.receive(1) == [b'{"type":"status","data":"after"}']
        await wait_until(lambda: _healthy(daemon), "a successor is ready")
        assert len(processes(daemon)) == WORKERS
        assert victim not in processes(daemon)
        # What the victim had counted is still counted, so that no rate is computed from a fall.
        assert await daemon.metric("status2_connections_total") == CLIENTS
        assert await daemon.metric("status2_connections_active") == len(survivors)
        nursery.cancel_scope.cancel()


async def test_workers_do_not_outlive_a_killed_parent(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, TWO, code=-signal.SIGKILL) as daemon:
        workers = processes(daemon)
        assert len(workers) == WORKERS
        daemon.signal(signal.SIGKILL)
        await wait_until(lambda: not any(_alive(pid) for pid in workers), "the workers are gone")


async def test_ctrl_c_in_the_terminal_drains_once(redis_server: EmbeddedRedis) -> None:
    """A terminal signals every process of its group: the workers must not take their parent's word for a second one."""
    async with open_daemon(redis_server, TWO) as daemon, trio.open_nursery() as nursery:
        client = await connect(nursery, daemon.port, "/run:log")
        group = {os.getpgid(pid) for pid in processes(daemon)}
        assert os.getpgid(daemon.pid) not in group
        daemon.signal(signal.SIGINT)
        await client.wait_ended(within=10)
        assert client.close_code == 1001


async def test_a_second_signal_ends_all_at_once(redis_server: EmbeddedRedis) -> None:
    async with (
        open_daemon(redis_server, TWO | {"drain_spread": "10s"}, code=1, expect=["ended by a second signal"]) as daemon,
        trio.open_nursery() as nursery,
    ):
        clients = await connected(nursery, daemon)
        workers = processes(daemon)
        daemon.signal()
        await wait_until(lambda: any(client.ended for client in clients), "the drain has begun")
        daemon.signal()
        assert await daemon.wait_exit(within=5) == 1
        assert not any(_alive(pid) for pid in workers)
        nursery.cancel_scope.cancel()


async def test_a_second_instance_finds_the_port_taken(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, TWO) as daemon:
        address = f"{HOST}:{daemon.port}"
        second = await run_to_end(environ=environment(redis_server, TWO) | {"STATUS_LISTEN_ADDR": address})
        assert second.code == 2
        (line,) = second.said("error")
        assert (line["msg"], line["address"]) == ("can't listen", address)


async def test_redis_unavailable_at_start_ends_the_daemon_with_its_code() -> None:
    impatient = TWO | {"redis_max_retries": "2", "redis_retry_base": "50ms", "redis_retry_max": "50ms"}
    ended = await run_to_end(environ=environment(f"redis://{HOST}:1/2", impatient))
    assert ended.code == 1
    assert {line["msg"] for line in ended.said("error")} >= {"redis unavailable at start", "worker could not start"}


async def test_limits_are_shared_out(redis_server: EmbeddedRedis) -> None:
    limited = TWO | {"max_connections": "4"}
    async with open_daemon(redis_server, limited) as daemon, trio.open_nursery() as nursery:
        clients = [await start_client(nursery, daemon.port, handshake("/run:log")) for _ in range(CLIENTS)]
        for client in clients:
            await client.wait(lambda client: client.status is not None, within=PATIENCE)
        statuses = Counter(client.status for client in clients)
        # Which worker a connection reaches is chance; at least one of them has clients.
        assert 2 <= statuses[101] <= 4
        assert statuses[503] == CLIENTS - statuses[101]
        nursery.cancel_scope.cancel()


async def _healthy(daemon: DaemonProcess) -> bool:
    return await daemon.health() == 200


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
