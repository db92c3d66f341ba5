"""`python -m tools.covered REPORT`: the coverage of each package as a table, and whether it is enough.

REPORT is what `coverage json` has written. Branches and lines are counted each for itself: the one figure that
coverage.py makes of both lets many lines hide a branch that no test takes. Where GitHub collects a page for the run,
the table is put there too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SUMMARY: Final = "GITHUB_STEP_SUMMARY"
"""The variable that names the file of the run's page."""

_WORST: Final = 10
"""So many files are named where it is not enough."""


@attrs.frozen
class Covered:
    """What there is of something, and how much of it was run."""

    branches: int = 0
    branches_taken: int = 0
    lines: int = 0
    lines_run: int = 0

    def __add__(self, other: Covered) -> Covered:
        """Both together."""
        ours, theirs = attrs.astuple(self), attrs.astuple(other)
        return Covered(*(a + b for a, b in zip(ours, theirs, strict=True)))

    @property
    def of_branches(self) -> float:
        """Percent of the branches."""
        return _percent(self.branches_taken, self.branches)

    @property
    def of_lines(self) -> float:
        """Percent of the lines."""
        return _percent(self.lines_run, self.lines)

    @property
    def missing(self) -> int:
        """Branches and lines that nothing ran."""
        return self.branches - self.branches_taken + self.lines - self.lines_run

    def reaches(self, floor: float) -> bool:
        """Whether branches and lines, each for itself, are at `floor` percent at least."""
        return self.of_branches >= floor and self.of_lines >= floor


def read(report: Mapping[str, Any]) -> dict[str, Covered]:
    """Each file's figures, by its path. Raises KeyError for a report without branches."""
    return {
        path: Covered(
            summary["num_branches"], summary["covered_branches"], summary["num_statements"], summary["covered_lines"]
        )
        for path, summary in ((path, file["summary"]) for path, file in report["files"].items())
    }


def by_package(files: Mapping[str, Covered]) -> dict[str, Covered]:
    """The figures of each top-level package, in the order of their names."""
    packages: dict[str, Covered] = defaultdict(Covered)
    for path in sorted(files):
        packages[PurePosixPath(path).parts[0]] += files[path]
    return packages


def table(packages: Mapping[str, Covered]) -> str:
    """One row for each package and one for all, in Markdown that reads well in a terminal."""
    rows = [_row(name, covered) for name, covered in packages.items()]
    rows.append(_row("all", _total(packages.values())))
    head = f"| {'package':<12} | branches | taken    | lines  | run      |"
    return "\n".join((head, "|:-------------|---------:|---------:|-------:|---------:|", *rows))


def below(packages: Mapping[str, Covered], floor: float) -> list[str]:
    """The packages that do not reach the floor."""
    return [name for name, covered in packages.items() if not covered.reaches(floor)]


def worst(files: Mapping[str, Covered]) -> list[str]:
    """The files in which most is missing, most first."""
    ranked = sorted(files, key=lambda path: (-files[path].missing, path))
    return [f"{path}: {files[path].missing} lines and branches" for path in ranked[:_WORST] if files[path].missing]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 where a package is below the floor, or nothing was measured."""
    parser = argparse.ArgumentParser(prog="python -m tools.covered", description=sys.modules[__name__].__doc__)
    parser.add_argument("report", type=Path, metavar="REPORT")
    parser.add_argument("--floor", type=float, default=97.0, metavar="PERCENT")
    options = parser.parse_args(arguments)
    files = read(json.loads(options.report.read_text("utf-8")))
    packages = by_package(files)
    print(table(packages))
    if SUMMARY in os.environ:
        with Path(os.environ[SUMMARY]).open("a", encoding="utf-8") as page:
            page.write(f"{table(packages)}\n\n")
    if not _total(packages.values()).lines:
        print("nothing was measured", file=sys.stderr)
        return 1
    if names := below(packages, options.floor):
        print(f"below {options.floor:g} %: {', '.join(names)}", *worst(files), sep="\n", file=sys.stderr)
        print(f"{sys.executable} -m coverage report names the lines", file=sys.stderr)
        return 1
    return 0


def _total(packages: Iterable[Covered]) -> Covered:
    return sum(packages, Covered())


def _row(name: str, covered: Covered) -> str:
    return (
        f"| {name:<12} | {covered.branches:>8} | {_shown(covered.of_branches):>6} % "
        f"| {covered.lines:>6} | {_shown(covered.of_lines):>6} % |"
    )


def _shown(percent: float) -> str:
    """Rounded down: what looks like the floor reaches it."""
    return f"{math.floor(percent * 100) / 100:.2f}"


def _percent(part: int, whole: int) -> float:
    """Of nothing all is there."""
    return 100 * part / whole if whole else 100.0


if __name__ == "__main__":
    sys.exit(main())
