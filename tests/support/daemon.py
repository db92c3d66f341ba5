"""A daemon as a process of its own: started with an environment, watched through its log and its pages, and ended.

`module` says which: `statusd` unless the test says `preflightd`.

`open_daemon` owns the process for its block and expects it to drain and to exit with 0, having said nothing that the
test did not expect. `run_to_end` is for processes that end by themselves. No port is guessed: the kernel chooses one,
and the log tells which.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, Final

import attrs
import psutil
import trio

from common.config import Settings
from common.daemons import DAEMONS, OPS
from opsd.settings import OpsSettings
from tests.support.preloaded import OPTIONS, PreloadedProcess, fits, fork
from tests.support.raw import HOST, PATIENCE, fetch, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from common.embedded import EmbeddedRedis

ROOT: Final = Path(__file__).parents[2]

EXPECTED: Final = frozenset({"origin check disabled"})
"""Warnings of every daemon that is configured as these tests do."""

_NO_PINGS: Final = "is 20s or more: the platform's diagnostics page"
"""So begins what is said of a PING_INTERVAL of an hour, which keeps pings out of a test's way."""

_LOST: Final = "redis stream interrupted"
_READS_TOO: Final = {"redis reads unavailable, retrying"}
"""What may be said as well where Redis goes: a read that is due may notice before the subscribing connection does."""

_PATIENT: Final = {
    "redis_request_timeout": "1m",
    "redis_connect_timeout": "1m",
    "write_timeout": "1m",
    "handshake_timeout": "1m",
    "drain_timeout": "1m",
    "max_backlog": "64MB",
}
"""A busy machine is no trouble for the daemon to speak of: only what a test is about may be over in less, or full.

A client that a test reads for shares the machine with the daemon: what it has not taken yet says how busy that is."""

# PR_SET_PDEATHSIG (1): a run of the tests that is killed takes its daemons with it.
_LAUNCHER: Final = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, ctypes.c_ulong({signal.SIGKILL:d}))
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

Process = subprocess.Popen[bytes] | PreloadedProcess

_TAIL: Final = 20
_LISTEN: Final = "0A"  # the state in /proc/net/tcp


@attrs.frozen
class Finished:
    """A process that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its log."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    def said(self, *levels: str) -> list[dict[str, Any]]:
        """The lines of these levels."""
        return [line for line in self.lines if line["level"] in levels]


def environment(
    redis: EmbeddedRedis | str | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
    *,
    module: str = "statusd",
) -> dict[str, str]:
    """The test's own environment, with `settings` (`{"ping_interval": "1s"}`) for the daemon, which is patient else."""
    known = DAEMONS[module]
    others = ("REDIS_", "OTEL_", *(other.prefix for other in DAEMONS.values()))
    ours = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    if redis is not None:
        ours[known.variable("redis_url")] = redis if isinstance(redis, str) else redis.url(known.database)
    ours[known.variable("listen_addr")] = f"{HOST}:0"
    given = {**_patience(module), **settings}
    return ours | {known.variable(name): value for name, value in given.items()}


def _patience(module: str) -> dict[str, str]:
    """Those of `_PATIENT` that the daemon has."""
    known = attrs.fields_dict(OpsSettings if module == OPS.name else Settings)
    return {name: value for name, value in _PATIENT.items() if name in known}


async def run_to_end(
    *arguments: str, environ: Mapping[str, str] | None = None, within: float = PATIENCE, module: str = "statusd"
) -> Finished:
    """Run the daemon with these arguments until it ends by itself, `within` seconds at most."""
    with _file() as out, _file() as err:
        given = environment(module=module) if environ is None else environ
        process = _start(module, arguments, given, out.fileno(), err.fileno())
        try:
            await wait_until(lambda: process.poll() is not None, "it has ended", within=within)
        finally:
            process.send_signal(signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await wait_until(lambda: process.poll() is not None, "it is gone")
        said = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (out, err)]
    assert process.returncode is not None
    return Finished(process.returncode, *said)


