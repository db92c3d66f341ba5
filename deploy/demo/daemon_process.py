"""A daemon as the demo's child: started, healthy, ended. Its log goes to a file, so that the screen stays readable."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from common.modules import module_command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from common.daemons import KnownDaemon
    from deploy.demo.backends import Backend

HOST: Final = "127.0.0.1"

READY_TIMEOUT: Final = 120.0
"""Seconds until a daemon answers that it is healthy, on however slow a machine."""

END_TIMEOUT: Final = 5.0
"""Seconds between SIGTERM and SIGKILL."""

KILL_TIMEOUT: Final = 3.0
"""Seconds that a killed process may take to be gone, before it is given up."""

_POLL: Final = 0.05
_PROBE_TIMEOUT: Final = 10.0
_ANY_PORT: Final = 0


class ChildError(Exception):
    """A part of the demo did not start, or ended before its time; the message is for the user."""


class _PortTakenError(ChildError):
    """Another process listens on the port."""


@attrs.define
class DaemonProcess:
    """A daemon of our own; made by `open_daemon`, which ends it."""

    known: KnownDaemon
    log: Path
    _process: trio.Process
    port: int = 0
    """Where it listens, once it does."""

    @property
    def url(self) -> str:
        """Where its WebSocket clients find it, without the path."""
        return f"ws://{HOST}:{self.port}"

    @property
    def page(self) -> str:
        """Where a browser finds its page."""
        return f"http://{HOST}:{self.port}/"

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def wait_healthy(self) -> None:
        """Wait until the daemon says that it is healthy. Raises ChildError when it ends instead, or takes too long."""
        with trio.move_on_after(READY_TIMEOUT):
            while not self._listens() or not await self._is_healthy():
                self._raise_if_ended()
                await trio.sleep(_POLL)
            return
        raise ChildError(f"{self.known.name} was not healthy within {READY_TIMEOUT:g} s{self._log_tail()}")

    async def watch_over(self) -> None:
        """Runs until cancelled; raises ChildError should the daemon end by itself."""
        await self._process.wait()
        self._raise_if_ended()

    async def end(self) -> None:
        """Ask it to drain and wait until it is gone, killing it after END_TIMEOUT. Also when cancelled."""
        self._process.terminate()
        with trio.move_on_after(END_TIMEOUT, shield=True):
            await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            with trio.move_on_after(KILL_TIMEOUT, shield=True):
                await self._process.wait()

    def _listens(self) -> bool:
        """Whether its log says where: what answers on a port that was only guessed may be somebody else's."""
        if not self.port:
            for line in self._lines("listening"):
                self.port = int(line["addresses"][0].rpartition(":")[2])
        return self.port > 0

    async def _is_healthy(self) -> bool:
        answer = b""
        with trio.move_on_after(_PROBE_TIMEOUT):
            try:
                async with await trio.open_tcp_stream(HOST, self.port) as stream:
                    await stream.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    while b"\r\n" not in answer and (chunk := await stream.receive_some()):
                        answer += chunk
            except (OSError, trio.BrokenResourceError):
                return False
        return answer.startswith(b"HTTP/1.1 200 ")

    def _raise_if_ended(self) -> None:
        if self._process.returncode is None:
            return
        if any(line["address"].startswith(f"{HOST}:") for line in self._lines("can't listen")):
            raise _PortTakenError(f"{self.known.name} can't listen{self._log_tail()}")
        status = self._process.returncode
        raise ChildError(f"{self.known.name} ended unexpectedly, with status {status}{self._log_tail()}")

    def _lines(self, message: str) -> Iterator[dict[str, Any]]:
        """The whole lines of its log that say so."""
        for line in self.log.read_bytes().splitlines(keepends=True):
            # Before its log begins, Python may have said something else.
            if line.startswith(b"{") and line.endswith(b"\n") and (entry := json.loads(line)).get("msg") == message:
                yield entry

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-5:]
        return "; the end of its log:\n" + "\n".join(lines) if lines else ""


@asynccontextmanager
async def open_daemon(
    known: KnownDaemon, backend: Backend, directory: Path, settings: Mapping[str, str]
) -> AsyncIterator[DaemonProcess]:
    """Start a daemon on its usual port of HOST, or a free one when another process has that; its log is in `directory`.

    `settings` are more of its variables, without the prefix. It is healthy when the block is entered, and ends with it.
    Raises ChildError when it ends instead, or isn't healthy within READY_TIMEOUT.
    """
    # What the shell has set for some other daemon must not reach this one.
    environ = {name: value for name, value in os.environ.items() if not name.startswith((known.prefix, "REDIS_"))}
    environ |= {
        known.variable("REDIS_URL"): backend.url(known.database),
        **{known.variable(name): value for name, value in settings.items()},
    }
    # A look whether the port is free would say nothing about the moment in which it is bound.
    try:
        daemon = await _start(known, known.port, directory, environ)
    except _PortTakenError:
        daemon = await _start(known, _ANY_PORT, directory, environ)
    try:
        yield daemon
    finally:
        await daemon.end()


async def _start(known: KnownDaemon, port: int, directory: Path, environ: Mapping[str, str]) -> DaemonProcess:
    log = directory / f"{known.name}.log"
    with log.open("wb") as out:
        # A session of its own: Ctrl-C at the terminal reaches only the demo, which then ends its parts in order.
        process = await trio.lowlevel.open_process(
            module_command(known.name),
            env={**environ, known.variable("LISTEN_ADDR"): f"{HOST}:{port}"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    daemon = DaemonProcess(known, log, process)
    try:
        await daemon.wait_healthy()
    except BaseException:
        await daemon.end()
        raise
    return daemon
