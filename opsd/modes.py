"""The traffic mode: how what users got is called. Pure.

`ModeSwitch` belongs to the board, which gives it one sample a second by the clock, whatever else happens: a burst of
pushes is one sample.

A sample is the error rate of the last minute. In a minute that was busy and good, an outage would take long to show
there: a daemon that has refused everybody for a second counts at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from opsd.vector import MODES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opsd.vector import Mode
    from opsd.windows import SourceCounters

DEGRADED_FROM: Final = 0.1
"""An error rate of exactly this is degraded."""

ISOLATED_ABOVE: Final = 0.5
"""An error rate of exactly this is still degraded."""

MODE_WINDOW: Final = 60
"""Seconds that the mode is about."""

OUTAGE_WINDOW: Final = 2
"""Seconds of the clock in which a daemon has refused everybody: the one that has just ended, and what has begun."""

FEWEST_REFUSED: Final = 3
"""Users that must have been refused in it: one may have met a moment's trouble."""

EVERYBODY: Final = 0.9
"""The share that is called everybody: whose handshake is wrong is refused by a daemon in good health, too."""


def mode_of(error_rate: float) -> Mode:
    """What one error rate, 0 to 1, says."""
    if error_rate > ISOLATED_ABOVE:
        return "isolated"
    return "degraded" if error_rate >= DEGRADED_FROM else "normal"


def refuses_everybody(recent: SourceCounters) -> bool:
    """Whether these are the counts of a daemon that serves nobody."""
    return recent.server_errors >= max(FEWEST_REFUSED, EVERYBODY * recent.answers)


def outage_of(recent: Iterable[SourceCounters]) -> Mode:
    """What the last `OUTAGE_WINDOW` of each daemon says: isolated where all that were asked refuse everybody."""
    asked = [counters for counters in recent if counters.answers]
    refusing = sum(map(refuses_everybody, asked))
    if not refusing:
        return "normal"
    return "isolated" if refusing == len(asked) else "degraded"


@attrs.define
class ModeSwitch:
    """A mode that changes when two samples in a row say the same other one, and at once for an outage.

    It gets better only with proof: where nobody came there is no error either.
    """

    mode: Mode = "normal"
    known: bool = False
    """Whether the mode stands on anything yet: on a user, or on daemons that would serve one."""
    _said: Mode = "normal"
    """What the last sample said."""
    _served: int = 0
    """Users that had been served when a sample last said what the mode says, or worse."""

    def resume(self, mode: Mode) -> None:
        """Go on from a mode that is known from before."""
        self.mode = self._said = mode

    def sample(self, minute: Mode, *, outage: Mode = "normal", served: int = 0, ready: bool = True) -> bool:
        """Take a sample; return whether the mode has changed.

        `served` counts the users that were ever served, and `ready` says whether every daemon would serve one now.
        """
        said = max(minute, outage, key=MODES.index)
        worse = MODES.index(said) - MODES.index(self.mode)
        if worse < 0 and not ready and served <= self._served:
            self._said = self.mode
            return False
        if worse >= 0:
            self._served = served
        agreed = said == self._said or (worse > 0 and said == outage)
        self._said = said
        self.known = self.known or (agreed and (ready or served > 0 or said != "normal"))
        if not agreed or said == self.mode:
            return False
        self.mode = said
        return True
