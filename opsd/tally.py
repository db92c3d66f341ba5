"""Warnings that count: one line at the first of many, and one for all that follow within a while.

What a stranger can cause as often as he likes must not be a line each time. The owner of a `Tally` runs its `run`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from common.quote import quote

if TYPE_CHECKING:
    from common.logs import Logger

WHILE: Final = 10.0
"""Seconds between two lines at least."""


class Tally:
    """See the module. `message` is the line's; it has the fields `count` and `remote`, the address that was last."""

    def __init__(self, log: Logger, message: str) -> None:
        self._log = log
        self._message = message
        self._count = 0
        self._remote = ""
        self._noted = trio.Event()

    def note(self, remote: object) -> None:
        """It happened once more, because of `remote`."""
        self._count += 1
        self._remote = str(remote)
        self._noted.set()

    async def run(self) -> None:
        """Say what is noted, until cancelled."""
        while True:
            await self._noted.wait()
            self._noted = trio.Event()
            count, self._count = self._count, 0
            self._log.warning(self._message, count=count, remote=quote(self._remote))
            await trio.sleep(WHILE)
