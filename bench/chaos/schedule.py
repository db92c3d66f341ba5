"""The acts of one run: a pure function of the seed and of how long it may take."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import attrs

from bench.chaos.faults import CLIENT_WAY, DAEMONS, KINDS, PROCESS, REDIS, REDIS_WAY, Fault

if TYPE_CHECKING:
    from bench.chaos.faults import Kind

RECOVERY: Final = 2.5
"""Seconds that recovering from an act is reckoned to take, when the acts of a run are counted."""

TOGETHER: Final = 0.4
"""Share of the acts in which a second fault goes with the first, at another place."""


@attrs.frozen
class Act:
    """Faults that overlap, or one alone. The next act begins when everything works again."""

    faults: tuple[Fault, ...]

    @property
    def seconds(self) -> float:
        """Until the last of them is over."""
        return max(fault.begin + fault.seconds for fault in self.faults)

    def __str__(self) -> str:
        return " + ".join(map(str, self.faults))


def draw(seed: int, seconds: float) -> tuple[Act, ...]:
    """Acts for about so many seconds, at least one. The kinds come in rounds, so that a long run has each of them; the
    same seed has the same acts, and a longer run begins as a shorter one does."""
    rng = random.Random(seed)
    acts: list[Act] = []
    spent = 0.0
    waiting: list[Kind] = []
    while not acts or spent < seconds:
        if not waiting:
            waiting = list(KINDS)
            rng.shuffle(waiting)
        kind = waiting.pop()
        faults = [_fault(kind, rng, 0.0)]
        if rng.random() < TOGETHER and not kind.alone:
            # Two of Redis, or of its processes, would undo each other.
            others = [other for other in KINDS if _goes_with(kind, other)]
            faults.append(_fault(rng.choice(others), rng, rng.uniform(0.0, max(faults[0].seconds, 0.5))))
        act = Act(tuple(faults))
        acts.append(act)
        spent += act.seconds + RECOVERY
    return tuple(acts)


def _goes_with(kind: Kind, other: Kind) -> bool:
    if other.alone or kind.place == other.place:
        return False
    # Which outage was whose could not be told: on the way or at its end.
    return {kind.place, other.place} != {REDIS, REDIS_WAY}


def _fault(kind: Kind, rng: random.Random, begin: float) -> Fault:
    daemon = rng.choice(DAEMONS) if kind.place in {REDIS_WAY, CLIENT_WAY, PROCESS} else ""
    return Fault(
        kind.place, kind.name, daemon, round(begin, 2), round(rng.uniform(*kind.seconds), 2), rng.getrandbits(32)
    )
