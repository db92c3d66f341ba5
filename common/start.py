"""What every daemon does before it serves: say what is odd, take descriptors, bind the port (SPEC 2, 6).

Nothing here is asynchronous: a process that can't start has not begun anything.
"""

from __future__ import annotations

import os
import resource
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs

from common.activation import passed_descriptors
from common.config import DaemonSettings
from common.early import allow
from common.notify import Notifier
from common.tracing import EXTRA, NO_TRACES, installed
from common.web.listener import bind, take_over

if TYPE_CHECKING:
    import argparse
    import socket
    from collections.abc import Iterator, Mapping, Sequence

    from common.config import Settings
    from common.logs import Logger
    from common.tracing import Tracer

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

    def notifier(self) -> Notifier:
        """Who tells the service manager how this process is."""
        return Notifier.of_process(self.environ, os.getpid(), self.log)


@attrs.frozen
class Listeners:
    """The sockets that a process accepts at."""

    sockets: Sequence[socket.socket]
    kept: bool
    """Whether they are the service manager's, and stay open when the daemon ends (`common.activation`)."""


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


def check_traces(settings: Settings) -> None:
    """See that traces can be sent if they are to be. Raises StartError."""
    if not settings.traces_enabled:
        return
    allow("opentelemetry")
    if not installed():
        raise StartError("can't send traces", setting=f"{settings.prefix}TRACES_ENABLED=true", error=EXTRA)


@contextmanager
def tracing(settings: Settings, service: str, log: Logger, worker: int | None = None) -> Iterator[Tracer]:
    """The tracer of a process that serves; what it has is sent when the block ends. Raises StartError."""
    check_traces(settings)
    if not settings.traces_enabled:
        yield NO_TRACES
        return
    from common.otel import open_traces  # noqa: PLC0415 - what is off costs nothing

    with ExitStack() as stack:
        try:
            tracer = stack.enter_context(open_traces(service, log, worker=worker))
        except ValueError as error:
            raise StartError("can't send traces", error=str(error)) from error
        yield tracer


@contextmanager
def listening(start: Start[S]) -> Iterator[Listeners]:
    """The sockets that the service manager passed, else those bound to LISTEN_ADDR; closed with the block.

    Raises StartError.
    """
    passed = passed_descriptors(start.environ, os.getpid())
    with ExitStack() as stack:
        with needing(f"LISTEN_FDS={len(passed)}" if passed else start.settings.listen_addr):
            sockets = take_over(passed) if passed else bind(start.settings.listen_addr)
        for listener in sockets:
            stack.callback(listener.close)
        yield Listeners(sockets, kept=bool(passed))


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
