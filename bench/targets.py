"""What is measured: the daemon and its peers, each one command that serves the same paths and frames.

`open_target` owns the process: it is ready when the block is entered and gone when it is left.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from bench import wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

HOST: Final = "127.0.0.1"
START_TIMEOUT: Final = 15.0
"""Seconds until /health must say 200."""
STOP_TIMEOUT: Final = 20.0
"""Seconds between SIGTERM and SIGKILL: longer than a drain."""
_POLL: Final = 0.05
_PROBE_TIMEOUT: Final = 1.0


class TargetError(Exception):
    """A target did not start; the message holds the end of its output."""


@attrs.frozen
class Target:
    """How to start one bridge. `command` and `environment` are functions of the port to listen on and Redis' URL."""

    name: str
    command: Callable[[int, str], list[str]]
    environment: Callable[[int, str], dict[str, str]]
    health_by_upgrade: bool = False
    """Its server library speaks nothing but WebSocket handshakes, so /health is asked for with one."""


@attrs.frozen
class Running:
    """A target that serves."""

    name: str
    pid: int
    address: tuple[str, int]


def _statusd_environment(port: int, redis_url: str) -> dict[str, str]:
    return {"STATUS_LISTEN_ADDR": f"{HOST}:{port}", "STATUS_REDIS_URL": redis_url, "STATUS_LOG_LEVEL": "warn"}


def _trio_websocket_command(port: int, redis_url: str) -> list[str]:
    return [sys.executable, "-m", "bench.peers.trio_websocket", "--port", str(port), "--redis", redis_url]


def _preflightd_environment(port: int, redis_url: str) -> dict[str, str]:
    return {"PREFLIGHT_LISTEN_ADDR": f"{HOST}:{port}", "PREFLIGHT_REDIS_URL": redis_url, "PREFLIGHT_LOG_LEVEL": "warn"}


FANOUT_TARGETS: Final[Mapping[str, Target]] = {
    target.name: target
    for target in (
        Target("statusd", lambda _port, _redis: [sys.executable, "-m", "statusd"], _statusd_environment),
        Target("trio_websocket", _trio_websocket_command, lambda _port, _redis: {}, health_by_upgrade=True),
    )
}
"""Those of the fan-out row."""

PREFLIGHTD: Final = Target(
    "preflightd", lambda _port, _redis: [sys.executable, "-m", "preflightd"], _preflightd_environment
)


@asynccontextmanager
async def open_target(target: Target, redis_url: str) -> AsyncIterator[Running]:
    """Start `target`, wait until it is healthy, and end it with the block: asked first, killed after `STOP_TIMEOUT`.

    Raises TargetError when it ends or stays unhealthy instead.
    """
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as directory:
        log = Path(directory) / "output"
        with log.open("wb") as output:
            process = await trio.lowlevel.open_process(
                target.command(port, redis_url),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_own_environment() | target.environment(port, redis_url),
            )
        try:
            await _wait_healthy(target, process, port, log)
            yield Running(target.name, process.pid, (HOST, port))
        finally:
            await _stop(process)


async def _wait_healthy(target: Target, process: trio.Process, port: int, log: Path) -> None:
    with trio.move_on_after(START_TIMEOUT):
        while process.poll() is None:
            if await _is_healthy(target, port):
                return
            await trio.sleep(_POLL)
    state = "is not healthy" if process.poll() is None else f"ended with status {process.returncode}"
    tail = "\n".join((await trio.Path(log).read_text(errors="replace")).splitlines()[-10:])
    raise TargetError(f"{target.name} {state}; the end of its output:\n{tail}")


async def _is_healthy(target: Target, port: int) -> bool:
    if target.health_by_upgrade:
        request = wire.handshake_request(f"{HOST}:{port}", "/health")
    else:
        request = f"GET /health HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode()
    answer = b""
    with trio.move_on_after(_PROBE_TIMEOUT):
        try:
            async with await trio.open_tcp_stream(HOST, port) as stream:
                await stream.send_all(request)
                while b"\r\n" not in answer and (chunk := await stream.receive_some()):
                    answer += chunk
        except (OSError, trio.BrokenResourceError):
            return False
    return answer.startswith(b"HTTP/1.1 200 ")


async def _stop(process: trio.Process) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_TIMEOUT):
        await process.wait()
        return
    process.kill()
    with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_TIMEOUT):
        await process.wait()


def _own_environment() -> dict[str, str]:
    """Ours without what would configure a target: the caller's shell is no part of the measure."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("STATUS_", "REDIS_", "PREFLIGHT_"))
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
