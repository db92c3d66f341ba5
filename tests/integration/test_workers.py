"""Several processes that serve one port as one daemon (SPEC 2, WORKERS): real processes, killed for real."""

from __future__ import annotations

import os
import signal
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import trio

from common.signals import IMPATIENCE
from common.workers.supervisor import REPLACING
from tests.support.client import handshake
from tests.support.daemon import DaemonProcess, environment, open_daemon, run_to_end
from tests.support.ports import free_port
from tests.support.raw import HOST, PATIENCE, ask, connect, connect_silent, fetch, open_redis, start_client, wait_until

if TYPE_CHECKING:
    from common.embedded import EmbeddedRedis
    from tests.support.raw import RawClient

pytestmark = pytest.mark.integration

WORKERS = 2
TWO = {"workers": str(WORKERS), "metrics_enabled": "true"}
LONG = {"drain_timeout": "1h", "write_timeout": "1h", "ping_interval": "1h", "pong_timeout": "3h"}
"""A drain that only its clients end."""
CLIENTS = 24


def sockets(pid: int, port: int) -> int:
    """How many clients' sockets the process has."""
    return sum(
        connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == port
        for connection in psutil.Process(pid).net_connections("tcp")
    )


async def connected(nursery: trio.Nursery, daemon: DaemonProcess) -> list[RawClient]:
    """At least `CLIENTS` on one channel, of which every worker has some. Who takes one is the kernel's choice."""
    clients: list[RawClient] = []

    async def everywhere() -> bool:
        clients.append(await connect(nursery, daemon.port, "/run:log"))
        return len(clients) >= CLIENTS and all(sockets(pid, daemon.port) for pid in daemon.workers())

    await wait_until(everywhere, "every worker has clients")
    return clients


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
            await client.wait_ended()
            assert client.messages[100:] == []
            assert client.close_code == 1001


async def test_one_scrape_speaks_for_all_workers(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, TWO) as daemon, trio.open_nursery() as nursery:
        clients = await connected(nursery, daemon)
        async with open_redis(redis_server) as redis:
            await redis.publish("run:log", ["once"])
        for client in clients:
            await client.receive(1)
        await daemon.wait_metric("status2_connections_active", len(clients))
        await daemon.wait_metric("status2_messages_forwarded_total", len(clients))
        assert await daemon.metric("status2_redis_up") == 1
        assert await daemon.metric("process_open_fds") > len(clients)
        nursery.cancel_scope.cancel()


async def test_a_killed_worker_is_replaced_and_nobody_elses_client_notices(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, TWO, expect=["worker died"]) as daemon, trio.open_nursery() as nursery:
        clients = await connected(nursery, daemon)
        # The parent knows now what each of them has counted.
        await daemon.wait_metric("status2_connections_total", len(clients))
        victim = daemon.workers()[0]
        held = sockets(victim, daemon.port)
        os.kill(victim, signal.SIGKILL)
        await wait_until(lambda: any(client.ended for client in clients), "the victim's clients are gone")
        (died,) = await daemon.wait_said("worker died", code=-signal.SIGKILL)
        assert died["pid"] == victim
        await wait_until(lambda: sum(client.ended for client in clients) == held, "all of them")
        survivors = [client for client in clients if not client.ended]
        async with open_redis(redis_server) as redis:
            await redis.publish("run:log", ["after"])
        for client in survivors:
            assert await client.receive(1) == [b'{"type":"status","data":"after"}']
        await wait_until(lambda: has_successor(daemon, died), "a successor is ready")
        await wait_until(lambda: _healthy(daemon), "all are")
        assert len(daemon.workers()) == WORKERS
        assert victim not in daemon.workers()
        # What the victim had counted is still counted, so that no rate is computed from a fall.
        await daemon.wait_metric("status2_connections_active", len(survivors))
        assert await daemon.metric("status2_connections_total") == len(clients)
        nursery.cancel_scope.cancel()


async def test_a_proxy_hears_nothing_of_a_worker_that_is_being_replaced(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, TWO, expect=["worker died"]) as daemon:
        victim = daemon.workers()[0]
        statuses: list[int] = []
        killed = trio.current_time()
        os.kill(victim, signal.SIGKILL)
        # Until it is gone it may still take a connection.
        await wait_until(lambda: not _alive(victim), "it is gone")

        async def replaced() -> bool:
            status = await daemon.health()
            if trio.current_time() < killed + REPLACING:
                # An answer that came later may rightly be another one.
                statuses.append(status)
            (died, *_) = await daemon.wait_said("worker died")
            return has_successor(daemon, died)

        await wait_until(replaced, "a successor is ready")
        assert set(statuses) <= {200}
        await wait_until(lambda: _healthy(daemon), "all are ready")


