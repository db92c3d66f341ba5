"""From the outcome of each run to the document: medians, ratios paired by round, goals. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from bench.goals import Goal, GoalVerdict, judge
from bench.ledger import Faults
from bench.stats import Spread, paired_ratio, spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.outcome import Outcome
    from bench.rows import Row


@attrs.frozen
class Run:
    """One target, measured once."""

    target: str
    round: int
    outcome: Outcome


@attrs.frozen(kw_only=True)
class RowReport:
    """What came of one row. `absent` says why a target has no runs, or no more: it is missing here, or it failed."""

    name: str
    title: str
    parameters: Mapping[str, object]
    table: Sequence[str]
    """The figures of its table."""
    subjects: Sequence[str]
    targets: Mapping[str, Mapping[str, Spread]]
    """Median and spread of every figure."""
    ratios: Mapping[str, Mapping[str, Mapping[str, Spread]]]
    """By subject and peer, figure by figure: the subject's divided by the peer's."""
    goals: Sequence[GoalVerdict]
    absent: Mapping[str, str]
    runs: Sequence[Run]

    @property
    def faults(self) -> Mapping[str, Faults]:
        """Of the targets that had any."""
        found: dict[str, Faults] = {}
        for run in self.runs:
            if run.outcome.faults.total:
                found[run.target] = found.get(run.target, Faults()) + run.outcome.faults
        return found

    @property
    def subject_failed(self) -> bool:
        return any(subject not in self.targets or subject in self.absent for subject in self.subjects)

    @property
    def subject_faulty(self) -> bool:
        return any(subject in self.faults for subject in self.subjects)


@attrs.frozen(kw_only=True)
class Document:
    """Everything; `started` is in UTC."""

    started: str
    machine: Mapping[str, str | float]
    seconds: float
    rows: Sequence[RowReport]


def report_row(row: Row, runs: Sequence[Run], absent: Mapping[str, str]) -> RowReport:
    """The first of the row's subjects is compared with the other ones, too."""
    by_target: dict[str, list[Run]] = {}
    for run in runs:
        by_target.setdefault(run.target, []).append(run)
    subjects = [contestant.label for contestant in row.subjects]
    targets = {target: _spreads(of_target) for target, of_target in by_target.items()}
    ratios = {
        subject: {
            peer: compare(by_target[subject], by_target[peer])
            for peer in by_target
            if peer != subject and (peer not in subjects or subject == subjects[0])
        }
        for subject in subjects
        if subject in by_target
    }
    return RowReport(
        name=row.name,
        title=row.title,
        parameters=parameters(row),
        table=row.figures,
        subjects=subjects,
        targets=targets,
        ratios=ratios,
        goals=[_judge(goal, targets, ratios) for goal in row.goals],
        absent=absent,
        runs=runs,
    )


def parameters(row: Row) -> dict[str, object]:
    """What was done, as numbers and words."""
    scenario = row.scenario
    fields = attrs.fields_dict(type(scenario))
    shown = {name: getattr(scenario, name) for name in fields if name not in ("feed", "path", "channel")}
    return {"scenario": type(scenario).__name__.lower(), **shown, "rounds": row.repeat}


def compare(ours: Sequence[Run], theirs: Sequence[Run]) -> dict[str, Spread]:
    """Ours divided by theirs for every figure that both have in the same round, and theirs is not nothing."""
    by_round = {run.round: run.outcome.values for run in theirs}
    pairs: dict[str, list[tuple[float, float]]] = {}
    for run in ours:
        for name, value in run.outcome.values.items():
            their = by_round.get(run.round, {}).get(name)
            if their is not None and their > 0:
                pairs.setdefault(name, []).append((value, their))
    return {name: paired_ratio(*zip(*found, strict=True)) for name, found in pairs.items()}


def _judge(
    goal: Goal,
    targets: Mapping[str, Mapping[str, Spread]],
    ratios: Mapping[str, Mapping[str, Mapping[str, Spread]]],
) -> GoalVerdict:
    return judge(goal, targets, ratios.get(goal.target, {}))


def _spreads(runs: Sequence[Run]) -> dict[str, Spread]:
    """Of every figure that all of the runs have."""
    first, *others = (run.outcome.values for run in runs)
    names = [name for name in first if all(name in values for values in others)]
    return {name: spread([run.outcome.values[name] for run in runs]) for name in names}
