"""`python -m bench`: progress on standard error, the tables on standard output, and all of it in files.

Exit status: 0; 1 when clients of a daemon did not get what they must, or a connection ended; 2 when a daemon has no
result in some row; 130 when interrupted.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from bench import cluster_runs, failover
from bench.options import estimate, parse_options
from bench.runner import run
from bench.store import store
from bench.table import render_document
from common.early import open_standard_streams
from common.embedded import EmbeddedRedisError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bench.report import Document
    from bench.rows import Row

OK: Final = 0
FAULTS: Final = 1
NO_RESULT: Final = 2
INTERRUPTED: Final = 130

PLAYS: Final[Mapping[str, Callable[[Sequence[str]], NoReturn]]] = {
    "cluster-many-runs": cluster_runs.main,
    "failover": failover.main,
}
"""Rows that are about Redis and not about the peers: each with options and a table of its own, when it is asked for."""


def main() -> NoReturn:
    open_standard_streams()
    if sys.argv[1:2] and (play := PLAYS.get(sys.argv[1])) is not None:
        play(sys.argv[2:])
    options = parse_options(sys.argv[1:])
    if options.list:
        _list(options.rows)
        sys.exit(OK)
    if options.left_out:
        _say(f"left out, to take less than a minute: {', '.join(options.left_out)}")
    status = NO_RESULT
    try:
        document = trio.run(run, options.rows, _say, partial(_keep, options.output))
    except* EmbeddedRedisError as group:
        _say(f"no result: {'; '.join(str(error) for error in group.exceptions)}")
    except* KeyboardInterrupt:
        status = INTERRUPTED
    else:
        print(render_document(document))
        for path in store(document, options.output, latest=options.whole):
            _say(f"wrote {path}")
        status = exit_status(document)
    sys.exit(status)


def exit_status(document: Document) -> int:
    """Of the daemons alone: what peers don't manage is a result."""
    if any(row.subject_faulty for row in document.rows):
        return FAULTS
    return NO_RESULT if any(row.subject_failed for row in document.rows) else OK


def _keep(output: Path, document: Document) -> None:
    store(document, output, latest=False)


def _list(rows: Sequence[Row]) -> None:
    for row in rows:
        targets = ", ".join(contestant.label for contestant in row.contestants)
        print(f"{row.name:<16} {row.title}; {row.repeat} × {targets}: about {estimate(row) / 60:.1f} min")
    print(f"{'':<16} about {sum(map(estimate, rows)) / 60:.0f} min in all")
    for name in PLAYS:
        print(f"{name:<17} about Redis, not about the peers: when it is asked for alone")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
