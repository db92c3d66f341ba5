"""How error rates are called, and when the mode changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from opsd.modes import ModeSwitch, mode_of

if TYPE_CHECKING:
    from opsd.vector import Mode


@pytest.mark.parametrize(
    ("rate", "mode"),
    [
        (0.0, "normal"),
        (0.0999999, "normal"),
        (0.1, "degraded"),
        (0.3, "degraded"),
        (0.5, "degraded"),
        (0.5000001, "isolated"),
        (1.0, "isolated"),
    ],
)
def test_boundaries(rate: float, mode: Mode) -> None:
    assert mode_of(rate) == mode


@pytest.mark.parametrize(
    ("rates", "modes"),
    [
        # One sample changes nothing, two in a row do.
        ([0.2, 0.2], "nd"),
        ([0.2, 0.0, 0.2, 0.0, 0.2], "nnnnn"),
        ([0.2, 0.2, 0.0, 0.2, 0.0, 0.0], "nddddn"),
        # Two that differ don't agree, even if neither is the mode's.
        ([0.2, 0.9, 0.2, 0.9, 0.9], "nnnni"),
        ([0.9, 0.9, 0.2, 0.0, 0.0], "niiin"),
        # On the boundaries themselves.
        ([0.1, 0.1, 0.5, 0.5, 0.51, 0.51, 0.5, 0.5, 0.09, 0.09], "nddddiiddn"),
        ([0.0, 0.0, 0.0], "nnn"),
    ],
)
def test_a_change_needs_two_samples_in_a_row_that_agree(rates: list[float], modes: str) -> None:
    switch, before = ModeSwitch(), "n"
    for rate, mode in zip(rates, modes, strict=False):
        assert switch.sample(rate) == (mode != before)
        before = mode
        assert switch.mode[0] == mode
