"""When what is made here says that it was made: with SOURCE_DATE_EPOCH the same tree gives the same bytes."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

VARIABLE: Final = "SOURCE_DATE_EPOCH"
"""Seconds since 1970, as https://reproducible-builds.org/specs/source-date-epoch/ has it."""


def moment_made(environ: Mapping[str, str] = os.environ) -> datetime:
    """The moment that the environment gives, else now; in UTC. Raises ValueError for one that is no number."""
    return datetime.fromtimestamp(int(environ.get(VARIABLE) or time.time()), UTC)


def day_made(environ: Mapping[str, str] = os.environ) -> date:
    """The day of that moment."""
    return moment_made(environ).date()
