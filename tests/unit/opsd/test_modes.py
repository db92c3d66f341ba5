"""How what users got is called, and when the mode changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from opsd.modes import ModeSwitch, mode_of, outage_of
from opsd.windows import SourceCounters

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
        assert switch.sample(mode_of(rate)) == (mode != before)
        before = mode
        assert switch.mode[0] == mode


def is_known(switch: ModeSwitch) -> bool:
    return switch.known


def counted(answers: int, refused: int) -> SourceCounters:
    return SourceCounters(answers=answers, server_errors=refused)


@pytest.mark.parametrize(
    ("recent", "mode"),
    [
        ([counted(3, 3)], "isolated"),
        ([counted(3, 3), counted(0, 0)], "isolated"),
        ([counted(3, 3), counted(40, 0)], "degraded"),
        ([counted(3, 3), counted(3, 3)], "isolated"),
        ([counted(100, 95)], "isolated"),
        # Two may have met a moment's trouble, and one that serves some does not refuse everybody.
        ([counted(2, 2)], "normal"),
        ([counted(10, 8)], "normal"),
        ([counted(50, 0), counted(50, 0)], "normal"),
        ([counted(0, 0)], "normal"),
        ([], "normal"),
    ],
)
def test_a_daemon_that_refuses_everybody_is_an_outage(recent: list[SourceCounters], mode: Mode) -> None:
    assert outage_of(recent) == mode


def test_an_outage_counts_at_once_and_makes_nothing_better() -> None:
    switch = ModeSwitch()
    assert switch.sample("normal", outage="degraded")
    assert switch.sample("normal", outage="isolated")
    assert not switch.sample("isolated", outage="degraded")
    assert not switch.sample("normal", outage="degraded"), "what is better needs two samples"
    assert switch.sample("normal", outage="degraded")
    assert switch.mode == "degraded"


def test_that_nobody_came_makes_nothing_better() -> None:
    switch = ModeSwitch()
    for _ in range(5):
        assert not switch.sample("normal", ready=False)
    assert not is_known(switch), "it stands on nothing"
    switch.sample("isolated", served=7, ready=False)
    assert switch.sample("isolated", served=7, ready=False), "what is worse needs no proof"
    assert is_known(switch)
    better: tuple[Mode, ...] = ("normal", "degraded", "normal", "normal")
    for said in better:
        assert not switch.sample(said, served=7, ready=False)
    assert switch.mode[0] == "i"
    # One user is served, and is proof from then on.
    assert not switch.sample("normal", served=8, ready=False)
    assert switch.sample("normal", served=8, ready=False)
    assert switch.mode == "normal"


def test_a_mode_of_before_goes_on_until_there_is_proof() -> None:
    switch = ModeSwitch()
    switch.resume("isolated")
    for _ in range(5):
        assert not switch.sample("normal", ready=False)
    assert (switch.mode, is_known(switch)) == ("isolated", False)
    assert not switch.sample("normal")
    assert switch.sample("normal")
    assert (switch.mode, switch.known) == ("normal", True)
