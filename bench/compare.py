"""`python -m bench.compare LAST [THIS]`: whether the daemons are as good beside their peers as they were last night.

Both are documents of the bench, THIS `bench/results/latest.json` unless given; `bench.nights` says what is worse. Where
there is no LAST it is the first night, and nothing is held against it. The page goes to standard output, in Markdown.
Exit status: 0; 1 when a ratio is worse by 20 %, or is not measured any more; 2 when a document can't be read.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.nights import WORSE, Change, NotComparableError, Trend, compare, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.nights import Measured, RatioKey

OK: Final = 0
FAILED: Final = 1
UNREAD: Final = 2

THIS: Final = Path(__file__).parent / "results" / "latest.json"

_ORDER: Final = (
    Trend.WORSE, Trend.SILENT, Trend.NOISE, Trend.OTHER, Trend.NOTHING, Trend.BETTER, Trend.FINE,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print the page, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description="hold two nights against each other")
    parser.add_argument("last", type=Path, metavar="LAST", help="the document that was good; none is a first night")
    parser.add_argument("this", type=Path, nargs="?", default=THIS, metavar="THIS", help="the new one [latest.json]")
    options = parser.parse_args(arguments)
    try:
        this = _load(options.this)
        if not options.last.exists():
            print(f"The first night: no {options.last} to compare with; from now on {len(this)} ratios are.")
            return OK
        changes = compare(_load(options.last), this)
    except (OSError, ValueError) as error:
        print(f"not compared: {error}", file=sys.stderr)
        return UNREAD
    print(render(changes))
    return FAILED if any(change.trend.fails for change in changes) else OK


def render(changes: Sequence[Change]) -> str:
    """The page: what is worse on top, and everything that was compared."""
    counts = Counter(change.trend for change in changes)
    summary = ", ".join(f"{counts[trend]} {trend.value}" for trend in _ORDER if counts[trend])
    lines = [
        "### The daemons beside their peers, last night and tonight",
        "",
        f"{len(changes)} ratios: {summary}. Worse is {WORSE:.0%} and more, beside every peer, in all rounds.",
        "",
        "| row | daemon | figure | beside | last | tonight | times as bad | |",
        "|---|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(_cells(change))} |" for change in sorted(changes, key=_rank)),
    ]
    return "\n".join(lines)


def _cells(change: Change) -> Iterator[str]:
    yield from (change.key.row, change.key.subject, change.key.figure, change.peer)
    for number in (change.last, change.this):
        yield "" if number is None else f"{number:.4g}"
    yield "" if change.factor is None else f"{change.factor:.2f}"
    yield change.trend.value


def _rank(change: Change) -> tuple[int, float, RatioKey]:
    return _ORDER.index(change.trend), -(change.factor or 0.0), change.key


def _load(path: Path) -> dict[RatioKey, Measured]:
    """Raises OSError, and ValueError with the path in it."""
    try:
        return read(json.loads(path.read_text("utf-8")))
    except ValueError as error:
        raise NotComparableError(f"{path}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
