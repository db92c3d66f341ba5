"""What the service manager that started this process is told of it: sd_notify(3), without its library.

    READY=1       the daemon serves: `systemctl start` returns, and whatever is ordered after it starts
    WATCHDOG=1    the event loop turns, said twice in `WATCHDOG_USEC`; a process that falls silent is restarted
    STOPPING=1    it drains

Life is all that the watchdog is about, as with `/health/live`: a restart mends no Redis that is away, and costs every
client its connection. Workers are their parent's to watch over, so only the process that the manager started speaks.
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from common.logs import Logger

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
WATCHDOG: Final = "WATCHDOG=1"

SEND_TIMEOUT: Final = 2.0
"""Seconds that the manager has to take a message."""

_MICROSECONDS: Final = re.compile(r"[1-9][0-9]{0,18}")


def manager_address(environ: Mapping[str, str]) -> str | None:
    """The address of the manager's datagram socket: a path, or an abstract name, which begins with a zero.

    None where nobody listens, or in a way that this module does not speak (vsock).
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if address.startswith("@"):
        return "\0" + address[1:]
    return address if address.startswith("/") else None


def watchdog_interval(environ: Mapping[str, str], pid: int) -> float | None:
    """Seconds from one sign of life to the next, half of what the manager waits for; None if it waits for none."""
    allowed = environ.get("WATCHDOG_USEC", "")
    if not _MICROSECONDS.fullmatch(allowed) or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(allowed) / 2_000_000


class Notifier:
    """The process's one voice. Without an address it says nothing."""

    def __init__(self, address: str | None, interval: float | None, log: Logger) -> None:
        self._address = address
        self._interval = interval
        self._log = log
        self._fails = False

    @classmethod
    def of_process(cls, environ: Mapping[str, str], pid: int, log: Logger) -> Notifier:
        """As the environment of process `pid` has it."""
        return cls(manager_address(environ), watchdog_interval(environ, pid), log)

    async def accompany(self, run: Callable[[trio.Event], Awaitable[int]], ready: trio.Event, stop: trio.Event) -> int:
        """Return what `run(stop)` does, and tell the manager meanwhile when `ready` and `stop` are set."""
        if self._address is None:
            return await run(stop)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell, ready, READY)
            nursery.start_soon(self._tell, stop, STOPPING)
            if self._interval is not None:
                nursery.start_soon(self._beat, self._interval)
            code = await run(stop)
            nursery.cancel_scope.cancel()
        return code

    async def _tell(self, event: trio.Event, state: str) -> None:
        await event.wait()
        await self._say(state)

    async def _beat(self, interval: float) -> None:
        due = trio.current_time()
        while True:
            await self._say(WATCHDOG)
            # Beats that a stopped process has missed are not made up for.
            due = max(due + interval, trio.current_time())
            await trio.sleep_until(due)

    async def _say(self, state: str) -> None:
        assert self._address is not None  # noqa: S101 - `accompany` has looked
        try:
            # Connected, so that the kernel knows whose queue is full: of a socket without a peer it says that it can be
            # written to, and the wait would be a busy one. For each message: a manager started anew has another socket.
            with trio.fail_after(SEND_TIMEOUT), trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
                await link.connect(self._address)
                await link.send(state.encode())
        except (OSError, trio.TooSlowError) as error:
            if not self._fails:
                self._fails = True
                self._log.warning("service manager not told", state=state, error=str(error) or "it takes nothing")
        else:
            self._fails = False
