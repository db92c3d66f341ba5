"""What changes, as values: the traffic mode, the telemetry, a source, the workers of a source. Pure.

A condition is named by its `EventTopic`. Each has a state in which nothing is wrong (`GOOD`); the board makes an
`Event` of every other one that it comes to, and of the way back.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

Kind = Literal["mode", "telemetry", "source", "workers"]

GOOD: Final[dict[Kind, str]] = {"mode": "normal", "telemetry": "healthy", "source": "up", "workers": "ready"}
"""The state of each kind in which nothing is wrong."""


@attrs.frozen(order=True)
class EventTopic:
    """What an event is about."""

    kind: Kind
    source: str = ""
    """The name of the source, for the kinds `source` and `workers`."""

    @property
    def good(self) -> str:
        """Its state when nothing is wrong."""
        return GOOD[self.kind]

    def words(self) -> str:
        """For a person."""
        if self.kind == "mode":
            return "traffic mode"
        if self.kind == "workers":
            return f"workers of {self.source}"
        return self.source or self.kind


MODE: Final = EventTopic("mode")
TELEMETRY: Final = EventTopic("telemetry")


@attrs.frozen
class Event:
    """A change of one condition."""

    time: str
    """RFC 3339, UTC, milliseconds."""
    topic: EventTopic
    before: str
    after: str
    error_rate: float
    """Of the last minute, 0 to 1."""

    def document(self) -> dict[str, object]:
        """As a JSON object; `source` is there where the event is about one."""
        document: dict[str, object] = {
            "time": self.time,
            "kind": self.topic.kind,
            "from": self.before,
            "to": self.after,
            "errorRate": round(self.error_rate, 6),
        }
        if self.topic.source:
            document["source"] = self.topic.source
        return document
