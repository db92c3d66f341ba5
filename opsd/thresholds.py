"""The numbers by which who shows a status calls it good, bad or too old: `GET /api/dev/config` tells them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opsd.board import TICK
from opsd.modes import DEGRADED_FROM, ISOLATED_ABOVE

if TYPE_CHECKING:
    from collections.abc import Mapping

STALE_AFTER: Final = 3 * TICK
"""Seconds after which a status should have been followed by another: its figures are not to be relied on."""

SILENT_AFTER: Final = 5 * TICK
"""Seconds without a status after which a live connection is dead."""

THRESHOLDS: Final[Mapping[str, float]] = {
    "degradedFrom": DEGRADED_FROM,
    "isolatedAbove": ISOLATED_ABOVE,
    "staleAfter": STALE_AFTER,
    "silentAfter": SILENT_AFTER,
}
"""As a JSON object: shares of users, and seconds."""
