"""The private redis-server as a process: how it starts, what it survives, and that it never stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import trio

from common import embedded
from common.embedded import EmbeddedRedis, EmbeddedRedisError, PortTakenError, open_embedded_redis
from tests.support.raw import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio.testing import MockClock

pytestmark = pytest.mark.integration


async def connect(port: int) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", port)


async def ask(redis: EmbeddedRedis, command: str, ending: bytes = b"\r\n") -> bytes:
    """The reply to one inline command, read until it ends with `ending`."""
    reply = b""
    with trio.fail_after(PATIENCE):
        async with await connect(redis.port) as stream:
            await stream.send_all(f"{command}\r\n".encode())
            while not reply.endswith(ending):
                chunk = await stream.receive_some()
                assert chunk, f"closed after {reply!r}"
                reply += chunk
    return reply


async def refuses(port: int) -> bool:
    try:
        stream = await connect(port)
    except OSError:
        return True
    await stream.aclose()
    return False


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_it_answers_when_the_block_is_entered(redis_server: EmbeddedRedis) -> None:
    assert await ask(redis_server, "PING") == b"+PONG\r\n"


@pytest.mark.parametrize(("notify", "reported"), [("Kh", b"hK"), ("", b""), ("KEA", b"AKE")])
async def test_notifications_are_as_asked(redis_program: Path, notify: str, reported: bytes) -> None:
    async with open_embedded_redis(notify=notify, program=redis_program) as redis:
        reply = await ask(redis, "CONFIG GET notify-keyspace-events", b"\r\n%b\r\n" % reported)
        assert reply.split(b"\r\n")[4] == reported


async def test_nothing_is_written_to_disk(redis_server: EmbeddedRedis) -> None:
    assert (await ask(redis_server, "CONFIG GET save", b"\r\n\r\n")).split(b"\r\n")[4] == b""
    assert (await ask(redis_server, "CONFIG GET appendonly", b"no\r\n")).split(b"\r\n")[4] == b"no"


async def test_it_listens_on_loopback_only(redis_server: EmbeddedRedis) -> None:
    assert (await ask(redis_server, "CONFIG GET bind", b"127.0.0.1\r\n")).split(b"\r\n")[4] == b"127.0.0.1"


@pytest.mark.parametrize("password", ["simple", 'a b"\\ü@/'])
async def test_with_a_password_only_who_knows_it_gets_in(redis_program: Path, password: str) -> None:
    async with open_embedded_redis(password=password, program=redis_program) as redis:
        assert (await ask(redis, "PING")).startswith(b"-NOAUTH")
        quoted = "".join(f"\\x{byte:02x}" for byte in password.encode())
        assert await ask(redis, f'AUTH "{quoted}"') == b"+OK\r\n"


async def test_killed_it_drops_its_clients_and_restarted_it_is_empty_on_the_same_port(
    redis_server: EmbeddedRedis,
) -> None:
    port, pid = redis_server.port, redis_server.pid
    assert await ask(redis_server, "SET key value") == b"+OK\r\n"
    async with await connect(port) as client:
        await client.send_all(b"PING\r\n")
        assert await client.receive_some() == b"+PONG\r\n"
        await redis_server.kill()
        with trio.fail_after(PATIENCE):
            assert await client.receive_some() == b""
    assert await refuses(port)
    with pytest.raises(EmbeddedRedisError, match="not running"):
        redis_server.stop()

    await redis_server.restart()
    assert (redis_server.port, redis_server.pid != pid) == (port, True)
    assert await ask(redis_server, "EXISTS key") == b":0\r\n"


async def test_a_running_server_is_not_started_twice(redis_server: EmbeddedRedis) -> None:
    with pytest.raises(EmbeddedRedisError, match="running already"):
        await redis_server.start()
    assert await ask(redis_server, "PING") == b"+PONG\r\n"


async def test_stopped_it_takes_connections_and_answers_only_when_continued(redis_server: EmbeddedRedis) -> None:
    async with await connect(redis_server.port) as before:
        redis_server.stop()
        async with await connect(redis_server.port) as stream:
            for each in (before, stream):
                await each.send_all(b"PING\r\n")
            with trio.move_on_after(0.3) as silence:
                await stream.receive_some()
            assert silence.cancelled_caught
            redis_server.cont()
            with trio.fail_after(PATIENCE):
                assert await stream.receive_some() == b"+PONG\r\n"
                assert await before.receive_some() == b"+PONG\r\n"


async def test_a_stopped_server_ends_without_being_killed(redis_program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "TERMINATE_TIMEOUT", PATIENCE)
    async with open_embedded_redis(program=redis_program) as redis:
        process = redis._running()
        redis.stop()
        await redis.terminate()
        assert process.returncode == 0


async def test_it_has_a_session_of_its_own(redis_server: EmbeddedRedis) -> None:
    assert os.getsid(redis_server.pid) == redis_server.pid


async def test_process_and_directory_go_with_the_block(redis_program: Path, temporary: Callable[[], list[str]]) -> None:
    async with open_embedded_redis(program=redis_program) as redis:
        pid = redis.pid
        assert exists(pid)
        assert len(temporary()) == 1
    assert not exists(pid)
    assert temporary() == []


async def test_an_exception_leaves_nothing_behind(redis_program: Path, temporary: Callable[[], list[str]]) -> None:
    pid = 0

    async def fail() -> None:
        nonlocal pid
        async with open_embedded_redis(program=redis_program) as redis:
            pid = redis.pid
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert not exists(pid)
    assert temporary() == []


async def test_a_cancellation_leaves_nothing_behind(redis_program: Path, temporary: Callable[[], list[str]]) -> None:
    pid = 0
    with trio.CancelScope() as scope:
        async with open_embedded_redis(program=redis_program) as redis:
            pid = redis.pid
            scope.cancel()
            await trio.sleep_forever()
    assert not exists(pid)
    assert temporary() == []


async def test_a_given_port_in_use_is_a_clear_line(redis_server: EmbeddedRedis, redis_program: Path) -> None:
    with pytest.raises(PortTakenError, match=rf"^port {redis_server.port} of 127\.0\.0\.1 is in use"):
        async with open_embedded_redis(port=redis_server.port, program=redis_program):
            pytest.fail("took somebody else's server for its own")


async def test_a_port_taken_between_choice_and_start_is_replaced(
    redis_server: EmbeddedRedis, redis_program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = [redis_server.port, redis_server.port, *embedded.free_ports(1)]
    monkeypatch.setattr(embedded, "free_ports", lambda count: [choices.pop(0) for _ in range(count)])
    last = choices[-1]
    async with open_embedded_redis(program=redis_program) as redis:
        assert redis.port == last
        assert await ask(redis, "PING") == b"+PONG\r\n"


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


async def test_a_server_that_ends_at_once_is_reported_with_its_words(tmp_path: Path) -> None:
    broken = script(tmp_path / "redis-server", "echo 'Fatal error, bad luck'; exit 3")
    with pytest.raises(EmbeddedRedisError, match=r"ended with status 3(.|\n)*Fatal error, bad luck"):
        async with open_embedded_redis(program=broken):
            pytest.fail("entered without a server")


async def test_a_server_that_stays_silent_is_given_up_and_killed(tmp_path: Path, mock_clock: MockClock) -> None:
    silent = script(tmp_path / "redis-server", f"echo warming up; echo $$ > {tmp_path}/pid; exec sleep 1000")
    pid_file = tmp_path / "pid"

    async def let_time_pass_once_it_runs() -> None:
        await trio.to_thread.run_sync(wait_written, pid_file)
        mock_clock.rate = 1.0
        mock_clock.jump(embedded.START_TIMEOUT)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(let_time_pass_once_it_runs)
        with pytest.raises(EmbeddedRedisError, match=r"did not answer within 60 s(.|\n)*warming up"):
            async with open_embedded_redis(program=silent):
                pytest.fail("entered without a server")
    assert not exists(int(pid_file.read_text()))


def wait_written(path: Path) -> None:
    """Wait, by the machine's clock, until there is a line in the file."""
    deadline = time.monotonic() + PATIENCE
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, f"nothing was written to {path}"
        time.sleep(0.01)