class DaemonProcess:
    """A running daemon; made by `open_daemon`."""

    def __init__(self, process: Process, out: IO[bytes], err: IO[bytes]) -> None:
        self._process = process
        self._out = out
        self._err = err
        self._read = 0
        self._lines: list[dict[str, Any]] = []
        self.expected = set(EXPECTED)
        """Messages of warnings and errors that this test provokes."""
        self.port = 0
        """Where it listens."""
        self.signalled = False
        """Whether the test has sent it a signal."""

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    # -- what it says -------------------------------------------------------------------------------------------------

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its log so far."""
        number = self._out.fileno()
        data = os.pread(number, os.fstat(number).st_size - self._read, self._read)
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        self._lines += [json.loads(line) for line in whole.splitlines()]
        return self._lines

    @property
    def stderr(self) -> str:
        """What it wrote to standard error so far: nothing, if all is well."""
        number = self._err.fileno()
        return os.pread(number, os.fstat(number).st_size, 0).decode()

    def said(self, message: str, **fields: object) -> list[dict[str, Any]]:
        """The lines with this message and these fields."""
        return [line for line in self.lines if line["msg"] == message and fields.items() <= line.items()]

    async def wait_said(self, message: str, count: int = 1, **fields: object) -> list[dict[str, Any]]:
        """Wait for that many such lines, and return all of them."""
        await wait_until(
            lambda: len(self.said(message, **fields)) >= count, f"{count} x {message!r} {fields} in the log"
        )
        return self.said(message, **fields)

    async def health(self) -> int:
        """The status of `/health`."""
        return (await fetch(self.port, "/health")).status

    async def metric(self, name: str, label: str = "") -> float:
        """The value of a metric, 0 if it has none yet; `label` as in `reason="drain"`."""
        page = (await fetch(self.port, "/metrics")).body.decode()
        sample = re.escape(name + (f"{{{label}}}" if label else ""))
        found = re.search(rf"^{sample} (\S+)$", page, re.MULTILINE)
        return float(found[1]) if found else 0.0

    async def wait_metric(self, name: str, value: float, label: str = "") -> None:
        """Wait until a metric has this value: of a worker that had no time to answer, what it said last is told."""
        found = 0.0

        async def has_it() -> bool:
            nonlocal found
            found = await self.metric(name, label)
            return found == value

        try:
            await wait_until(has_it, f"{name}{{{label}}} is {value:g}")
        except AssertionError as error:
            error.add_note(f"it is {found:g}")
            raise

    # -- what it uses -------------------------------------------------------------------------------------------------

    def descriptors(self) -> int:
        """How many descriptors it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        # Not by `/proc/<pid>/task/*/children`: a child belongs to the thread that forked it, which may end meanwhile.
        return [child.pid for child in psutil.Process(self.pid).children()]

    def clients(self) -> int:
        """How many accepted sockets it has open."""
        ours: set[str] = set()
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                ours.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
        rows = (line.split() for line in Path(f"/proc/{self.pid}/net/tcp").read_text().splitlines()[1:])
        accepted = {row[9] for row in rows if row[1].endswith(f":{self.port:04X}") and row[3] != _LISTEN}
        return len(accepted & ours)

    def memory(self) -> int:
        """Its resident bytes now."""
        return self._status("VmRSS")

    def peak_memory(self) -> int:
        """Its most resident bytes since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Begin to measure the peak anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def send_buffer(self, client_port: int) -> int:
        """Bytes that the kernel holds for the client on that port: sent and not yet taken, or not sent yet."""
        pattern = rf"\S+:{self.port:04X} \S+:{client_port:04X} \S+ ([0-9A-F]+):"
        found = re.search(pattern, Path(f"/proc/{self.pid}/net/tcp").read_text())
        return int(found[1], 16) if found else 0

    def _status(self, field: str) -> int:
        found = re.search(rf"^{field}:\s+(\d+) kB$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) << 10

    # -- its end ------------------------------------------------------------------------------------------------------

    def signal_group(self, number: int = signal.SIGTERM) -> None:
        """Send it to the daemon and its workers at once, as a terminal does, and systemd."""
        self.signalled = True
        os.killpg(self._process.pid, number)

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal."""
        self.signalled = True
        self._process.send_signal(number)

    @property
    def ended(self) -> bool:
        """Whether it has exited."""
        return self._process.poll() is not None

    async def wait_exit(self, *, within: float = PATIENCE) -> int:
        """Wait for its end, and return the exit code."""
        await wait_until(lambda: self.ended, "the daemon has exited", within=within)
        code = self._process.poll()
        assert code is not None
        return code

    def check_said(self) -> None:
        """Fail if it logged a warning, an error or a traceback that was not expected, or wrote to standard error."""
        expected = self.expected | (_READS_TOO if _LOST in self.expected else set())
        unexpected = [
            line
            for line in self.lines
            if "traceback" in line or (line["level"] in {"warn", "error"} and line["msg"] not in expected)
            if _NO_PINGS not in line.get("warning", "")
        ]
        assert not unexpected, f"not expected: {unexpected}"
        assert not self.stderr, f"on standard error: {self.stderr}"

    def tail(self) -> str:
        """The last it said, for whoever reads a failure."""
        return "\n".join(map(json.dumps, self.lines[-_TAIL:])) + "\n" + self.stderr


