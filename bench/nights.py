"""Two documents of the bench, held against each other: which ratios of a daemon to its peers have got worse. Pure.

An absolute figure says as much about the machine as about the program, and two nights seldom have the same machine;
so only what was divided within one run is compared. A ratio is worse when its median is by `WORSE`, unless that may be
noise:

- A daemon that became slower is slower beside every peer of the row; a peer that became faster is so beside itself
  alone. So a figure is as much worse as beside the peer that shows it least.
- The rounds of one night must all be worse than all of the other's, else the nights don't differ by more than the
  rounds of one night do.
- Of times on a clock one round says nothing: the 99th percentile of a few seconds doubles by itself. CPU time and
  memory are sums, and one round of them will do.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import attrs

from bench.figures import FIGURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WORSE: Final = 0.2
"""The share by which a ratio may not get worse."""

ITSELF: Final = "itself"
"""The peer of a figure that is a ratio within the daemon's own run already."""
_WITHIN: Final = ("isolation",)

_ON_A_CLOCK: Final = ("_ms", "_s")
"""How the names of such figures end."""

Json = Any


class NotComparableError(ValueError):
    """A document that is not the bench's; the message is for the user."""


class Verdict(Enum):
    """What is said of one figure."""

    FINE = "fine"
    BETTER = "better"
    NOISE = "worse, within the noise"
    WORSE = "WORSE"
    SILENT = "NOT measured any more"
    OTHER = "the row has changed"

    @property
    def fails(self) -> bool:
        return self in (Verdict.WORSE, Verdict.SILENT)


@attrs.frozen(order=True)
class Place:
    """Whose figure, in which row."""

    row: str
    subject: str
    figure: str


@attrs.frozen
class Beside:
    """A daemon's figure divided by a peer's: the median of the rounds, and the outermost."""

    median: float
    low: float
    high: float


@attrs.frozen(kw_only=True)
class Measured:
    """One figure of one night, beside each peer; `row` is what was done."""

    beside: Mapping[str, Beside]
    row: Mapping[str, Json]
    rounds: int


@attrs.frozen(kw_only=True)
class Change:
    """What became of one figure; `peer` shows it least, and `last` and `this` are the medians beside it."""

    place: Place
    verdict: Verdict
    peer: str = ""
    last: float | None = None
    this: float | None = None
    factor: float | None = None
    """How many times as bad: 1 is as before."""


def read(document: Json) -> dict[Place, Measured]:
    """The ratios of a document as `bench.store` writes it. Raises NotComparableError."""
    try:
        return dict(found for row in document["rows"] for found in _row(row))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NotComparableError(f"no document of the bench: {error!r}") from error


def compare(last: Mapping[Place, Measured], this: Mapping[Place, Measured]) -> list[Change]:
    """What became of each figure that the last night had. Raises NotComparableError if it had none."""
    if not last:
        raise NotComparableError("nothing in it was divided by anything")
    return [_change(place, before, this.get(place)) for place, before in sorted(last.items())]


def _row(row: Json) -> Iterable[tuple[Place, Measured]]:
    """Peers that are daemons themselves are left out: both would get worse at once."""
    for subject in row["subjects"]:
        peers = {peer: found for peer, found in row["ratios"].get(subject, {}).items() if peer not in row["subjects"]}
        own = row["targets"].get(subject, {})
        for figure in row["table"]:
            beside = {peer: _beside(found[figure]) for peer, found in peers.items() if figure in found}
            if figure in _WITHIN and figure in own:
                beside = {ITSELF: _beside(own[figure])}
            beside = {peer: ratio for peer, ratio in beside.items() if ratio.median > 0}
            if beside:
                measured = Measured(beside=beside, row=row["parameters"], rounds=int(row["parameters"]["rounds"]))
                yield Place(row["name"], subject, figure), measured


def _beside(spread: Json) -> Beside:
    return Beside(float(spread["median"]), float(spread["min"]), float(spread["max"]))


def _change(place: Place, before: Measured, now: Measured | None) -> Change:
    if now is None:
        return Change(place=place, verdict=Verdict.SILENT)
    if before.row != now.row:
        return Change(place=place, verdict=Verdict.OTHER)
    common = [peer for peer in before.beside if peer in now.beside]
    if not common:
        return Change(place=place, verdict=Verdict.SILENT)
    upwards = FIGURES[place.figure].higher_is_better
    factors = {peer: _factor(before.beside[peer].median, now.beside[peer].median, upwards) for peer in common}
    peer = min(factors, key=lambda peer: factors[peer])
    return Change(
        place=place,
        verdict=_verdict(
            place, [(before.beside[name], now.beside[name]) for name in common], factors[peer], now.rounds
        ),
        peer=peer,
        last=before.beside[peer].median,
        this=now.beside[peer].median,
        factor=factors[peer],
    )


def _verdict(place: Place, nights: Sequence[tuple[Beside, Beside]], factor: float, rounds: int) -> Verdict:
    if factor < 1 - WORSE:
        return Verdict.BETTER
    # As written: by 20 % exactly is worse, whatever a division's last digit says.
    if round(factor, 6) < 1 + WORSE:
        return Verdict.FINE
    apart = all(_apart(before, now, FIGURES[place.figure].higher_is_better) for before, now in nights)
    lone = rounds < 2 and place.figure.endswith(_ON_A_CLOCK)
    return Verdict.WORSE if apart and not lone else Verdict.NOISE


def _factor(before: float, now: float, upwards: bool) -> float:
    return before / now if upwards else now / before


def _apart(before: Beside, now: Beside, upwards: bool) -> bool:
    return now.high < before.low if upwards else now.low > before.high