async def test_cancelled_while_starting_no_process_is_left(tmp_path: Path) -> None:
    silent = script(tmp_path / "redis-server", f"echo $$ > {tmp_path}/pid; exec sleep 1000")
    pid_file = trio.Path(tmp_path / "pid")
    async with trio.open_nursery() as nursery:

        async def start() -> None:
            async with open_embedded_redis(program=silent):
                pytest.fail("entered without a server")

        async def written() -> bool:
            return await pid_file.exists() and (await pid_file.read_text()).endswith("\n")

        nursery.start_soon(start)
        await wait_until(written, "it runs")
        nursery.cancel_scope.cancel()
    assert not exists(int(await pid_file.read_text()))


OWNER = """
import trio
from common.embedded import open_embedded_redis

async def main():
    async with open_embedded_redis() as redis:
        print(redis.port, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a process to its parent's life")
async def test_it_dies_with_an_owner_that_was_killed(redis_program: Path, tmp_path: Path) -> None:
    owner = await trio.lowlevel.open_process(
        [sys.executable, "-c", OWNER],
        stdout=subprocess.PIPE,
        env={**os.environ, embedded.CHOICE: str(redis_program), "TMPDIR": str(tmp_path)},
    )
    try:
        assert owner.stdout is not None
        async with owner.stdout:
            with trio.fail_after(PATIENCE):
                port = int(await owner.stdout.receive_some())
        assert not await refuses(port)
    finally:
        owner.send_signal(signal.SIGKILL)
        await owner.wait()
    await wait_until(lambda: refuses(port), "it is gone")
