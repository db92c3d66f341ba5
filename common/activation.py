"""Listening sockets that the service manager made and keeps: sd_listen_fds(3), without its library.

They stay open while no process of ours runs, and whoever connects meanwhile waits in their queue for the next one: a
restart refuses nobody. So a daemon on such sockets leaves the queue alone until it is ready, and again from the moment
in which it says goodbye (`Door`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST: Final = 3
"""The number of the first descriptor that is passed; the others follow."""

PERSONAL: Final = frozenset(
    {"LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"}
)
"""The variables that the manager means for the process that it started and for none of its children."""

_COUNT: Final = re.compile(r"[1-9][0-9]{0,3}")


def passed_descriptors(environ: Mapping[str, str], pid: int) -> range:
    """The numbers of the descriptors that were passed to the process `pid`; usually none."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not _COUNT.fullmatch(count):
        return range(0)
    return range(FIRST, FIRST + int(count))


def without_personal(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment as a child gets it."""
    return {name: value for name, value in environ.items() if name not in PERSONAL}
