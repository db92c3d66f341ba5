"""A process that has imported what every daemon imports of others, and forks one that goes on as `python -m` would.

Run by path with the number of a socket (SOCK_SEQPACKET). Each message on it asks for one process: JSON, descriptors.
What is imported here is nobody's but the libraries'; the daemon's own modules, from `__main__` on, are
imported by the process itself. It ends with its socket, and its processes with it. See `tests/support/preloaded.py`.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

# As `common.early` does it: nobody has asked for these yet.
UNASKED = ("opentelemetry", "rich")
LIBRARIES = ("attrs", "h11", "hiredis", "prometheus_client", "redis", "structlog", "trio", "wsproto")
LARGEST = 1 << 20
MOST_DESCRIPTORS = 64
PR_SET_PDEATHSIG = 1


def preload() -> None:
    """Import the libraries."""
    for name in UNASKED:
        sys.modules[name] = None  # type: ignore[assignment]  # so the import system marks what can't be had
    for name in LIBRARIES:
        importlib.import_module(name)
    for name in UNASKED:
        del sys.modules[name]


def serve(asked: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork a process for each request and report its end, until there are no more; return in each that was forked."""
    poll = select.poll()
    poll.register(asked, select.POLLIN)
    running: dict[int, tuple[int, int]] = {}
    while True:
        for number, _ in poll.poll():
            if number != asked.fileno():
                poll.unregister(number)
                os.close(number)
                pid, report = running.pop(number)
                _, status = os.waitpid(pid, 0)
                tell(report, os.waitstatus_to_exitcode(status))
                os.close(report)
                continue
            message, descriptors, _, _ = socket.recv_fds(asked, LARGEST, MOST_DESCRIPTORS)
            if not message:
                # Who is left ends by its death signal.
                os._exit(0)
            parent = os.getpid()
            pid = os.fork()
            if not pid:
                die_with(parent)
                return json.loads(message), descriptors
            report, *others = descriptors
            for descriptor in others:
                os.close(descriptor)
            tell(report, pid)
            pidfd = os.pidfd_open(pid)
            running[pidfd] = (pid, report)
            poll.register(pidfd, select.POLLIN)


def tell(report: int, number: int) -> None:
    """Say a number to whoever asked, unless that is no more."""
    with suppress(BrokenPipeError):
        os.write(report, b"%d" % number)


def die_with(parent: int) -> None:
    """End when `parent` does, which may have happened."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Take on the environment, the directory, and the descriptors that were asked for, and no other."""
    os.setsid()
    first = max(*descriptors, *request["descriptors"]) + 1
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, first) for descriptor in descriptors[1:]]
    for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if number not in moved:
            with suppress(OSError):
                os.close(number)
    for number, wanted in zip(moved, request["descriptors"], strict=True):
        os.dup2(number, wanted, inheritable=True)
        os.close(number)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])


def main() -> None:
    """See the module."""
    preload()
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        request, descriptors = serve(asked)
    become(request, descriptors)
    sys.orig_argv[:] = request["command"]
    sys.argv[:] = ["-m", *request["arguments"]]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
