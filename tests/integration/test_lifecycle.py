"""How statusd ends, and what an operator's machine may do to it, as whoever runs it sees it (SPEC 3 and 6)."""

from __future__ import annotations

import os
import resource
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import trio

from common.signals import IMPATIENCE
from tests.support.client import CLOSE, HANGUP_PAYLOAD, TEXT, handshake
from tests.support.daemon import open_daemon
from tests.support.ports import free_port
from tests.support.raw import (
    HOST,
    PATIENCE,
    RedisConnection,
    ask,
    connect,
    connect_silent,
    fetch,
    open_redis,
    start_client,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

QUIET = {"ping_interval": "1h", "pong_timeout": "3h", "hangup": "all"}
IMPATIENT = {"redis_retry_base": "20ms", "redis_retry_max": "50ms"}
GOODBYE = [(TEXT, HANGUP_PAYLOAD), (CLOSE, b"\x03\xe9drain")]

UNTIL_NEVER = {"write_timeout": "1h", "drain_timeout": "1h", "redis_request_timeout": "1h"}
"""Who waits for one of these does not end while a test is patient."""

SECRET = "hunter2hunter2"


# -- the drain --------------------------------------------------------------------------------------------------------


@pytest.mark.sensitive
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_every_client_hears_goodbye_even_when_some_never_read(
    redis_server: EmbeddedRedis, nursery: trio.Nursery, number: signal.Signals
) -> None:
    settings = QUIET | UNTIL_NEVER | {"drain_timeout": "2s", "max_backlog": "64MB"}
    expect = ["drain timed out"]  # those who never read
    deaf: list[trio.SocketStream] = []
    async with open_redis(redis_server) as redis, open_redis(redis_server) as monitor:
        try:
            async with open_daemon(redis_server, settings, expect=expect) as daemon:
                clients = [await connect(nursery, daemon.port, f"/run-{k % 3}:log") for k in range(45)]
                deaf += [await connect_silent(daemon.port, "/run-0:log", receive_buffer=4096) for _ in range(5)]
                await daemon.wait_said("connection accepted", 50)
                await start_client(nursery, daemon.port, b"GET /run-0:log HTTP/1.1\r\n")  # holds nothing up
                # More than the kernel takes for them: their goodbye can't even be written.
                await redis.publish("run-0:log", ["x" * 1000] * 2000)
                for client in clients[::3]:
                    await client.receive(2000)
                assert await monitor.call("MONITOR") == b"OK"
                daemon.signal(number)
                assert await daemon.wait_exit() == 0
                for client in clients:
                    await client.wait_ended(within=PATIENCE)
                    assert [seen[1:] for seen in client.seen[-2:]] == GOODBYE
                [draining] = daemon.said("draining")
                assert draining["connections"] == 50
                assert len(daemon.said("connection closed", reason="drain")) == 50
                assert (daemon.lines[-1]["msg"], daemon.lines[-1]["code"]) == ("stopped", 0)
                unsubscribed = await commands_until_gone(redis, monitor)
                assert sum("UNSUBSCRIBE" in command.upper() for command in unsubscribed) == 3
        finally:
            for stream in deaf:
                await stream.aclose()


async def commands_until_gone(redis: RedisConnection, monitor: RedisConnection) -> list[str]:
    """What Redis was asked by others until now, by its own account."""
    await redis.call("ECHO", "the end")
    commands: list[str] = []
    while "the end" not in (command := str(await monitor.next())):
        commands.append(command)
    return commands


@pytest.mark.sensitive
async def test_the_drain_ends_in_time_although_writes_may_take_longer(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    settings = QUIET | UNTIL_NEVER | {"drain_timeout": "2s"}
    async with open_daemon(redis_server, settings, expect=["drain timed out"]) as daemon:
        client = await connect(nursery, daemon.port, "/run:log")
        async with await connect_silent(daemon.port, "/run:log"):
            await daemon.wait_said("connection accepted", 2)
            daemon.signal()
            assert await daemon.wait_exit() == 0
        await client.wait_ended(within=PATIENCE)
        assert [seen[1:] for seen in client.seen] == GOODBYE
        assert len(daemon.said("drain timed out")) == 1
        assert len(daemon.said("connection closed", reason="drain")) == 2


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(redis_server: EmbeddedRedis, second: signal.Signals) -> None:
    settings = QUIET | UNTIL_NEVER
    expect = ["ended by a second signal"]
    async with (
        open_daemon(redis_server, settings, expect=expect, code=1) as daemon,
        await connect_silent(daemon.port, "/run:log"),
    ):
        await daemon.wait_said("connection accepted")
        daemon.signal()
        await daemon.wait_said("draining")
        await trio.sleep(IMPATIENCE)
        assert not daemon.ended
        daemon.signal(second)
        assert await daemon.wait_exit() == 1


async def test_a_second_signal_right_after_the_first_is_the_same_order(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    """`ExecStop=kill $MAINPID`, and then systemd's own SIGTERM."""
    async with open_daemon(redis_server, QUIET) as daemon:
        clients = [await connect(nursery, daemon.port, "/run:log") for _ in range(20)]
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            daemon.signal(number)
        for client in clients:
            await client.wait_ended(within=PATIENCE)
            assert [seen[1:] for seen in client.seen] == GOODBYE
        assert await daemon.wait_exit() == 0


@pytest.mark.sensitive
async def test_hangups_are_spread(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    number, spread = 10, 1.0
    async with open_daemon(redis_server, QUIET | {"drain_spread": "1s"}) as daemon:
        clients = [await connect(nursery, daemon.port, "/run:log") for _ in range(number)]
        asked = trio.current_time()
        daemon.signal()
        for client in clients:
            await client.wait_ended(within=PATIENCE)
            assert [seen[1:] for seen in client.seen] == GOODBYE
        told = [client.seen[0].time - asked for client in clients]
        # Oldest first, each not before its turn. How late it may be is the machine's business, and so is which of two
        # that are late is read first.
        turns = [spread * k / number for k in range(number)]
        assert all(time >= turn for time, turn in zip(told, turns, strict=True)), told
        assert await daemon.wait_exit() == 0


async def test_while_draining_the_pages_say_so_and_nobody_is_let_in(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, QUIET | UNTIL_NEVER) as daemon:
        async with await connect_silent(daemon.port, "/run:log"):
            await daemon.wait_said("connection accepted")
            daemon.signal()
            await daemon.wait_said("draining")
            health, live = await fetch(daemon.port, "/health"), await fetch(daemon.port, "/health/live")
            assert (health.status, health.body, live.status) == (503, b"draining\n", 200)
            late = await ask(daemon.port, handshake("/run:log"))
            assert (late.status, late.body) == (503, b"the daemon is going down\n")
            assert int(late.headers["retry-after"]) > 0
        # The last one has left: the daemon need not wait any longer.
        assert await daemon.wait_exit() == 0


async def test_hangup_frames_can_be_switched_off_and_the_close_code_stays(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_daemon(redis_server, QUIET | {"hangup": "none"}) as daemon:
        client = await connect(nursery, daemon.port, "/run:log")
        daemon.signal()
        await client.wait_ended(within=PATIENCE)
        assert [seen[1:] for seen in client.seen] == [(CLOSE, b"\x03\xe9drain")]


async def test_a_drain_while_redis_is_away_waits_for_nothing(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    settings = QUIET | UNTIL_NEVER | {"redis_max_retries": "0"}
    expect = ["redis stream interrupted", "redis unavailable, retrying"]
    async with open_daemon(redis_server, settings, expect=expect) as daemon:
        client = await connect(nursery, daemon.port, "/run:log")
        await redis_server.kill()
        await daemon.wait_said("redis stream interrupted")
        daemon.signal()
        assert await daemon.wait_exit() == 0
        await client.wait_ended(within=PATIENCE)
        assert [seen[1:] for seen in client.seen] == GOODBYE


@pytest.mark.sensitive
async def test_a_drain_while_redis_is_stopped_ends_in_time(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    expect = ["redis stream interrupted", "redis unavailable, retrying", "redis request timed out"]
    settings = QUIET | UNTIL_NEVER | {"redis_request_timeout": "2s"}
    async with open_daemon(redis_server, settings, expect=expect) as daemon:
        client = await connect(nursery, daemon.port, "/run:log")
        redis_server.stop()
        daemon.signal()
        assert await daemon.wait_exit() == 0
        await client.wait_ended(within=PATIENCE)
        assert [seen[1:] for seen in client.seen] == GOODBYE


# -- what an operator's machine may do to it --------------------------------------------------------------------------


@contextmanager
def full_pipe() -> Iterator[int]:
    """The writing end of a pipe that nobody reads and that takes nothing more."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writing, bytes(4096))
        os.set_blocking(writing, True)
        yield writing
    finally:
        os.close(reading)
        os.close(writing)


async def test_a_log_that_nobody_reads_does_not_stop_the_service(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    settings = QUIET | {"listen_addr": f"{HOST}:{free_port()}"}
    with full_pipe() as stdout:
        async with open_redis(redis_server) as redis, open_daemon(redis_server, settings, stdout=stdout) as daemon:
            port = daemon.port
            await wait_until(lambda: serves(port), "it serves")
            client = await connect(nursery, port, "/run:log")
            # Each visit is two lines of a kilobyte: together they are more than the daemon keeps of its log.
            names = f"{'r' * 256}:{'c' * 256}"
            for number in range(10):
                async with trio.open_nursery() as visits:
                    for _ in range(80):
                        visits.start_soon(visit, port, f"/{names}")
                await redis.publish("run:log", [str(number)])
                assert (await client.receive(number + 1))[-1] == f'{{"type":"status","data":"{number}"}}'.encode()
            assert await daemon.health() == 200
            daemon.signal()
            await client.wait_ended(within=PATIENCE)
            assert [seen[1:] for seen in client.seen[-2:]] == GOODBYE
            # It does not wait for ever for somebody to read its last words.
            assert await daemon.wait_exit() == 0


async def visit(port: int, path: str) -> None:
    """Come and go."""
    async with trio.open_nursery() as nursery:
        client = await connect(nursery, port, path)
        await client.leave()


async def test_a_log_whose_reader_is_gone_does_not_change_the_exit_code(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    reading, writing = os.pipe()
    try:
        async with open_daemon(
            redis_server, QUIET | {"listen_addr": f"{HOST}:{free_port()}"}, stdout=writing
        ) as daemon:
            port = daemon.port
            await wait_until(lambda: serves(port), "it serves")
            os.close(reading)
            client = await connect(nursery, port, "/run:log")
            assert await daemon.health() == 200
            await client.leave()
            await visit(port, "/run:log")
    finally:
        os.close(writing)


async def serves(port: int) -> bool:
    """Whether the daemon on that port is healthy."""
    try:
        return (await fetch(port, "/health")).status == 200
    except OSError:
        return False


async def test_out_of_descriptors_it_pauses_says_so_and_goes_on(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with (
        open_redis(redis_server) as redis,
        open_daemon(redis_server, QUIET, expect=["accepting paused"]) as daemon,
    ):
        clients = [await connect(nursery, daemon.port, "/run:log") for _ in range(5)]
        await wait_until(lambda: daemon.clients() == 5, "only they are there")
        room = 3
        limit = daemon.descriptors() + room
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (limit, limit))
        waiting = [await start_client(nursery, daemon.port, handshake("/run:log")) for _ in range(room + 4)]
        [paused] = await daemon.wait_said("accepting paused")
        assert paused["level"] == "error"
        assert "open files" in paused["error"]
        for client in waiting[:room]:
            await client.wait(lambda client: client.status == 101, within=PATIENCE)
        # Those who are in don't notice.
        await redis.publish("run:log", ["still here"])
        for client in clients:
            assert await client.receive(1) == [b'{"type":"status","data":"still here"}']
        assert [client.status for client in waiting[room:]] == [None] * 4
        for client in clients:
            await client.leave()
        for client in waiting:
            await client.wait(lambda client: client.status == 101, within=PATIENCE)
        await daemon.wait_said("accepting again")
        assert await daemon.health() == 200


async def test_out_of_descriptors_is_said_once_while_sockets_come_and_go(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_daemon(redis_server, QUIET, expect=["accepting paused"]) as daemon:
        clients = [await connect(nursery, daemon.port, "/run:log") for _ in range(5)]
        await wait_until(lambda: daemon.clients() == 5, "only they are there")
        limit = daemon.descriptors()
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (limit, limit))
        waiting = [await start_client(nursery, daemon.port, handshake("/run:log")) for _ in range(5)]
        await daemon.wait_said("accepting paused")
        for number, client in enumerate(clients, 1):
            await client.leave()
            await daemon.wait_said("connection accepted", len(clients) + number)
        for client in waiting:
            await client.wait(lambda client: client.status == 101, within=PATIENCE)
        await waiting[0].leave()
        await daemon.wait_said("accepting again")
        assert len(daemon.said("accepting paused")) == 1
