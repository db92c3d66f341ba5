"""What every source has: a name, its newest reading, and snapshots of its workers.

The board owns the sources. It runs each in a task of its own and reads `reading` whenever it likes; a source tells it
by `changed` that there is something new to read.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.telemetry.values import DaemonStatus


@attrs.frozen
class Reading:
    """What is known of a source. Times are those of `trio.current_time`."""

    status: DaemonStatus | None = None
    """None when there is nothing to believe."""
    answers: bool = False
    """Whether something answers there, if only with an error."""
    problem: str = "not asked yet"
    """Why there is no status; empty when there is one."""
    expires: float = math.inf
    """When it is too old to be believed."""

    def current(self, now: float) -> Reading:
        """This reading, or what is left of it when it has expired."""
        return self if self.status is None or now < self.expires else Reading(problem="silent")


class SnapshotError(Exception):
    """There is no snapshot to be had: an HTTP status that says why, a line for a person, when to ask again if known.

    `retry_after` is in seconds.
    """

    def __init__(self, status: int, text: str, retry_after: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.retry_after = retry_after


class AudienceError(Exception):
    """The source can't say how many clients follow something; the message is for a person."""


class Source(Protocol):
    """Anything that can be asked for its workers."""

    @property
    def name(self) -> str:
        """As the operator calls it."""

    @property
    def outside(self) -> bool:
        """Whether it is no daemon of this platform: only its workers are counted, not what they consume."""

    @property
    def asked(self) -> bool:
        """Whether it has been asked once, and has answered or failed to."""

    @property
    def reading(self) -> Reading:
        """The newest."""

    async def run(self, changed: Callable[[], None]) -> None:
        """Keep `reading` up to date until cancelled, calling `changed` at every change."""

    async def snapshot(self, worker: str) -> bytes:
        """The gzipped JSON of one of its workers. Raises SnapshotError."""
