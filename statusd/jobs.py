"""What the platform's jobs say on a channel: `rq:<id> STARTED|COMPLETED|EXCEPTION fn(run)`, `rq:<id> STATUS text`,
`rq:<id> TRIGGER   <channel> <EVENT>`. Pure.
"""

from __future__ import annotations

import enum
import re
from typing import Final

import attrs

SHORT_ID: Final = 8
"""Characters of a job's id that people are shown: as many as of a commit's, for the same reason."""

_MESSAGE: Final = re.compile(r"rq:(\S{1,200})\s+(STARTED|COMPLETED|EXCEPTION|STATUS|TRIGGER)\b[ \t]*(.*)", re.DOTALL)


class JobEvent(enum.Enum):
    """What a job says of itself."""

    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    EXCEPTION = "EXCEPTION"
    STATUS = "STATUS"
    TRIGGER = "TRIGGER"


@attrs.frozen
class JobMessage:
    """One message of a job."""

    job: str
    """Its id, without `rq:`."""
    event: JobEvent
    text: str
    """What follows; of a trigger, its channel and its event."""

    @property
    def trigger(self) -> str:
        """The event that a trigger names, empty if this is none."""
        words = self.text.split()
        return words[1] if self.event is JobEvent.TRIGGER and len(words) > 1 else ""

    def shown(self) -> str:
        """The message for a person: the id shortened, the spaces of a trigger's columns taken out."""
        job = self.job if len(self.job) <= SHORT_ID else f"{self.job[:SHORT_ID]}…"
        word = "" if self.event is JobEvent.STATUS else f" {self.event.value}"
        text = " ".join(self.text.split()) if self.event is JobEvent.TRIGGER else self.text
        return f"rq:{job}{word} {text}".rstrip()


def read_job(data: str) -> JobMessage | None:
    """What a job says in a message; None if the message is no job's."""
    found = _MESSAGE.fullmatch(data)
    return None if found is None else JobMessage(found[1], JobEvent(found[2]), found[3])
