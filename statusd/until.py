"""`statusd watch --until`: a show that ends the watch when a job has come to its end."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from common.watch.show import FinishedError
from statusd.jobs import JobEvent, read_job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from common.watch.show import Note, Show


class UntilOutcome(enum.IntEnum):
    """The exit codes, as scripts expect them; 124 is that of `timeout`."""

    DONE = 0
    EXCEPTION = 1
    REFUSED = 2
    HUNG_UP = 3
    TIME_UP = 124


class UntilShow:
    """Shows what `show` shows, and raises `FinishedError` when the job has said `word`, or EXCEPTION.

    `word` is what a job says of itself (COMPLETED), or the event of one of its triggers. `job` is an id; without one,
    the first job that is seen to start is meant, and what others say counts for nothing.
    """

    def __init__(self, show: Show, word: str, job: str | None) -> None:
        self._show = show
        self._word = word
        self._job = job

    def frame(self, frame: Mapping[str, object]) -> None:
        """Show the frame, then say if it was the end."""
        self._show.frame(frame)
        data = frame.get("data")
        message = read_job(data) if frame.get("type") == "status" and isinstance(data, str) else None
        if message is None:
            return
        if self._job is None and message.event is JobEvent.STARTED:
            self._job = message.job
        if message.job != self._job:
            return
        if self._word in (message.event.value, message.trigger):
            raise FinishedError(UntilOutcome.DONE)
        if message.event is JobEvent.EXCEPTION:
            raise FinishedError(UntilOutcome.EXCEPTION)

    def notice(self, note: Note, text: str) -> None:
        """Show the notice."""
        self._show.notice(note, text)