@asynccontextmanager
async def open_daemon(
    redis: EmbeddedRedis | str,
    settings: Mapping[str, str] = MappingProxyType({}),
    *,
    expect: Collection[str] = (),
    healthy: bool = True,
    code: int = 0,
    module: str = "statusd",
    command: Sequence[str] | None = None,
    stdout: int | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    variables: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[DaemonProcess]:
    """Start the daemon and enter the block when it is healthy, or only listening; at its end, SIGTERM and exit `code`.

    `expect` are the messages of warnings and errors that the test provokes. With a `stdout` of its own (a descriptor)
    there is no log to be read: the test gives a `listen_addr` and waits for the daemon itself. It runs in the project's
    directory, or in `cwd`, and inherits `pass_fds`. `variables` are of its environment too, by their whole names.
    """
    with _file() as out, _file() as err:
        environ = {**environment(redis, settings, module=module), **variables}
        log = out.fileno() if stdout is None else stdout
        process = (
            _start(module, (), environ, log, err.fileno(), cwd, pass_fds)
            if command is None
            else spawn(command, environ, log, err.fileno(), cwd, pass_fds)
        )
        daemon = DaemonProcess(process, out, err)
        daemon.expected.update(expect)
        try:
            if stdout is None:
                listening = await daemon.wait_said("listening")
                daemon.port = int(listening[0]["addresses"][0].rpartition(":")[2])
            else:
                daemon.port = int(settings["listen_addr"].rpartition(":")[2])
            if healthy and stdout is None:
                await wait_until(lambda: _is_healthy(daemon), "healthy")
                # A thread writes the log: what was said during the start is in it now.
                await daemon.wait_said("ready")
                await wait_until(lambda: daemon.clients() == 0, "who asked has left")
            yield daemon
            if not daemon.signalled:
                daemon.signal()
            ended = await daemon.wait_exit()
            assert ended == code, f"exit code {ended}, not {code}"
            daemon.check_said()
        except BaseException as error:
            error.add_note(f"{module} said at last:\n{daemon.tail()}")
            raise
        finally:
            if not daemon.ended:
                daemon.signal(signal.SIGKILL)
                with trio.CancelScope(shield=True):
                    await daemon.wait_exit()


def _start(
    module: str,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    stdout: int,
    stderr: int,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> Process:
    """`python -m module`, in a session of its own, which ends with this process at the latest."""
    if fits(environ):
        return fork(module, arguments, environ, stdout, stderr, ROOT if cwd is None else cwd, pass_fds)
    return spawn((sys.executable, *OPTIONS, "-m", module, *arguments), environ, stdout, stderr, cwd, pass_fds)


def spawn(
    command: Sequence[str],
    environ: Mapping[str, str],
    stdout: int,
    stderr: int,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a process that ends with this one, in a session of its own; the caller ends it."""
    # Not `trio.lowlevel.open_process`: it forks in a worker thread, and the death signal is sent when that thread ends.
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
    # A session of its own: a test may signal its whole group.
    return subprocess.Popen(
        [*launcher, *command],
        env=environ,
        cwd=ROOT if cwd is None else cwd,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        pass_fds=pass_fds,
    )


async def _is_healthy(daemon: DaemonProcess) -> bool:
    return await daemon.health() == 200


def _file() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="daemon-")
