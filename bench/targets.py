"""What is measured: the daemon and its peers, each one command that serves the same paths and frames.

`open_target` owns the process: it is ready when the block is entered and gone when it is left. `BenchTarget.missing`
says beforehand why a target can't run on this machine; `BenchTarget.prepare` compiles or installs what it needs, once.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import attrs
import trio

from bench import wire
from common.daemons import DAEMONS, OPS, PREFLIGHT, STATUS, KnownDaemon
from common.modules import module_command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

HOST: Final = "127.0.0.1"
START_TIMEOUT: Final = 15.0
"""Seconds until /health must say 200."""
STOP_TIMEOUT: Final = 20.0
"""Seconds between SIGTERM and SIGKILL: longer than a drain."""
PREPARE_TIMEOUT: Final = 120.0
"""Seconds for a compiler, or for npm to fetch what it installs."""
_PREFIXES: Final = tuple(known.prefix for known in DAEMONS.values())
_POLL: Final = 0.05
_PROBE_TIMEOUT: Final = 1.0


class TargetError(Exception):
    """A target could not be prepared or did not start; the message holds the end of its output."""


def _nothing() -> None:
    return None


@attrs.frozen
class BenchTarget:
    """How to start one bridge. `command` and `environment` are functions of the port to listen on and Redis' URL."""

    name: str
    command: Callable[[int, str], list[str]]
    environment: Callable[[int, str], dict[str, str]] = lambda _port, _redis: {}
    health_by_upgrade: bool = attrs.field(default=False, kw_only=True)
    """Its server library speaks nothing but WebSocket handshakes, so /health is asked for with one."""
    prefix: str | None = attrs.field(default=None, kw_only=True)
    """Of its environment variables, if it takes settings; a peer has none."""
    missing: Callable[[], str | None] = attrs.field(default=_nothing, kw_only=True)
    """Why it can't run on this machine ("node is not on PATH"), or None."""
    prepare: Callable[[], Awaitable[None]] | None = attrs.field(default=None, kw_only=True)
    """To be called before the first start; does nothing when that was done in an earlier run. Raises TargetError."""
    variant: Callable[[], str | None] = attrs.field(default=_nothing, kw_only=True)
    """What runs on this machine in place of the best, if anything."""

    def settings(self, settings: Mapping[str, str]) -> dict[str, str]:
        """These as environment variables; none for a target that takes no settings."""
        return {} if self.prefix is None else {f"{self.prefix}{name}": value for name, value in settings.items()}

    def describe(self) -> str:
        """The name for a table: `limit`, or `limit (python loop)` where there is no compiler."""
        variant = self.variant()
        return self.name if variant is None else f"{self.name} ({variant})"


@attrs.frozen
class RunningTarget:
    """A target that serves."""

    name: str
    pid: int
    address: tuple[str, int]


@asynccontextmanager
async def open_target(
    target: BenchTarget, redis_url: str, settings: Mapping[str, str] | None = None
) -> AsyncIterator[RunningTarget]:
    """Prepare and start `target`, wait until it is healthy, and end it with the block: asked first, killed after
    `STOP_TIMEOUT`.

    `settings` are environment variables without their prefix (`{"WORKERS": "2"}`), for a target that takes them.
    Raises TargetError when it can't be prepared, or ends or stays unhealthy.
    """
    if target.prepare is not None:
        await target.prepare()
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as directory:
        log = Path(directory) / "output"
        with log.open("wb") as output:
            process = await trio.lowlevel.open_process(
                target.command(port, redis_url),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_own_environment() | target.environment(port, redis_url) | target.settings(settings or {}),
            )
        try:
            await _wait_healthy(target, process, port, log)
            yield RunningTarget(target.name, process.pid, (HOST, port))
        finally:
            await _stop(process)


async def _wait_healthy(target: BenchTarget, process: trio.Process, port: int, log: Path) -> None:
    with trio.move_on_after(START_TIMEOUT):
        while process.poll() is None:
            if await _is_healthy(target, port):
                return
            await trio.sleep(_POLL)
    state = "is not healthy" if process.poll() is None else f"ended with status {process.returncode}"
    tail = "\n".join((await trio.Path(log).read_text(errors="replace")).splitlines()[-10:])
    raise TargetError(f"{target.name} {state}; the end of its output:\n{tail}")


async def _is_healthy(target: BenchTarget, port: int) -> bool:
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
    return {name: value for name, value in os.environ.items() if not name.startswith(("REDIS_", *_PREFIXES))}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


async def _run_tool(purpose: str, command: Sequence[str], directory: Path, *, telling: str = "") -> None:
    """Raises TargetError when it fails, with the last of its lines that begin with `telling`, or takes longer than
    `PREPARE_TIMEOUT`."""
    with trio.move_on_after(PREPARE_TIMEOUT):
        result = await trio.run_process(
            command, cwd=directory, capture_stdout=True, stderr=subprocess.STDOUT, stdin=b"", check=False
        )
        if result.returncode == 0:
            return
        lines = [line for line in result.stdout.decode(errors="replace").splitlines() if line.startswith(telling)]
        tail = "\n".join(lines[-10:])
        raise TargetError(f"{purpose} ended with status {result.returncode}; the end of its output:\n{tail}")
    raise TargetError(f"{purpose} took longer than {PREPARE_TIMEOUT:g} s")


# The catalogue.

_PEERS: Final = Path(__file__).parent / "peers"


