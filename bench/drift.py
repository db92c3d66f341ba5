"""Whether a figure that was taken again and again stays where it is: a line through the second half. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST: Final = 3
"""Points through which a line can be laid that has an error."""

SURE: Final = 3.0
"""Standard errors above nothing from which on a slope is no noise."""


@attrs.frozen
class Slope:
    """The least squares' line: its slope, in units a second, and the standard error of that."""

    value: float
    error: float


def fit(times: Sequence[float], values: Sequence[float]) -> Slope:
    """Raises ValueError with fewer than `LEAST` points, or when all are of one time."""
    number = len(values)
    if number < LEAST:
        raise ValueError(f"{number} points have no slope")
    mean_time, mean = sum(times) / number, sum(values) / number
    spread = sum((time - mean_time) ** 2 for time in times)
    if not spread:
        raise ValueError("points of one time have no slope")
    pairs = list(zip(times, values, strict=True))
    slope = sum((time - mean_time) * (value - mean) for time, value in pairs) / spread
    rest = sum((value - mean - slope * (time - mean_time)) ** 2 for time, value in pairs)
    return Slope(slope, math.sqrt(rest / (number - 2) / spread))


@attrs.frozen
class Drift:
    """A figure through a run. `grain` is the least by which it changes: growth up to that is none."""

    unit: str
    times: tuple[float, ...]
    values: tuple[float, ...]
    grain: float

    @property
    def _half(self) -> int:
        return min(len(self.values) // 2, max(0, len(self.values) - LEAST))

    @property
    def slope(self) -> Slope:
        """Of the second half."""
        return fit(self.times[self._half :], self.values[self._half :])

    @property
    def growth(self) -> float:
        """Through the second half, along its line."""
        return self.slope.value * (self.times[-1] - self.times[self._half])

    @property
    def grows(self) -> bool:
        """Whether the second half grew by more than its noise and by more than the grain."""
        return self.growth > self.grain and self.slope.value > SURE * self.slope.error

    def __str__(self) -> str:
        slope = self.slope
        return (
            f"{self.values[0]:.1f} {self.unit} at first, {self.values[-1]:.1f} at last, {self.growth:+.2f} in the"
            f" second half ({slope.value * 3600:+.2f} ± {slope.error * 3600:.2f} an hour)"
        )
