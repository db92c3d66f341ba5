"""Promises, and what a run has to say of each. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence


@attrs.frozen
class Verdict:
    """One promise: the figure that shows it, and the findings against it."""

    promise: str
    figure: str
    findings: tuple[str, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether there is nothing against it."""
        return not self.findings


SHOWN = 8
"""Findings that are printed of each."""


def render(verdicts: Sequence[Verdict]) -> str:
    """One line for each promise, and the findings below it."""
    lines: list[str] = []
    for verdict in verdicts:
        lines.append(f"{'kept  ' if verdict.kept else 'BROKEN'}  {verdict.promise}: {verdict.figure}")
        lines += [f"          {finding}" for finding in verdict.findings[:SHOWN]]
        if len(verdict.findings) > SHOWN:
            lines.append(f"          and {len(verdict.findings) - SHOWN} more")
    return "\n".join(lines)
