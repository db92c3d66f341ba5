"""A worker's process, started: the daemon's own command on the inherited sockets, and the channel to it."""

from __future__ import annotations

import socket
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from common.workers.channel import WorkerChannel
from common.workers.inherited import Inherited

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from common.logs import Logger


class WorkerProcess(Protocol):
    """What the supervisor needs of a process (`trio.Process`)."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""

    async def wait(self) -> int:
        """Wait for its end; return its exit code."""

    def terminate(self) -> None:
        """Ask it to drain."""

    def kill(self) -> None:
        """End it, whatever it does."""


class Spawn(Protocol):
    """Starts workers."""

    async def __call__(self, number: int) -> tuple[WorkerProcess, WorkerChannel]:
        """Start worker `number`, from 1; the channel is the caller's to close. Raises OSError."""


@attrs.frozen
class Spawner:
    """`command` starts a worker when the arguments of an `Inherited` are added; `environ` is its environment."""

    command: Sequence[str]
    environ: Mapping[str, str] = attrs.field(repr=False)
    listeners: Sequence[socket.socket]
    log: Logger
    kept: bool = False
    """Whether the sockets stay open when the daemon ends."""

    async def __call__(self, number: int) -> tuple[WorkerProcess, WorkerChannel]:
        """See `Spawn`."""
        ours, theirs = socket.socketpair()
        with ExitStack() as failed, theirs:
            failed.callback(ours.close)
            listeners = tuple(listener.fileno() for listener in self.listeners)
            inherited = Inherited(number, theirs.fileno(), listeners, self.kept)
            process = await trio.lowlevel.open_process(
                [*self.command, *inherited.arguments()],
                env=self.environ,
                pass_fds=(theirs.fileno(), *listeners),
                stdin=subprocess.DEVNULL,
            )
            failed.pop_all()
        return process, WorkerChannel(trio.SocketStream(trio.socket.from_stdlib_socket(ours)), self.log)
