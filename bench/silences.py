"""What a subscriber got of numbered messages: lost, twice, out of order, and its longest silence. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@attrs.frozen
class Receipt:
    """Of one subscriber, in one failover. `silence` is in seconds."""

    published: int
    lost: int
    twice: int
    disordered: int
    silence: float


def account(published: Mapping[int, float], received: Sequence[tuple[int, float]]) -> Receipt:
    """What came of the messages `published` (number -> time), of which each one `received` has its number and time.

    One that was received and is not among those that were published counts for nothing: its publisher was told of an
    error, though it had gone out.
    """
    numbers = [number for number, _ in received]
    known = [number for number in numbers if number in published]
    return Receipt(
        published=len(published),
        lost=len(published.keys() - set(known)),
        twice=len(numbers) - len(set(numbers)),
        disordered=sum(after < before for before, after in pairwise(numbers)),
        silence=longest([time for _, time in received]),
    )


def longest(times: Sequence[float]) -> float:
    """The longest time between two of these, which are in order."""
    return max((after - before for before, after in pairwise(times)), default=0.0)
