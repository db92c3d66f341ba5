"""What a target is: properties, and where their values come from.

A property is a plain function that raises if it does not hold. `holds_for` says what it is to be called with, and makes
of it a `Function`; a Hypothesis state machine becomes a `Machine`. Both run under settings and a seed of the caller's,
any number of times, which a function that is decorated with `given` once and for all does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs
from hypothesis import given, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy


class Property(Protocol):
    """Something that holds of whatever is drawn."""

    @property
    def name(self) -> str:
        """In words, as an identifier."""

    def run(self, how: settings, number: int | None = None) -> None:
        """Look for a counterexample, from this seed or (None) the one that `how` implies; raise what it raises."""


@attrs.frozen
class Function:
    """A property that is a function of drawn values."""

    check: Callable[..., None]
    values: tuple[SearchStrategy[object], ...]

    @property
    def name(self) -> str:
        """The function's name."""
        return self.check.__name__

    def run(self, how: settings, number: int | None = None) -> None:
        """See `Property`."""
        test = given(*self.values)(self.check)
        how(test if number is None else seed(number)(test))()


@attrs.frozen
class Machine:
    """A property that is a state machine: its rules in any order, its invariants after each."""

    machine: type[RuleBasedStateMachine]

    @property
    def name(self) -> str:
        """The machine's name."""
        return self.machine.__name__

    def run(self, how: settings, number: int | None = None) -> None:
        """See `Property`."""
        # A class of its own for each run: the seed is kept on it.
        machine = type(self.machine.__name__, (self.machine,), {"__module__": self.machine.__module__})
        run_state_machine_as_test(machine if number is None else seed(number)(machine), settings=how)


@attrs.frozen
class FuzzTarget:
    """One part of the system and what holds of it."""

    name: str
    properties: tuple[Property, ...]


def holds_for(*values: SearchStrategy[object]) -> Callable[[Callable[..., None]], Function]:
    """Make a property of a function of these values."""

    def make(check: Callable[..., None]) -> Function:
        return Function(check, values)

    return make
