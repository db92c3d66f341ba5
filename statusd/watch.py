"""`statusd watch`: a run's status lines in the terminal, as a browser would get them, or for a script that waits."""

from __future__ import annotations

import re
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Final, TextIO

from common.config.values import parse_positive_duration
from common.daemons import STATUS
from common.watch.command import Plan, Watching, watch_command
from common.watch.show import Codes, Show
from common.watch.view import open_view
from common.web.path import Target
from statusd.route import route
from statusd.until import UntilOutcome, UntilShow
from statusd.view import JsonStatusView, PlainStatusView

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from common.watch.command import OpenView
    from common.watch.view import ClosingView, View

_WORD: Final = re.compile(r"[A-Za-z0-9_.:-]+")


def open_status_view(out: TextIO, err: TextIO) -> AbstractContextManager[View]:
    """The view that fits `out`: colours and a bar on a terminal where rich is installed, plain lines elsewhere.

    Leaving the block gives a terminal back as it was found.
    """
    return open_view(out, err, PlainStatusView, _terminal_view)


def open_json_view(out: TextIO, err: TextIO) -> AbstractContextManager[View]:
    """JSON objects, whatever `out` is."""
    return nullcontext(JsonStatusView(out, err))


def _terminal_view(out: TextIO) -> ClosingView:
    # rich is an extra, and slow to import.
    from statusd.terminal import TerminalStatusView  # noqa: PLC0415

    return TerminalStatusView(out)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="a JSON object a message, with its time, for programs")
    parser.add_argument(
        "--until",
        metavar="WORD",
        help="end when a job says so: COMPLETED, or the event of a TRIGGER; exit code 0, 1 for its EXCEPTION, "
        "3 for a hangup, 124 when --timeout is over, 2 for a refusal",
    )
    parser.add_argument("--job", metavar="ID", help="the job that --until waits for [the first that starts]")
    parser.add_argument(
        "--timeout", metavar="DURATION", help="how long --until waits, for example 90s or 1h [for ever]"
    )


def _plan(options: argparse.Namespace) -> Plan:
    open_view = open_json_view if options.json else open_status_view
    if options.until is None:
        for name in ("job", "timeout"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name} needs --until")
        return Plan(open_view=open_view)
    if not _WORD.fullmatch(options.until):
        raise ValueError("--until takes one word: COMPLETED, or the event of a TRIGGER")
    job = None if options.job is None else options.job.removeprefix("rq:")
    if job is not None and not job:
        raise ValueError("--job is empty")
    seconds = None
    if options.timeout is not None:
        try:
            seconds = parse_positive_duration(options.timeout)
        except ValueError as reason:
            raise ValueError(f"--timeout: {reason}") from None
    return Plan(
        open_view=_until(open_view, options.until, job),
        codes=Codes(refused=UntilOutcome.REFUSED, hung_up=UntilOutcome.HUNG_UP, time_up=UntilOutcome.TIME_UP),
        seconds=seconds,
    )


def _until(open_view: OpenView, word: str, job: str | None) -> OpenView:
    @contextmanager
    def opened(out: TextIO, err: TextIO) -> Iterator[Show]:
        with open_view(out, err) as view:
            yield UntilShow(view, word, job)

    return opened


WATCH: Final = watch_command(
    Watching(
        daemon=STATUS.name,
        port=STATUS.port,
        path="RUNID:CHANNEL",
        example="accustomed-pewter:wepp",
        lossy=True,
        check=lambda path: route(Target(f"/{path}", {})),
        plan=_plan,
        add_arguments=_add_arguments,
    ),
    "show a run's status messages in the terminal as they come, reconnecting as needed; Ctrl-C ends it",
)
