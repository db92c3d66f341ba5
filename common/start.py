"""What every daemon does before it serves: say what is odd, take descriptors, bind the port (SPEC 2, 6).

Nothing here is asynchronous: a process that can't start has not begun anything.
"""

from __future__ import annotations

import resource
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs

from common.config import DaemonSettings
from common.web.listener import bind

if TYPE_CHECKING:
    import argparse
    import socket
    from collections.abc import Iterator, Mapping, Sequence

    from common.config import ListenAddress
    from common.logs import Logger

S = TypeVar("S", bound=DaemonSettings)


@attrs.frozen(kw_only=True)
class Start(Generic[S]):
    """What a process that is to serve has been told."""

    settings: S
    warnings: Sequence[str]
    """What is odd about the configuration."""
    environ: Mapping[str, str]
    options: argparse.Namespace
    """The parsed arguments."""
    log: Logger


class StartError(Exception):
    """The process can't serve as it is configured: a line for the log, and its fields."""

    def __init__(self, message: str, **fields: str) -> None:
        super().__init__(message)
        self.fields = fields


def prepare(start: Start[S]) -> None:
    """Say what is odd about the configuration, and take as many descriptors as there are: each client needs one."""
    for warning in start.warnings:
        start.log.warning("configuration", warning=warning)
    _raise_file_limit(start.log)


@contextmanager
def listening(address: ListenAddress) -> Iterator[Sequence[socket.socket]]:
    """The sockets bound to an address, closed with the block. Raises StartError."""
    with ExitStack() as stack:
        with needing(address):
            listeners = bind(address)
        for listener in listeners:
            stack.callback(listener.close)
        yield listeners


@contextmanager
def needing(address: object) -> Iterator[None]:
    """Raises StartError where the block can't bind this address."""
    try:
        yield
    except OSError as error:
        raise StartError("can't listen", address=str(address), error=error.strerror or str(error)) from error


def _raise_file_limit(log: Logger) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        log.warning("open files limit not raised", limit=soft, error=str(error))
        return
    log.info("open files limit", limit=hard, before=soft)
