"""A service manager as systemd is one to a daemon: it hears what it is told, and keeps the listening sockets.

`Manager` is told by datagrams; `activated` is a command that finds the listening socket where systemd puts it.
"""

from __future__ import annotations

import socket
import sys
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

import trio

from tests.support.raw import HOST, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

# The numbers begin at 3, and the process is named by the id that it keeps when it becomes the daemon.
_LAUNCHER: Final = """
import os, sys
number = int(sys.argv[1])
if number != 3:
    os.dup2(number, 3)
    os.close(number)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "test.socket"}
os.execv(sys.argv[2], sys.argv[2:])
"""


class Manager:
    """What a process says; made by `open_manager`."""

    def __init__(self, sock: socket.socket, address: str) -> None:
        self._sock = sock
        self.address = address
        """The value of `NOTIFY_SOCKET`."""
        self.heard: list[str] = []

    async def listen(self) -> None:
        """Hear all that is said."""
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            self.hear_all()

    async def wait_heard(self, state: str, count: int = 1) -> None:
        """Wait until the process has said this so many times in all."""
        await wait_until(lambda: self.heard.count(state) >= count, f"{count} x {state}")

    def hear_all(self) -> list[str]:
        """Everything that it has said until now."""
        while True:
            try:
                self.heard.append(self._sock.recv(4096).decode())
            except BlockingIOError:
                return self.heard


@asynccontextmanager
async def open_manager(directory: Path, *, abstract: bool = False) -> AsyncIterator[Manager]:
    """A manager that listens at a path in `directory`, or at an abstract name like it."""
    path = str(directory / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + path if abstract else path)
        sock.setblocking(False)
        manager = Manager(sock, "@" + path if abstract else path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager.listen)
            yield manager
            nursery.cancel_scope.cancel()


@contextmanager
def open_kept_socket() -> Iterator[socket.socket]:
    """A listening socket that outlives the daemons on it."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        sock.listen(64)
        yield sock


def activated(number: int, module: str) -> list[str]:
    """The command of a daemon that is passed the inherited descriptor `number`, as systemd passes one."""
    python = [sys.executable, "-W", "default", "-P", "-m", module]
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(number), *python]