async def test_lines_of_one_connection_share_an_id_and_name_the_daemon(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, TWO) as daemon, trio.open_nursery() as nursery:
        clients = await connected(nursery, daemon)
        workers = {line["worker"]: line["pid"] for line in await daemon.wait_said("worker started", WORKERS)}
        assert workers.keys() == {1, 2}
        accepted = await daemon.wait_said("connection accepted", len(clients))
        daemon.signal()
        closed = await daemon.wait_said("connection closed", len(accepted))
        ids = [line["connection"] for line in accepted]
        assert len(set(ids)) == len(ids)
        assert sorted(ids) == sorted(line["connection"] for line in closed)
        for line in accepted:
            assert line["pid"] == workers[line["worker"]]
        assert await daemon.wait_exit() == 0
        assert {line["daemon"] for line in daemon.lines} == {"statusd"}
        assert daemon.said("redis online", component="redis", daemon="statusd")
        nursery.cancel_scope.cancel()


async def test_workers_do_not_outlive_a_killed_parent(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, TWO, code=-signal.SIGKILL, expect=["supervisor is gone"]) as daemon:
        workers = daemon.workers()
        assert len(workers) == WORKERS
        daemon.signal(signal.SIGKILL)
        await wait_until(lambda: not any(_alive(pid) for pid in workers), "the workers are gone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_to_all_processes_however_often_is_one_drain(
    redis_server: EmbeddedRedis, number: signal.Signals
) -> None:
    """systemd signals every process of a unit, a terminal every process of its group; and both repeat themselves."""
    async with open_daemon(redis_server, TWO) as daemon, trio.open_nursery() as nursery:
        clients = await connected(nursery, daemon)
        assert {os.getpgid(pid) for pid in daemon.workers()} == {daemon.pid}
        daemon.signal_group(number)
        daemon.signal_group(number)
        for client in clients:
            await client.wait_ended(within=PATIENCE)
        assert [(client.messages, client.close_code) for client in clients] == [([], 1001)] * len(clients)
        assert await daemon.wait_exit() == 0


async def test_a_daemon_that_drains_as_a_whole_answers_until_its_end(redis_server: EmbeddedRedis) -> None:
    async with (
        open_daemon(redis_server, TWO | LONG) as daemon,
        await connect_silent(daemon.port, "/run:log") as one,
        await connect_silent(daemon.port, "/run:log") as two,
    ):
        await daemon.wait_said("connection accepted", 2)
        daemon.signal_group()
        await daemon.wait_said("draining", workers=WORKERS)
        # The one too that may have nobody to drain: until it has heard of it, it lets newcomers in.
        for worker in range(1, WORKERS + 1):
            await daemon.wait_said("draining", worker=worker)
        for _ in range(CLIENTS):
            late = await ask(daemon.port, handshake("/run:log"))
            assert (late.status, late.body) == (503, b"the daemon is going down\n")
        await one.aclose()
        await two.aclose()
        assert await daemon.wait_exit() == 0


async def test_a_worker_that_drains_alone_leaves_the_newcomers_to_the_others(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, TWO | LONG) as daemon, trio.open_nursery() as nursery:
        async with await connect_silent(daemon.port, "/run:log"):
            (accepted,) = await daemon.wait_said("connection accepted")
            worker = accepted["worker"]
            (pid,) = [pid for pid in daemon.workers() if f"--worker={worker}" in arguments_of(pid)]
            for _ in range(3):
                os.kill(pid, signal.SIGTERM)
            await daemon.wait_said("draining", worker=worker)
            clients = [await connect(nursery, daemon.port, "/run:log") for _ in range(CLIENTS)]
            later = await daemon.wait_said("connection accepted", 1 + CLIENTS)
            assert {line["worker"] for line in later[1:]} == {WORKERS + 1 - worker}
            assert await daemon.health() == 200
            assert _alive(pid)
        (ended,) = await daemon.wait_said("worker ended", worker=worker)
        await wait_until(lambda: has_successor(daemon, ended), "a successor is ready")
        daemon.signal()
        for client in clients:
            await client.wait_ended(within=PATIENCE)


async def test_orphans_give_the_port_up_first_and_drain_then(redis_server: EmbeddedRedis) -> None:
    # No port of the kernel's choice: while nobody has it, it could become an outgoing connection's.
    address = f"{HOST}:{free_port()}"
    settings = TWO | {"listen_addr": address}
    async with open_daemon(
        redis_server, settings | LONG, code=-signal.SIGKILL, expect=["supervisor is gone"]
    ) as daemon:
        async with await connect_silent(daemon.port, "/run:log"):
            await daemon.wait_said("connection accepted")
            workers = daemon.workers()
            daemon.signal(signal.SIGKILL)
            await wait_until(lambda: not _listens(daemon.port), "nobody listens")
            async with open_daemon(redis_server, settings) as successor:
                assert successor.port == daemon.port
                assert any(_alive(pid) for pid in workers), "a client of theirs has not left yet"
        await wait_until(lambda: not any(_alive(pid) for pid in workers), "the workers are gone")


