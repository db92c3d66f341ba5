"""What the webhook has been told of each condition, and how things are. Pure: times are arguments, in seconds.

The newest state wins: one that came and went while the receiver was away is not told, unless an attempt was made to
tell it, which may have reached somebody. So there is never more to tell than there are conditions, however long the
receiver is away.

`Ledger` belongs to the alerts. What must outlive the process is the text that `dump` makes and `load` takes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import attrs

from opsd.events import MODE, TELEMETRY, Event, EventTopic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SETTLE: Final = 2.0
"""Seconds that a condition must have been as it is before it is told; the mode was settled by its samples."""

UNKNOWN: Final = "unknown"
"""What was told of a condition where that can't be known."""

LONGEST: Final = 1 << 16
"""Characters of a text that is believed: far more than all conditions of a thousand sources."""


@attrs.frozen
class Seen:
    """How a condition is, and since when."""

    state: str
    since: float
    time: str
    """The same as a date, for a person."""
    error_rate: float
    """Of the minute before."""


@attrs.define
class Ledger:
    """See the module."""

    told: dict[EventTopic, str] = attrs.field(factory=dict)
    """What was told last. Of a condition that is not here, that nothing is wrong."""
    tried: dict[EventTopic, str] = attrs.field(factory=dict)
    """What was tried in vain since then: who knows what the receiver believes."""
    _seen: dict[EventTopic, Seen] = attrs.field(factory=dict)
    _left: dict[EventTopic, str] = attrs.field(factory=dict)
    """How things were when another process looked last, until they are seen."""

    def observe(self, conditions: Mapping[EventTopic, str], now: float, time: str, error_rate: float) -> bool:
        """Take note of how things are; return whether anything is another way than before."""
        new = {
            topic: Seen(state, now, time, error_rate)
            for topic, state in conditions.items()
            if topic not in self._seen or self._seen[topic].state != state
        }
        self._seen |= new
        return bool(new)

    def due(self, now: float) -> Event | None:
        """What is to be told next, the condition first that has changed first."""
        return next((event for at, event in self._waiting() if at <= now), None)

    def due_at(self) -> float | None:
        """When there is something to be told, if nothing changes until then; None for never."""
        return min((at for at, _ in self._waiting()), default=None)

    def attempted(self, event: Event, *, taken: bool) -> None:
        """An attempt was made to tell this, and the receiver has taken it or has not."""
        if taken:
            self.told[event.topic] = event.after
            self.tried.pop(event.topic, None)
        elif event.after != self._told(event.topic):
            self.tried[event.topic] = event.after

    def forget(self) -> None:
        """It can't be known what was told before: there may be an incident that must be resolved."""
        for topic in (MODE, TELEMETRY):
            self.told.setdefault(topic, UNKNOWN)

    def _told(self, topic: EventTopic) -> str:
        return self.told.get(topic, topic.good)

    def _waiting(self) -> Iterator[tuple[float, Event]]:
        for topic, seen in sorted(self._seen.items(), key=lambda item: item[1].since):
            before = self._told(topic)
            if before == seen.state and topic not in self.tried:
                continue
            if before == seen.state:
                before = self.tried[topic]
            settled_at = seen.since if topic == MODE else seen.since + SETTLE
            yield settled_at, Event(seen.time, topic, before, seen.state, seen.error_rate)

    # -- over a restart -----------------------------------------------------------------------------------------------

    def dump(self) -> str:
        """What was told and tried of each condition, and how it is, where anything of it is wrong."""
        entries: list[list[str | None]] = []
        for topic in sorted({*self.told, *self.tried, *self._seen, *self._left}):
            seen = self._seen.get(topic)
            state = self._left.get(topic, self._told(topic)) if seen is None else seen.state
            if {self._told(topic), self.tried.get(topic, topic.good), state} != {topic.good}:
                entries.append([topic.kind, topic.source, self._told(topic), self.tried.get(topic), state])
        return json.dumps(entries, separators=(",", ":"))

    def load(self, text: str) -> dict[EventTopic, str]:
        """Take over what another process left, but for what is known better; return how things were then.

        Raises ValueError.
        """
        for topic, told, tried, state in _entries(text):
            self._left[topic] = state
            self.told.setdefault(topic, told)
            if tried is not None:
                self.tried.setdefault(topic, tried)
        return self._left


def _entries(text: str) -> list[tuple[EventTopic, str, str | None, str]]:
    """What `Ledger.dump` made. Raises ValueError for anything else."""
    if len(text) > LONGEST:
        raise ValueError("it is too long")
    try:
        document: object = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(document, list):
        raise ValueError("it is no list")  # noqa: TRY004 - whatever is wrong is a ValueError
    found: list[tuple[EventTopic, str, str | None, str]] = []
    for entry in document:
        match entry:
            case [
                ("mode" | "telemetry" | "source" | "workers") as kind,
                str(source),
                str(told),
                (str() | None) as tried,
                str(state),
            ]:
                found.append((EventTopic(kind, source), told, tried, state))
            case _:
                raise ValueError("an entry of it is none")
    return found
