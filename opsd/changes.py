"""What has changed: how everything is that events tell of, the events so far, and a line of the log for each.

The board owns one and shows it every state that is known; how things are at the start is no event.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from common.quote import quote
from opsd.endpoints import MOST_EVENTS
from opsd.events import GOOD, MODE, Event, EventTopic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from common.logs import Logger

_LINES: Final = {
    "mode": "traffic mode changed",
    "telemetry": "telemetry status changed",
    "workers": "workers changed",
}


class Changes:
    """See the module. `problem` says what is wrong with a source, by its name."""

    def __init__(self, log: Logger, problem: Callable[[str], str]) -> None:
        self.conditions: dict[EventTopic, str] = {}
        """How everything is, as far as it is known."""
        self._log = log
        self._problem = problem
        self._events: deque[Event] = deque(maxlen=MOST_EVENTS)

    def documents(self) -> list[dict[str, object]]:
        """The events as JSON objects, newest first, `MOST_EVENTS` at most."""
        return [event.document() for event in reversed(self._events)]

    def look(self, states: Mapping[EventTopic, str], timestamp: str, error_rate: float) -> None:
        """Make events of what is another way than it was."""
        for topic, state in states.items():
            before = self.conditions.get(topic, topic.good if topic == MODE else None)
            self.conditions[topic] = state
            if before is None and topic.kind == "source":
                self._log_source(topic.source, state)
            if before is not None and before != state:
                self._happened(Event(timestamp, topic, before, state, error_rate))

    def _happened(self, event: Event) -> None:
        self._events.append(event)
        topic = event.topic
        if topic.kind == "source":
            self._log_source(topic.source, event.after)
            return
        log = self._log.info if event.after == topic.good else self._log.warning
        fields = {"source": topic.source} if topic.source else {}
        log(
            _LINES[topic.kind],
            **fields,
            before=event.before,
            after=event.after,
            error_rate=round(event.error_rate, 6),
        )

    def _log_source(self, name: str, state: str) -> None:
        if state == GOOD["source"]:
            self._log.info("source online", source=name)
        else:
            self._log.warning("source unavailable", source=name, error=quote(self._problem(name)))
