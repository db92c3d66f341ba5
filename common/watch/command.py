"""The command `watch` of a daemon that serves WebSockets: its arguments, and the run of it."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TextIO

import attrs

from common.cli import Command
from common.watch.client import Show, run_watch

if TYPE_CHECKING:
    import argparse
    from contextlib import AbstractContextManager

USAGE_ERROR: Final = 2


class OpenView(Protocol):
    """Opens the view that fits `out`; what concerns only the connection goes to `err`."""

    def __call__(self, out: TextIO, err: TextIO) -> AbstractContextManager[Show]:
        """The view, closed with the block."""


@attrs.frozen(kw_only=True)
class Watching:
    """What is a daemon's own about `watch`."""

    daemon: str
    port: int
    """Where it serves unless told otherwise."""
    path: str
    """What is watched, as the usage names it."""
    example: str
    lossy: bool
    """As `common.watch.client.watch` has it."""


def watch_command(watching: Watching, text: str, open_view: OpenView) -> Command:
    """The command, with `text` as its help."""
    return Command("watch", text, partial(_add_arguments, watching), partial(_run, watching, open_view))


def _add_arguments(watching: Watching, parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url",
        nargs="?",
        default=f"ws://localhost:{watching.port}",
        metavar="URL",
        help=f"where {watching.daemon} is [%(default)s]",
    )
    parser.add_argument("path", metavar=watching.path, help=f"what to watch, for example {watching.example}")
    parser.add_argument("--seconds", type=float, metavar="N", help="end after N seconds [never]")


def _run(watching: Watching, open_view: OpenView, options: argparse.Namespace) -> int:
    try:
        with open_view(sys.stdout, sys.stderr) as view:
            return run_watch(options.url, options.path, view, lossy=watching.lossy, seconds=options.seconds)
    except ValueError as error:
        sys.stderr.write(f"{watching.daemon} watch: {error}\n")
        return USAGE_ERROR
