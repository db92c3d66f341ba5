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

import math
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import attrs

from bench.figures import FIGURES
from bench.stats import Spread

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


class Trend(Enum):
    """What is said of one figure."""

    FINE = "fine"
    BETTER = "better"
    NOISE = "worse, within the noise"
    WORSE = "WORSE"
    SILENT = "NOT measured any more"
    NOTHING = "a peer's is nothing: no ratio"
    OTHER = "the row has changed"

    @property
    def fails(self) -> bool:
        return self in (Trend.WORSE, Trend.SILENT)


@attrs.frozen(order=True)
class RatioKey:
    """Whose figure, in which row."""

    row: str
    subject: str
    figure: str


@attrs.frozen(kw_only=True)
class Measured:
    """One figure of one night, beside each peer; `row` is what was done.

    Beside a peer whose figure was nothing in every round there is no ratio.
    """

    peers: frozenset[str]
    """Those of which it was measured, too."""
    beside: Mapping[str, Spread]
    row: Mapping[str, Json]
    rounds: int


@attrs.frozen(kw_only=True)
class Change:
    """What became of one figure; `peer` shows it least, and `last` and `this` are the medians beside it."""

    key: RatioKey
    trend: Trend
    peer: str = ""
    last: float | None = None
    this: float | None = None
    factor: float | None = None
    """How many times as bad: 1 is as before."""


def read(document: Json) -> dict[RatioKey, Measured]:
    """The ratios of a document as `bench.store` writes it. Raises NotComparableError."""
    try:
        return dict(found for row in document["rows"] for found in _row(row))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NotComparableError(f"no document of the bench: {error!r}") from error


def compare(last: Mapping[RatioKey, Measured], this: Mapping[RatioKey, Measured]) -> list[Change]:
    """What became of each figure that the last night had. Raises NotComparableError if it had none."""
    comparable = {key: before for key, before in sorted(last.items()) if _beside_something(before)}
    if not comparable:
        raise NotComparableError("nothing in it was divided by anything")
    return [_change(key, before, this.get(key)) for key, before in comparable.items()]


def _row(row: Json) -> Iterable[tuple[RatioKey, Measured]]:
    """Peers that are daemons themselves are left out: both would get worse at once."""
    targets = row["targets"]
    others = [target for target in targets if target not in row["subjects"]]
    for subject in row["subjects"]:
        own = targets.get(subject, {})
        for figure in (name for name in row["table"] if name in own):
            peers = [peer for peer in others if figure in targets[peer]]
            ratios = {peer: row["ratios"][subject][peer] for peer in peers}
            beside = {peer: _spread(found[figure]) for peer, found in ratios.items() if figure in found}
            if figure in _WITHIN:
                peers, beside = [ITSELF], {ITSELF: _spread(own[figure])}
            yield (
                RatioKey(row["name"], subject, figure),
                Measured(
                    peers=frozenset(peers),
                    beside=beside,
                    row=row["parameters"],
                    rounds=int(row["parameters"]["rounds"]),
                ),
            )


def _spread(spread: Json) -> Spread:
    return Spread(float(spread["median"]), float(spread["min"]), float(spread["max"]))


def _beside_something(measured: Measured) -> dict[str, Spread]:
    """The ratios that others can be held against: to be worse than nothing is no number."""
    return {peer: ratio for peer, ratio in measured.beside.items() if ratio.median > 0}


def _change(key: RatioKey, before: Measured, now: Measured | None) -> Change:
    if now is None:
        return Change(key=key, trend=Trend.SILENT)
    if before.row != now.row:
        return Change(key=key, trend=Trend.OTHER)
    known = _beside_something(before)
    if not known.keys() & now.peers:
        return Change(key=key, trend=Trend.SILENT)
    nights = {peer: (ratio, now.beside[peer]) for peer, ratio in known.items() if peer in now.beside}
    if not nights:
        return Change(key=key, trend=Trend.NOTHING)
    upwards = FIGURES[key.figure].higher_is_better
    factors = {peer: _factor(last.median, this.median, upwards) for peer, (last, this) in nights.items()}
    peer = min(factors, key=lambda peer: factors[peer])
    return Change(
        key=key,
        trend=_trend(key, list(nights.values()), factors[peer], now.rounds),
        peer=peer,
        last=nights[peer][0].median,
        this=nights[peer][1].median,
        factor=factors[peer],
    )


def _trend(key: RatioKey, nights: Sequence[tuple[Spread, Spread]], factor: float, rounds: int) -> Trend:
    if factor < 1 - WORSE:
        return Trend.BETTER
    # As written: by 20 % exactly is worse, whatever a division's last digit says.
    if round(factor, 6) < 1 + WORSE:
        return Trend.FINE
    apart = all(_apart(before, now, FIGURES[key.figure].higher_is_better) for before, now in nights)
    lone = rounds < 2 and key.figure.endswith(_ON_A_CLOCK)
    return Trend.WORSE if apart and not lone else Trend.NOISE


def _factor(before: float, now: float, upwards: bool) -> float:
    if upwards:
        return before / now if now else math.inf
    return now / before


def _apart(before: Spread, now: Spread, upwards: bool) -> bool:
    return now.max < before.min if upwards else now.min > before.max
