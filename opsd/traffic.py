"""What users get, of all daemons together: rates over windows, the traffic mode, and the CPU time spent. Pure.

The board owns one. It feeds each status once (`count`), and takes a sample at every tick; the time is an argument, in
seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from opsd.cpu import CpuTime
from opsd.modes import MODE_WINDOW, OUTAGE_WINDOW, ModeSwitch, mode_of, outage_of
from opsd.windows import Growth, Rolling, totals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from common.telemetry.values import DaemonStatus
    from opsd.vector import Mode
    from opsd.windows import Span

ERROR_WINDOW: Final = 300
MESSAGE_WINDOW: Final = 10
"""Seconds over which messages are counted for the history: long enough to be steady, short enough to show a burst."""


@attrs.define
class _Daemon:
    """What is remembered of one between two readings."""

    growth: Growth = attrs.field(factory=Growth)
    recent: Rolling = attrs.field(factory=lambda: Rolling(OUTAGE_WINDOW))


class Traffic:
    """See the module. `names` are the daemons'."""

    def __init__(self, names: Iterable[str]) -> None:
        self._daemons = {name: _Daemon() for name in names}
        self._rolling = Rolling(ERROR_WINDOW)
        self._cpu = CpuTime()
        self._mode = ModeSwitch()
        self._begun = 0.0
        self._served = 0
        """Users, so far."""

    @property
    def mode(self) -> Mode:
        """The traffic mode."""
        return self._mode.mode

    @property
    def mode_known(self) -> bool:
        """Whether the mode stands on anything yet."""
        return self._mode.known

    @property
    def cpu_seconds(self) -> float:
        """User and system time of every process that was ever counted; it never falls."""
        return self._cpu.seconds

    def begin(self, now: float) -> None:
        """From here on the daemons are watched."""
        self._begun = now
        self._rolling.begin(now)

    def resume_mode(self, mode: Mode) -> None:
        """Go on from a mode that is known from before."""
        self._mode.resume(mode)

    def count(self, name: str, status: DaemonStatus, now: float) -> None:
        """Take in what a daemon has newly counted."""
        daemon = self._daemons[name]
        self._cpu.feed(name, status.workers)
        # A daemon that is younger than this opsd has counted nothing that was not under its eyes.
        fresh = status.uptime < now - self._begun
        added = daemon.growth.feed(totals(status), status.members(), fresh=fresh)
        self._served += added.answers - added.server_errors
        self._rolling.add(now, added)
        daemon.recent.add(now, added)

    def sample(self, now: float, *, ready: bool) -> None:
        """One sample of the mode; `ready` says whether every daemon would serve a user now."""
        minute = self.minute(now).added.error_rate
        recent = (daemon.recent.over(now, OUTAGE_WINDOW).added for daemon in self._daemons.values())
        self._mode.sample(mode_of(minute), outage=outage_of(recent), served=self._served, ready=ready)

    def minute(self, now: float) -> Span:
        """The last minute, which is what the mode and most figures are about."""
        return self._rolling.over(now, MODE_WINDOW)

    def error_rate(self, now: float) -> float:
        """That of the last five minutes."""
        return self._rolling.over(now, ERROR_WINDOW).added.error_rate

    def messages_per_second(self, now: float) -> float:
        """Over the last seconds."""
        return self._rolling.over(now, MESSAGE_WINDOW).messages_per_second
