"""The command line of `python -m bench`: from arguments to rows as they are to be run. Pure."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from bench.rows import LIMIT, QUICK_PEERS, ROWS, Contestant
from bench.schedule import make_schedule
from bench.targets import FANOUT_TARGETS, PREFLIGHT_TARGETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.rows import Row

RESULTS: Final = Path(__file__).parent / "results"

QUICK: Final = 55.0
"""Seconds, as estimated, that a row which was asked for by itself may take."""
_QUICK_SECONDS: Final = 5.0
_QUICK_PING_SECONDS: Final = 8.0
"""Where pings are watched: one interval, and then some."""
_KEPT: Final = (*QUICK_PEERS, *PREFLIGHT_TARGETS)
"""Who stays in a row that is shortened, if there is time."""
_QUICK_SHAPES: Final = ((2, _KEPT), (1, _KEPT), (1, (LIMIT,)), (1, ()))

_TARGETS: Final = (*FANOUT_TARGETS, *PREFLIGHT_TARGETS)


@attrs.frozen(kw_only=True)
class Options:
    """`whole` is a run of everything as it is meant to be. `left_out` says what was shortened."""

    rows: Sequence[Row]
    output: Path
    whole: bool
    list: bool
    left_out: Sequence[str] = ()


def parse_options(arguments: Sequence[str]) -> Options:
    """Exits with status 2 and a line on standard error when they make no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="What the daemons cost and how fast they are, beside honest peers; see bench/README.md.",
        epilog="A row that is named alone is shortened to less than a minute, unless the options say otherwise.",
    )
    add = parser.add_argument
    add("rows", nargs="*", metavar="ROW", help="what to measure: " + ", ".join(ROWS) + " (all)")
    add(
        "--against",
        action="append",
        metavar="PEER",
        choices=(*_TARGETS, "none"),
        help=f"again for several: {', '.join(_TARGETS)} or none (the row's)",
    )
    add("--subject", choices=_TARGETS, help="measure this one instead of the daemon")
    add("--repeat", type=int, help="rounds, in each of which every target runs (the row's)")
    add("--seconds", type=float, help="measured in each run (the row's)")
    add("--clients", type=int, help="at the same time (the row's)")
    add("--output", type=Path, default=RESULTS, help="the directory of the results (bench/results)")
    add("--list", action="store_true", help="say what there is, and do nothing")
    given = parser.parse_args(arguments)
    _check(parser, given)
    changed = any(
        value is not None for value in (given.against, given.subject, given.repeat, given.seconds, given.clients)
    )
    rows = [_changed(ROWS[name], given) for name in given.rows or ROWS]
    left_out: list[str] = []
    if len(given.rows) == 1:
        rows, left_out = _shortened(rows[0], given)
    return Options(
        rows=rows,
        output=given.output,
        whole=not given.rows and not changed,
        list=given.list,
        left_out=left_out,
    )


def _check(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    if unknown := [name for name in given.rows if name not in ROWS]:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if len(set(given.rows)) != len(given.rows):
        parser.error("a row is named twice")
    against = given.against or []
    rows = [ROWS[name] for name in given.rows or ROWS]
    if len(set(against)) != len(against) or any(_subject(row, given) in against for row in rows):
        parser.error("a target can't be compared with itself, or twice with another")
    if any(value is not None and value <= 0 for value in (given.repeat, given.seconds, given.clients)):
        parser.error("repeat, seconds and clients must be positive")
    asked = {given.subject, *against} - {None, "none"}
    for row in rows if given.rows else ():
        if unable := sorted(asked - set(row.targets)):
            parser.error(f"{row.name} can't be done by {', '.join(unable)}, but by {', '.join(row.targets)}")


def _subject(row: Row, given: argparse.Namespace) -> str:
    """Who is compared with the others."""
    return given.subject if given.subject in row.targets else row.subjects[0].target.name


def _changed(row: Row, given: argparse.Namespace) -> Row:
    """As the options say; a row in which none of those who are asked for can take part keeps its own."""
    row = row.with_scenario(clients=given.clients, seconds=given.seconds)
    if given.clients is not None:
        row = attrs.evolve(row, goals=())  # they are set for the row's own number
    if given.repeat is not None:
        row = attrs.evolve(row, repeat=given.repeat)
    if given.subject in row.targets:
        peers = [name for name in row.peers if name != given.subject]
        row = attrs.evolve(row, subjects=(Contestant(given.subject, row.targets[given.subject]),), peers=peers)
    against = given.against or []
    able = [name for name in against if name in row.targets]
    if able or "none" in against:
        row = attrs.evolve(row, peers=able)
    return row


def _shortened(row: Row, given: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """The row in less than a minute, as far as the options leave that open, and what is left out for it."""
    short = row
    if given.seconds is None and row.paced:
        enough = _QUICK_PING_SECONDS if "pause_ms" in row.figures else _QUICK_SECONDS
        short = row.with_scenario(seconds=min(row.scenario.seconds, enough))
    for repeat, peers in _QUICK_SHAPES:
        kept = row.peers if given.against is not None else [name for name in row.peers if name in peers]
        short = attrs.evolve(short, repeat=given.repeat or min(row.repeat, repeat), peers=kept)
        if estimate(short) <= QUICK:
            break
    left_out = [name for name in row.peers if name not in short.peers]
    if short.repeat < row.repeat:
        left_out.append(f"{row.repeat - short.repeat} of {row.repeat} rounds")
    if short.scenario.seconds < row.scenario.seconds:
        left_out.append(f"{row.scenario.seconds - short.scenario.seconds:g} of {row.scenario.seconds:g} s a run")
    return [short], left_out


def estimate(row: Row) -> float:
    """Seconds, roughly."""
    return make_schedule([row], [row.contestants]).remaining()
