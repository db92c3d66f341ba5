"""The process of a private redis-server (common/embedded.py), played by a script: its start, its ends, its failures."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Final

import pytest
import trio

from common import embedded
from common.embedded import EmbeddedRedis, EmbeddedRedisError, PortTakenError, open_embedded_redis
from tests.support.raw import PATIENCE, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real_time

SERVER: Final = r"""
def value(name):
    return bytes.fromhex(conf[name].strip()[1:-1].replace("\\x", "")).decode()
conf = dict(line.split(" ", 1) for line in open(sys.argv[1]))
login = f"AUTH {conf['requirepass'].strip()}\r\n" if "requirepass" in conf else ""
listener = socket.create_server(("127.0.0.1", int(value("port"))))
while True:
    client, _ = listener.accept()
    if client.recv(1000).decode() == f"{login}INFO server\r\n":
        client.sendall(b"$60\r\nredis_version:7\r\nprocess_id:%d\r\nrole:master\r\n" % os.getpid())
    client.close()
"""
DEAF: Final = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


def program(path: Path, text: str) -> Path:
    """A server that does this, given the path of its configuration."""
    path.write_text(f"#!{sys.executable} -IS\nimport os, pathlib, signal, socket, sys, time\n{text}")
    path.chmod(0o700)
    return path


def is_there(pid: int) -> bool:
    """Whether there is such a process: ours are waited for when they end."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def listens(redis: EmbeddedRedis) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", redis.port)) == 0


@pytest.mark.parametrize("password", [None, 'pass" word'])
@pytest.mark.parametrize("deaf", [False, True])
async def test_it_answers_in_its_block_and_is_gone_after_it(
    deaf: bool, password: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if deaf:
        monkeypatch.setattr(embedded, "TERMINATE_TIMEOUT", 0.1)
    server = program(tmp_path / "server", (DEAF if deaf else "") + SERVER)
    with trio.fail_after(PATIENCE):
        async with open_embedded_redis(program=server, password=password) as redis:
            pid = redis.pid
            assert is_there(pid)
            assert listens(redis)
            with pytest.raises(EmbeddedRedisError, match="running already"):
                await redis.start()
    assert not is_there(pid)


async def test_it_is_killed_restarted_and_stopped(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with open_embedded_redis(program=program(tmp_path / "server", SERVER)) as redis:
            port, first = redis.port, redis.pid
            await redis.kill()
            assert not is_there(first)
            for call in (lambda: redis.pid, redis.stop, redis.cont):
                with pytest.raises(EmbeddedRedisError, match="not running"):
                    call()
            await redis.kill()
            await redis.restart()
            second = redis.pid
            assert (redis.port, second != first) == (port, True)
            redis.stop()
            # One that is stopped hears SIGTERM too.
            await redis.restart()
            assert not is_there(second)
            redis.stop()
            redis.cont()
            await wait_until(lambda: listens(redis), "it runs on")


async def test_one_that_ends_says_why(tmp_path: Path) -> None:
    server = program(tmp_path / "server", "print('line\\n' * 20 + 'no such option', flush=True); sys.exit(3)")
    with trio.fail_after(PATIENCE), pytest.raises(EmbeddedRedisError) as raised:
        async with open_embedded_redis(program=server):
            pass
    assert str(raised.value).startswith("redis-server ended with status 3; the end of its log:\n")
    assert str(raised.value).endswith("\nline\nno such option")
    assert str(raised.value).count("\n") == 10


async def test_one_that_says_nothing_is_given_up_and_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "START_TIMEOUT", 5.0)
    told = tmp_path / "pid"
    server = program(tmp_path / "server", f"pathlib.Path({str(told)!r}).write_text(str(os.getpid())); time.sleep(1000)")
    with trio.fail_after(PATIENCE), pytest.raises(EmbeddedRedisError, match="did not answer within 5 s"):
        async with open_embedded_redis(program=server):
            pass
    # On a busy machine it may not have come so far.
    assert not told.exists() or not is_there(int(told.read_text()))


async def test_a_port_that_is_anothers_is_left_for_another_unless_it_was_asked_for(tmp_path: Path) -> None:
    once = tmp_path / "once"
    text = f"""
path = pathlib.Path({str(once)!r})
if not path.exists():
    path.touch()
    sys.exit("bind: Address already in use")
{SERVER}"""
    server = program(tmp_path / "server", text)
    with trio.fail_after(PATIENCE):
        async with open_embedded_redis(program=server) as redis:
            assert listens(redis)
        port = redis.port
        once.unlink()
        with pytest.raises(PortTakenError, match=f"port {port} of 127.0.0.1 is in use by another process"):
            async with open_embedded_redis(program=server, port=port):
                pass


async def test_a_server_of_somebody_else_on_the_port_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "START_TIMEOUT", 2.0)

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"$60\r\nredis_version:7\r\nprocess_id:1\r\nrole:master\r\n")

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, answer, [listener])
            port = listener.socket.getsockname()[1]
            server = program(tmp_path / "server", "time.sleep(1000)")
            with pytest.raises(EmbeddedRedisError, match="did not answer"):
                async with open_embedded_redis(program=server, port=port):
                    pass
            nursery.cancel_scope.cancel()


async def test_who_gives_up_in_mid_start_leaves_no_process(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    server = program(tmp_path / "server", f"pathlib.Path({str(told)!r}).write_text(str(os.getpid())); time.sleep(1000)")

    async def start() -> None:
        async with open_embedded_redis(program=server):
            pass

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            await wait_until(lambda: told.exists() and bool(told.read_text()), "it has begun")
            nursery.cancel_scope.cancel()
    assert not is_there(int(told.read_text()))


def test_without_a_free_port_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(embedded, "_PORTS", range(port, port + 1))
        monkeypatch.setattr(embedded, "SystemRandom", Same)
        with pytest.raises(EmbeddedRedisError, match=f"no free port found on 127.0.0.1 between {port} and {port + 1}"):
            embedded.free_ports(1)


class Same:
    """A draw from one port."""

    def sample(self, ports: range, count: int) -> list[int]:
        return list(ports) * count