async def test_a_stopped_worker_is_noticed_and_replaced(redis_server: EmbeddedRedis) -> None:
    hung = ["worker does not answer", "worker hangs, killing it", "worker died"]
    async with open_daemon(redis_server, TWO, expect=hung) as daemon, trio.open_nursery() as nursery:
        clients = await connected(nursery, daemon)
        victim = daemon.workers()[0]
        os.kill(victim, signal.SIGSTOP)
        await daemon.wait_said("worker does not answer")
        meanwhile: list[tuple[datetime, int]] = []

        async def killed() -> bool:
            status = await daemon.health()
            meanwhile.append((datetime.now(UTC), status))
            return bool(daemon.said("worker hangs, killing it"))

        await wait_until(killed, "it is killed")
        # The line may be read later than the answer that follows what it says.
        (hangs,) = daemon.said("worker hangs, killing it")
        before = [status for came, status in meanwhile if came < datetime.fromisoformat(hangs["time"])]
        # The first may have come before the word had reached the other worker; on a slow machine there may be no more.
        assert set(before[1:]) <= {503}
        (died,) = await daemon.wait_said("worker died", code=-signal.SIGKILL)
        await wait_until(lambda: has_successor(daemon, died), "a successor is ready")
        await wait_until(lambda: _healthy(daemon), "all are ready")
        await wait_until(lambda: any(client.ended for client in clients), "the victim's clients may come again")
        daemon.signal()
        for client in clients:
            await client.wait_ended(within=PATIENCE)


async def test_a_stopped_worker_does_not_hold_the_end_up(redis_server: EmbeddedRedis) -> None:
    hung = ["worker hangs, killing it", "worker does not answer"]
    settings = TWO | {"drain_timeout": "1h"}
    async with open_daemon(redis_server, settings, expect=hung, code=1) as daemon, trio.open_nursery() as nursery:
        clients = await connected(nursery, daemon)
        os.kill(daemon.workers()[0], signal.SIGSTOP)
        daemon.signal()
        assert await daemon.wait_exit() == 1
        for client in clients:
            await client.wait_ended(within=PATIENCE)


async def test_a_second_signal_ends_all_at_once(redis_server: EmbeddedRedis) -> None:
    async with (
        open_daemon(
            redis_server, TWO | LONG | {"drain_spread": "1h"}, code=1, expect=["ended by a second signal"]
        ) as daemon,
        trio.open_nursery() as nursery,
    ):
        clients = await connected(nursery, daemon)
        workers = daemon.workers()
        daemon.signal()
        await wait_until(lambda: any(client.ended for client in clients), "the drain has begun")
        await trio.sleep(IMPATIENCE)
        daemon.signal()
        assert await daemon.wait_exit() == 1
        assert not any(_alive(pid) for pid in workers)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("workers", [1, WORKERS])
async def test_a_delayed_drain_serves_on_and_ends_at_a_second_signal(redis_server: EmbeddedRedis, workers: int) -> None:
    settings = LONG | {"workers": str(workers), "drain_delay": "1h"}
    async with (
        open_daemon(redis_server, settings, code=1, expect=["ended by a second signal"]) as daemon,
        trio.open_nursery() as nursery,
    ):
        daemon.signal()
        await daemon.wait_said("drain delayed", workers)
        for _ in range(CLIENTS):
            health = await fetch(daemon.port, "/health")
            assert (health.status, health.body) == (503, b"draining\n")
        client = await connect(nursery, daemon.port, "/run:log")
        async with open_redis(redis_server) as redis:
            await redis.publish("run:log", ["still here"])
        assert await client.receive(1) == [b'{"type":"status","data":"still here"}']
        await trio.sleep(IMPATIENCE)
        daemon.signal()
        assert await daemon.wait_exit() == 1
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


def has_successor(daemon: DaemonProcess, ended: dict[str, Any]) -> bool:
    """Whether another worker is ready in the place of the one that this line of the log is about.

    How many lines say so is chance: one that is killed may not have written what it had said.
    """
    return any(line["pid"] != ended["pid"] for line in daemon.said("ready", worker=ended["worker"]))


async def _healthy(daemon: DaemonProcess) -> bool:
    return await daemon.health() == 200


def arguments_of(pid: int) -> list[str]:
    """What a process was started with."""
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def _listens(port: int) -> bool:
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        # The other one comes when it goes between the opening and the reading.
        return False
    return state != "Z"