def find_compiler(which: Callable[[str], str | None] = shutil.which) -> str | None:
    """The C compiler of this machine."""
    return next(filter(None, map(which, ("cc", "gcc", "clang"))), None)


def missing_program(*names: str, which: Callable[[str], str | None] = shutil.which) -> str | None:
    """Which of the programs that are needed is not there."""
    return next((f"{name} is not on PATH" for name in names if which(name) is None), None)


def missing_module(*names: str, find: Callable[[str], object] = importlib.util.find_spec) -> str | None:
    """Which of the Python packages that are needed is not there."""
    return next((f"the Python package {name} is not installed" for name in names if find(name) is None), None)


def _daemon(known: KnownDaemon) -> BenchTarget:
    def environment(port: int, redis_url: str) -> dict[str, str]:
        settings = {"LISTEN_ADDR": f"{HOST}:{port}", "REDIS_URL": redis_url, "LOG_LEVEL": "warn"}
        return {known.variable(name): value for name, value in settings.items()}

    return BenchTarget(known.name, lambda _port, _redis: module_command(known.name), environment, prefix=known.prefix)


def _python_command(module: str, port: int, redis_url: str) -> list[str]:
    return module_command(module, "--port", str(port), "--redis", redis_url)


def _python_peer(name: str, *packages: str, health_by_upgrade: bool = False) -> BenchTarget:
    return BenchTarget(
        name,
        partial(_python_command, f"bench.peers.{name}"),
        health_by_upgrade=health_by_upgrade,
        missing=partial(missing_module, *packages),
    )


def _node_command(port: int, redis_url: str) -> list[str]:
    return ["node", str(_PEERS / "node_ws" / "server.js"), "--port", str(port), "--redis", redis_url]


def subscriber_command(options: str) -> list[str]:
    """A subscriber on ioredis without a server, see `subscriber.js`; the packages are those of `node_ws`."""
    return ["node", str(_PEERS / "node_ws" / "subscriber.js"), options]


async def _install_node_packages() -> None:
    """What package-lock.json names, into the peer's own node_modules."""
    directory = _PEERS / "node_ws"
    done = directory / "node_modules" / ".prepared"
    lock = directory / "package-lock.json"
    wanted = _digest(lock)
    # npm begins by taking away what another process may have installed, and started from, a moment ago.
    async with _alone(lock):
        if done.exists() and done.read_text() == wanted:
            return
        command = ["npm", "ci", "--omit=dev", "--no-audit", "--no-fund", "--ignore-scripts"]
        patience = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
        # Of npm's many lines only the one that names neither hosts nor paths: it may end in a published report.
        await _run_tool("npm ci", [*command, *patience], directory, telling="npm error code")
        done.write_text(wanted)


@asynccontextmanager
async def _alone(path: Path) -> AsyncIterator[None]:
    """No other process is in such a block on the same file. Raises TargetError when one is for too long."""
    with path.open("rb") as held:
        with trio.move_on_after(2 * PREPARE_TIMEOUT) as patience:
            while not _is_locked(held):  # noqa: ASYNC110 - the kernel tells nobody
                await trio.sleep(_POLL)
        if patience.cancelled_caught:
            raise TargetError(f"another process works on {path.name} for more than {2 * PREPARE_TIMEOUT:g} s")
        yield


def _is_locked(held: IO[bytes]) -> bool:
    """Lock the file, unless somebody else has."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _limit_program() -> Path:
    """Named after what it is made of, so that a changed source is compiled anew."""
    directory = _PEERS / "limit"
    return directory / "build" / f"limit-{_digest(directory / 'limit.c')[:16]}"


def _limit_command(port: int, redis_url: str) -> list[str]:
    if find_compiler() is None:
        return _python_command("bench.peers.limit.loop", port, redis_url)
    return [str(_limit_program()), "--port", str(port), "--redis", redis_url]


async def _compile_limit() -> None:
    compiler = find_compiler()
    program = _limit_program()
    if compiler is None or program.exists():
        return
    program.parent.mkdir(exist_ok=True)
    unfinished = program.with_suffix(f".{os.getpid()}")
    await _run_tool("compiling limit.c", [compiler, "-O2", "-o", str(unfinished), "limit.c"], _PEERS / "limit")
    unfinished.replace(program)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


FANOUT_TARGETS: Final[Mapping[str, BenchTarget]] = {
    target.name: target
    for target in (
        _daemon(STATUS),
        _python_peer("websockets", "websockets"),
        _python_peer("tornado", "tornado"),
        BenchTarget(
            "node_ws",
            _node_command,
            lambda _port, _redis: {"NODE_ENV": "production"},
            missing=partial(missing_program, "node", "npm"),
            prepare=_install_node_packages,
        ),
        _python_peer("trio_websocket", "trio_websocket", health_by_upgrade=True),
        BenchTarget(
            "limit",
            _limit_command,
            prepare=_compile_limit,
            variant=lambda: None if find_compiler() else "python loop",
        ),
    )
}
"""Those of the rows of statusd: the daemon, then its peers."""

PREFLIGHT_TARGETS: Final[Mapping[str, BenchTarget]] = {
    target.name: target for target in (_daemon(PREFLIGHT), _python_peer("websockets_preflight", "websockets"))
}
"""Those of the rows of preflightd: the daemon, then its peers."""

OPS_TARGET: Final = _daemon(OPS)
"""Nobody is its peer."""
