"""What a row must reach, and whether it did. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from bench.figures import FIGURES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.stats import Spread


@attrs.frozen(kw_only=True)
class Goal:
    """A bound for one figure: of `target` itself, or of its ratio to the best of `against` where there are any.

    The bound is the most, or for a figure of which more is better the least.
    """

    figure: str
    limit: float
    target: str
    against: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        figure = FIGURES[self.figure]
        sign = "≥" if figure.higher_is_better else "≤"
        if self.against:
            peers = f"the best of {', '.join(self.against)}" if len(self.against) > 1 else self.against[0]
            return f"{self.target}: {figure.title} {sign} {self.limit:g} × that of {peers}"
        return f"{self.target}: {figure.title} {sign} {self.limit:,.10g}"


@attrs.frozen
class GoalVerdict:
    """`value` is what the goal bounds, a median; None, as `met`, when it was not measured.

    `share` is how much of what is allowed was used, 1 being just met; None where the limit is nothing, too.
    """

    goal: str
    value: float | None = None
    met: bool | None = None
    share: float | None = None

    @property
    def word(self) -> str:
        return {True: "met", False: "NOT met", None: "not measured"}[self.met]


def judge(
    goal: Goal,
    figures: Mapping[str, Mapping[str, Spread]],
    ratios: Mapping[str, Mapping[str, Spread]],
) -> GoalVerdict:
    """`figures` of every target, and `ratios` of the goal's target to each peer."""
    if goal.against:
        value = _ratio_to_best(goal, figures, ratios)
    else:
        spread = figures.get(goal.target, {}).get(goal.figure)
        value = None if spread is None else spread.median
    if value is None:
        return GoalVerdict(goal.text)
    if FIGURES[goal.figure].higher_is_better:
        return GoalVerdict(goal.text, value, value >= goal.limit, goal.limit / value if value else None)
    return GoalVerdict(goal.text, value, value <= goal.limit, value / goal.limit if goal.limit else None)


def _ratio_to_best(
    goal: Goal,
    figures: Mapping[str, Mapping[str, Spread]],
    ratios: Mapping[str, Mapping[str, Spread]],
) -> float | None:
    """The ratio to the peer whose median is the best; None unless the ratio to at least one of them is known."""
    medians = {peer: figures[peer][goal.figure].median for peer in goal.against if goal.figure in ratios.get(peer, {})}
    if not medians:
        return None
    choose = max if FIGURES[goal.figure].higher_is_better else min
    best = choose(medians, key=lambda peer: medians[peer])
    return ratios[best][goal.figure].median
