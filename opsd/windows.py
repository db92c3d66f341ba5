"""What growing counters did lately: over a minute, over five. Pure: the time is an argument, in seconds.

`Growth` turns the totals that one source shows from time to time into what was added since, over restarts of that
source. `Rolling` keeps what was added, second by second, for as long as the longest window; the board owns both.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING

import attrs

from common.disconnect import FAULTS

if TYPE_CHECKING:
    from collections.abc import Hashable

    from common.telemetry.values import Counted, DaemonStatus


@attrs.frozen
class SourceCounters:
    """Totals, or a difference of totals."""

    answers: int = 0
    server_errors: int = 0
    """Answers of 500 and above."""
    seconds: float = 0.0
    """Summed, from a request's head to its answer."""
    ended: int = 0
    """Conversations that have ended."""
    failed: int = 0
    """Those that ended by a fault of the service."""
    messages: int = 0

    def plus(self, other: SourceCounters) -> SourceCounters:
        """The sum."""
        return SourceCounters(
            self.answers + other.answers,
            self.server_errors + other.server_errors,
            self.seconds + other.seconds,
            self.ended + other.ended,
            self.failed + other.failed,
            self.messages + other.messages,
        )

    def minus(self, other: SourceCounters) -> SourceCounters:
        """The difference; where a total fell, 0."""
        return SourceCounters(
            max(0, self.answers - other.answers),
            max(0, self.server_errors - other.server_errors),
            max(0.0, self.seconds - other.seconds),
            max(0, self.ended - other.ended),
            max(0, self.failed - other.failed),
            max(0, self.messages - other.messages),
        )

    def fell_below(self, other: SourceCounters) -> bool:
        """Whether any count is lower. The seconds don't count: a sum in another order may differ in its last bit."""
        return (
            self.answers < other.answers
            or self.server_errors < other.server_errors
            or self.ended < other.ended
            or self.failed < other.failed
            or self.messages < other.messages
        )

    @property
    def error_rate(self) -> float:
        """The share of failures among answers and ended conversations, 0 when there were none."""
        events = self.answers + self.ended
        return min(1.0, (self.server_errors + self.failed) / events) if events else 0.0

    @property
    def latency(self) -> float:
        """Seconds that the mean answer took, 0 when there was none."""
        return self.seconds / self.answers if self.answers else 0.0


def totals(status: DaemonStatus) -> SourceCounters:
    """What all processes of a daemon have counted, those that are gone included."""
    counters = _counters(status.retired)
    for worker in status.workers:
        counters = counters.plus(_counters(worker))
    return counters


def _counters(counted: Counted) -> SourceCounters:
    return SourceCounters(
        answers=counted.answers.total,
        server_errors=counted.answers.server_errors,
        seconds=counted.answers.seconds,
        ended=sum(counted.disconnects.values()),
        failed=sum(count for reason, count in counted.disconnects.items() if reason in FAULTS),
        messages=counted.messages,
    )


@attrs.define
class Growth:
    """The totals of one source as last seen."""

    _last: SourceCounters | None = None
    _members: frozenset[Hashable] = frozenset()

    def feed(self, totals: SourceCounters, members: frozenset[Hashable], *, fresh: bool = False) -> SourceCounters:
        """What was added since the last call; nothing in the first call, or everything if the source is `fresh`.

        `members` are the source's processes. Totals that fell mean a restart, which counts from 0, when all processes
        are others than before. With one of them still there the totals are only older than those seen last, and add
        nothing.
        """
        last, known = self._last, self._members
        if last is not None and totals.fell_below(last):
            if members & known:
                return SourceCounters()
            last, fresh = None, True
        self._last, self._members = totals, members
        if last is None:
            return totals if fresh else SourceCounters()
        return totals.minus(last)


@attrs.frozen
class Span:
    """What was added in a window, and how many of the window's seconds were watched, 1 at least."""

    added: SourceCounters
    seconds: float

    @property
    def requests_per_second(self) -> float:
        """Answers a second."""
        return self.added.answers / self.seconds

    @property
    def messages_per_second(self) -> float:
        """Messages a second."""
        return self.added.messages / self.seconds


class Rolling:
    """What was added in each second of the last `longest` seconds."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._begun: float | None = None
        self._total = SourceCounters()
        self._seconds: deque[int] = deque()
        """The seconds in which something was added, ascending."""
        self._before: deque[SourceCounters] = deque()
        """For each of them, the total when it began."""

    def begin(self, now: float) -> None:
        """From here on it is watched; rates are over the time since. The first call counts."""
        if self._begun is None:
            self._begun = now

    def add(self, now: float, added: SourceCounters) -> None:
        """Note what was added by now. Times never go back."""
        self.begin(now)
        second = math.floor(now)
        if not self._seconds or self._seconds[-1] < second:
            self._seconds.append(second)
            self._before.append(self._total)
        self._total = self._total.plus(added)
        while self._seconds[0] <= second - self._longest:
            self._seconds.popleft()
            self._before.popleft()

    def over(self, now: float, seconds: int) -> Span:
        """What was added in the last `seconds`, cut to whole seconds at the far end."""
        if self._begun is None:
            return Span(SourceCounters(), 1.0)
        first = math.floor(now) - seconds + 1
        index = bisect_right(self._seconds, first - 1)
        before = self._before[index] if index < len(self._before) else self._total
        watched = min(now - first, now - self._begun)
        return Span(self._total.minus(before), max(1.0, watched))
