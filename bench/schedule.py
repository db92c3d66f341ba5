"""What is still to be run, and how long that may take. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.rows import Contestant, Row

_OVERHEAD: Final = 1.5
"""Seconds to start and end a target."""


@attrs.frozen
class Step:
    """One run."""

    row: Row
    round: int
    contestant: Contestant

    @property
    def estimate(self) -> float:
        """Seconds."""
        return _OVERHEAD + self.row.scenario.estimate


@attrs.define
class Schedule:
    """The steps, and from those that are done a better idea of the others."""

    steps: Sequence[Step]
    _done: int = 0
    _took: float = 0.0
    _estimated: float = 0.0

    def line(self) -> str:
        """The next step in words."""
        step = self.steps[self._done]
        width = len(str(len(self.steps)))
        return (
            f"[{self._done + 1:{width}}/{len(self.steps)}] {step.row.name} round {step.round} of {step.row.repeat}:"
            f" {step.contestant.label}, {step.estimate:.0f} s   ({_about(self.remaining())} left)"
        )

    def done(self, took: float) -> None:
        """The next step has been run, in so many seconds."""
        self._took += took
        self._estimated += self.steps[self._done].estimate
        self._done += 1

    def skipped(self) -> None:
        """The next step will not be run."""
        self._done += 1

    def remaining(self) -> float:
        """Seconds, at the pace of what was done."""
        left = sum(step.estimate for step in self.steps[self._done :])
        return left * (self._took / self._estimated if self._estimated else 1.0)


def make_schedule(rows: Sequence[Row], contestants: Sequence[Sequence[Contestant]]) -> Schedule:
    """Row by row; within a row all take turns, round by round."""
    return Schedule(
        [
            Step(row, number, contestant)
            for row, taking_part in zip(rows, contestants, strict=True)
            for number in range(1, row.repeat + 1)
            for contestant in taking_part
        ]
    )


def _about(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds:.0f} s"
