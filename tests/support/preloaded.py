"""Daemons as processes of their own that need not import every library again: that is most of what a start takes.

Each process of the tests has one other, made when it is first needed, that has imported them (`tests/support/preload`)
and forks a daemon's process whenever it is asked. What that does from `__main__` on is what it does after `python -m`.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SERVER: Final = Path(__file__).with_name("preload.py")

OPTIONS: Final = ("-W", "default", "-P")
"""Of the interpreter: warnings are shown, so that a descriptor that was forgotten is a line on standard error."""

# What decides about an interpreter when it starts. It is the tests' own, or the process has to start by itself.
_EARLY: Final = ("PYTHON", "LC_", "LANG", "COVERAGE_", "LD_", "MALLOC_")


class PreloadedProcess:
    """What was forked: as much of `subprocess.Popen` as `tests/support/daemon` needs."""

    def __init__(self, report: socket.socket) -> None:
        self.returncode: int | None = None
        self._report = report
        self.pid = self._hear()
        """The process id."""
        report.setblocking(False)

    def _hear(self) -> int:
        said = self._report.recv(16)
        if not said:
            raise RuntimeError("the process that has the libraries has ended")
        return int(said)

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            with suppress(BlockingIOError):
                self.returncode = self._hear()
                self._report.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            # It is reaped before its end is reported, and the number is not given again at once.
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def fits(environ: Mapping[str, str]) -> bool:
    """Whether a process with this environment begins like the tests' own, on a system that can fork and watch it."""
    names = {name for name in {*environ, *os.environ} if name.startswith(_EARLY)}
    traced = any(name.startswith("COVERAGE_") for name in names)
    same = all(environ.get(name) == os.environ.get(name) for name in names)
    return same and not traced and hasattr(os, "pidfd_open")


def fork(
    module: str,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    stdout: int,
    stderr: int,
    cwd: Path,
    pass_fds: Sequence[int] = (),
) -> PreloadedProcess:
    """Start `python -m module arguments` in a session of its own; it ends with this process at the latest."""
    request = {
        "module": module,
        "arguments": list(arguments),
        "command": [sys.executable, *OPTIONS, "-m", module, *arguments],
        "environ": dict(environ),
        "cwd": str(cwd),
        "descriptors": [0, 1, 2, *pass_fds],
    }
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, Path(os.devnull).open() as nothing:
        descriptors = [theirs.fileno(), nothing.fileno(), stdout, stderr, *pass_fds]
        socket.send_fds(_server(), [json.dumps(request).encode()], descriptors)
    return PreloadedProcess(ours)


@functools.cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, *OPTIONS, str(_SERVER), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def end() -> None:
        ours.close()
        process.send_signal(signal.SIGKILL)
        process.wait()

    atexit.register(end)
    return ours
