"""statusd as the demo's child: started, healthy, ended. Its log goes to a file, so that the screen stays readable."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HOST: Final = "127.0.0.1"
USUAL_PORT: Final = 9002

READY_TIMEOUT: Final = 15.0
"""Seconds until statusd answers that it is healthy."""

END_TIMEOUT: Final = 5.0
"""Seconds between SIGTERM and SIGKILL."""

KILL_TIMEOUT: Final = 3.0
"""Seconds that a killed process may take to be gone, before it is given up."""

_POLL: Final = 0.05
_PROBE_TIMEOUT: Final = 1.0


class ChildError(Exception):
    """A part of the demo did not start, or ended before its time; the message is for the user."""


@attrs.frozen
class StatusdProcess:
    """A statusd of our own; made by `open_statusd`, which ends it."""

    port: int
    log: Path
    _process: trio.Process

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def wait_healthy(self) -> None:
        """Wait until statusd says that it is healthy. Raises ChildError when it ends instead, or takes too long."""
        with trio.move_on_after(READY_TIMEOUT):
            while not await self._is_healthy():
                self._raise_if_ended()
                await trio.sleep(_POLL)
            return
        raise ChildError(f"statusd was not healthy within {READY_TIMEOUT:g} s{self._log_tail()}")

    async def watch_over(self) -> None:
        """Runs until cancelled; raises ChildError should statusd end by itself."""
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
        if self._process.returncode is not None:
            raise ChildError(f"statusd ended unexpectedly, with status {self._process.returncode}{self._log_tail()}")

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-5:]
        return "; the end of its log:\n" + "\n".join(lines) if lines else ""


@asynccontextmanager
async def open_statusd(redis_url: str, port: int, log: Path) -> AsyncIterator[StatusdProcess]:
    """Start statusd on `port` of HOST, logging to `log`; it is healthy when the block is entered, and ends with it.

    Raises ChildError when it ends instead, or isn't healthy within READY_TIMEOUT.
    """
    # What the shell has set for some other statusd must not reach this one.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("STATUS_", "REDIS_"))}
    environ |= {"STATUS_LISTEN_ADDR": f"{HOST}:{port}", "STATUS_REDIS_URL": redis_url, "STATUS_DRAIN_TIMEOUT": "2s"}
    command = [sys.executable, "-m", "statusd"]
    with log.open("wb") as out:
        # A session of its own: Ctrl-C at the terminal reaches only the demo, which then ends its parts in order.
        process = await trio.lowlevel.open_process(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    statusd = StatusdProcess(port, log, process)
    try:
        await statusd.wait_healthy()
        yield statusd
    finally:
        await statusd.end()


def choose_port() -> int:
    """The usual port, or any free one when another process has that."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, USUAL_PORT))
        except OSError:
            probe.bind((HOST, 0))
        address: tuple[str, int] = probe.getsockname()
        return address[1]
