"""One worker as its parent knows it: what it has said, and for how long it has said nothing.

A worker's event loop answers a beat each lap. One that is stopped, or whose loop hangs, does not, and its clients are
frozen while the process looks well. Laps of the parent are counted, not seconds: a parent that was stopped itself, or
a machine that slept, must not take its own absence for the workers'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio

if TYPE_CHECKING:
    from common.exposition import Report
    from common.telemetry.values import WorkerStatus
    from common.workers.channel import WorkerChannel
    from common.workers.spawn import WorkerProcess

LAP: Final = 1.0
"""Seconds between two looks at a worker."""

SILENT: Final = 5
"""Laps without a word after which a worker, and so the daemon, is not ready; one that should drain is killed."""

HANGS: Final = 15
"""Laps without a word after which a worker is killed and replaced."""

START: Final = 60
"""Laps that a new process has for its first word."""


@attrs.define(eq=False)
class WorkerHandle:
    """One process and what it has said. The desk's and the supervisor's."""

    number: int
    """From 1; its successor has the same."""
    process: WorkerProcess
    channel: WorkerChannel
    ready: bool = False
    """Whether it has said that it is."""
    figures: Report = ()
    """What it said last for a scrape."""
    status: WorkerStatus | None = None
    """What it said last of how it is."""
    following: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """Around the questions for its changes."""
    spoke: bool = False
    """Whether it has answered yet."""
    laps: int = 0
    """How many have ended in a row in which it did not answer."""
    _heard: bool = False

    def named(self) -> dict[str, int]:
        """The fields of a log line that is about it."""
        return {"worker": self.number, "pid": self.process.pid}

    @property
    def silent(self) -> bool:
        """Whether it has not answered for so long that nobody should wait for it."""
        return self.spoke and self.laps >= SILENT

    @property
    def serves(self) -> bool:
        """Whether it can be given clients, as far as is known."""
        return self.ready and not self.silent

    def heard(self) -> bool:
        """Note that it has answered; return whether it had been silent."""
        was_silent = self.silent
        self.spoke, self.laps, self._heard = True, 0, True
        return was_silent

    def end_lap(self) -> None:
        """Count one."""
        self.laps = 0 if self._heard else self.laps + 1
        self._heard = False

    def hangs(self, *, draining: bool) -> bool:
        """Whether there is nothing to hope for: it is to be killed."""
        if not self.spoke:
            return self.laps >= START
        return self.laps >= (SILENT if draining else HANGS)
