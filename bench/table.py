"""The document as a page of Markdown: a table for each row, its goals, and what is to be known about them. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bench.figures import FIGURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.goals import GoalVerdict
    from bench.report import Document, RowReport
    from bench.stats import Spread


def render_document(document: Document) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in document.machine.items())
    verdicts = [verdict for row in document.rows for verdict in row.goals]
    parts = [f"{document.started}, {document.seconds / 60:.0f} min; {machine}.\n"]
    if verdicts:
        parts.append(_summary(verdicts))
    parts += [render_row(row) for row in document.rows]
    return "\n".join(parts)


def render_row(row: RowReport) -> str:
    """Medians, the outermost runs in brackets."""
    shown = [name for name in row.table if any(name in values for values in row.targets.values())]
    lines = [f"### {row.name}", "", f"{row.title} ({_parameters(row.parameters)})", ""]
    if shown:
        lines += _table(["", *(FIGURES[name].title for name in shown)], _lines(row, shown))
        lines.append("")
    if row.goals:
        lines += _table(["goal", "measured", ""], [[goal.goal, _value(goal), goal.word] for goal in row.goals])
        lines.append("")
    notes = [*_notes(row)]
    return "\n".join(lines + notes + ([""] if notes else []))


def _lines(row: RowReport, shown: Sequence[str]) -> Iterable[list[str]]:
    for target, values in row.targets.items():
        yield [target, *(_cell(name, values) for name in shown)]
    for subject, peers in row.ratios.items():
        for peer, ratios in peers.items():
            yield [f"{subject} ÷ {peer}", *(_bracketed(ratios[name]) if name in ratios else "" for name in shown)]


def _notes(row: RowReport) -> Iterable[str]:
    for target, why in row.absent.items():
        yield f"- {target} is missing: {' '.join(why.split())}"
    for target, faults in row.faults.items():
        yield f"- FAULTS of {target}: {faults.describe()}"
    doubts = Counter((run.target, mark.partition(":")[0]) for run in row.runs for mark in run.outcome.marks)
    for (target, doubt), count in doubts.items():
        total = sum(run.target == target for run in row.runs)
        yield f"- {target}: {count} of {total} runs marked {doubt}"


def _summary(verdicts: Sequence[GoalVerdict]) -> str:
    counts = Counter(verdict.word for verdict in verdicts)
    return "Goals: " + ", ".join(f"{counts[word]} {word}" for word in ("met", "NOT met", "not measured")) + ".\n"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines)]


def _cell(name: str, values: Mapping[str, Spread]) -> str:
    if name not in values:
        return ""
    figure, value = FIGURES[name], values[name]
    if value.min == value.max:
        return figure.text(value.median)
    return f"{figure.text(value.median)} [{figure.text(value.min)} {figure.text(value.max)}]"


def _bracketed(ratio: Spread) -> str:
    if ratio.min == ratio.max:
        return f"{ratio.median:.2f}"
    return f"{ratio.median:.2f} [{ratio.min:.2f} {ratio.max:.2f}]"


def _value(verdict: GoalVerdict) -> str:
    return "" if verdict.value is None else f"{verdict.value:,.2f}"


def _parameters(parameters: Mapping[str, object]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in parameters.items()
    )
