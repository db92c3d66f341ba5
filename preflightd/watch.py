"""`preflightd watch`: a run's checklist in the terminal, as a browser would get it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TextIO

from common.daemons import PREFLIGHT
from common.watch.command import Plan, Watching, watch_command
from common.watch.view import open_view
from preflightd.route import RUN_ID
from preflightd.view import PlainPreflightView

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from common.watch.view import ClosingView, View


def open_preflight_view(out: TextIO, err: TextIO) -> AbstractContextManager[View]:
    """The view that fits `out`: a live table on a terminal where rich is installed, plain lines elsewhere.

    Leaving the block gives a terminal back with the last table on it.
    """
    return open_view(out, err, PlainPreflightView, _terminal_view)


def _terminal_view(out: TextIO) -> ClosingView:
    # rich is an extra, and slow to import.
    from preflightd.terminal import TerminalPreflightView  # noqa: PLC0415

    return TerminalPreflightView(out)


WATCH: Final = watch_command(
    # Not lossy: the first frame after an absence says all there is to know.
    Watching(
        daemon=PREFLIGHT.name,
        port=PREFLIGHT.port,
        path="RUNID",
        example="accustomed-pewter",
        lossy=False,
        check=RUN_ID.check,
        plan=lambda _options: Plan(open_view=open_preflight_view),
    ),
    "show a run's checklist in the terminal as it changes, reconnecting as needed; Ctrl-C ends it",
)
