"""Promises, and what a run has to say of each: `render` writes it, `parse` reads it again. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence


SEPARATOR: Final = ": "
"""Between a promise, in which it does not occur, and its figure."""
SHOWN: Final = 8
"""Findings that are printed of each."""

_KEPT: Final = "kept    "
_BROKEN: Final = "BROKEN  "
_INDENT: Final = " " * 10


def _one_part(_verdict: object, _field: object, promise: str) -> None:
    if SEPARATOR in promise:
        raise ValueError(f"a promise can't be told from its figure: {promise!r}")


@attrs.frozen
class Verdict:
    """One promise: the figure that shows it, and the findings against it."""

    promise: str = attrs.field(validator=_one_part)
    figure: str
    findings: tuple[str, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether there is nothing against it."""
        return not self.findings


def render(verdicts: Sequence[Verdict]) -> str:
    """One line for each promise, and the findings below it."""
    lines: list[str] = []
    for verdict in verdicts:
        lines.append(f"{_KEPT if verdict.kept else _BROKEN}{verdict.promise}{SEPARATOR}{verdict.figure}")
        lines += [f"{_INDENT}{finding}" for finding in verdict.findings[:SHOWN]]
        if len(verdict.findings) > SHOWN:
            lines.append(f"{_INDENT}and {len(verdict.findings) - SHOWN} more")
    return "\n".join(lines)


def parse(text: str) -> list[Verdict]:
    """The verdicts among the lines that somebody printed, as `render` writes them; all else there is left out."""
    found: list[Verdict] = []
    for line in text.splitlines():
        if line.startswith((_KEPT, _BROKEN)):
            promise, _, figure = line[len(_KEPT) :].partition(SEPARATOR)
            found.append(Verdict(promise, figure))
        elif line.startswith(_INDENT) and found:
            last = found[-1]
            found[-1] = attrs.evolve(last, findings=(*last.findings, line.removeprefix(_INDENT)))
    return found
