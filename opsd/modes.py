"""The traffic mode: how the error rate is called. Pure.

`ModeSwitch` belongs to the board, which gives it one sample a second by the clock, whatever else happens: a burst of
pushes is one sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from opsd.vector import Mode

DEGRADED_FROM: Final = 0.1
"""An error rate of exactly this is degraded."""

ISOLATED_ABOVE: Final = 0.5
"""An error rate of exactly this is still degraded."""


def mode_of(error_rate: float) -> Mode:
    """What one error rate, 0 to 1, says."""
    if error_rate > ISOLATED_ABOVE:
        return "isolated"
    return "degraded" if error_rate >= DEGRADED_FROM else "normal"


@attrs.define
class ModeSwitch:
    """A mode that changes only when two samples in a row say the same other one."""

    mode: Mode = "normal"
    _said: Mode = "normal"
    """What the last sample said."""

    def sample(self, error_rate: float) -> bool:
        """Take a sample; return whether the mode has changed."""
        said = mode_of(error_rate)
        agreed = said == self._said
        self._said = said
        if not agreed or said == self.mode:
            return False
        self.mode = said
        return True
