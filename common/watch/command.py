"""The command `watch` of a daemon that serves WebSockets: its arguments, and the run of it."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Protocol, TextIO

import attrs

from common.cli import Command
from common.exits import Exit
from common.watch.address import where_and_what
from common.watch.show import Codes, Show

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from contextlib import AbstractContextManager


class OpenView(Protocol):
    """Opens the view that fits `out`; what concerns only the connection goes to `err`."""

    def __call__(self, out: TextIO, err: TextIO) -> AbstractContextManager[Show]:
        """The view, closed with the block."""


@attrs.frozen(kw_only=True)
class Plan:
    """One watch, as its options have it."""

    open_view: OpenView
    codes: Codes = attrs.field(factory=Codes)
    seconds: float | None = None
    """When it ends by itself; None is never, or when `--seconds` says."""


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
    check: Callable[[str], object]
    """Raises ValueError, with one line, for a path that names nothing there."""
    plan: Callable[[argparse.Namespace], Plan]
    """What the options come to. Raises ValueError with one line."""
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda _parser: None
    """The options that this daemon alone has."""


def watch_command(watching: Watching, text: str) -> Command:
    """The command, with `text` as its help."""
    return Command("watch", text, partial(_add_arguments, watching), partial(_run, watching))


def _add_arguments(watching: Watching, parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", nargs="?", metavar="URL", help=f"where {watching.daemon} is [{_default(watching)}]")
    parser.add_argument("path", metavar=watching.path, help=f"what to watch, for example {watching.example}")
    parser.add_argument("--seconds", type=float, metavar="N", help="end after N seconds [never]")
    watching.add_arguments(parser)


def _default(watching: Watching) -> str:
    return f"ws://localhost:{watching.port}"


def _run(watching: Watching, options: argparse.Namespace) -> int:
    # Not at the start of every daemon, which has this command and serves.
    from common.watch.client import run_watch  # noqa: PLC0415

    try:
        url, path = where_and_what(options.url, options.path, _default(watching), watching.path)
        watching.check(path)
        plan = watching.plan(options)
        seconds = options.seconds if plan.seconds is None else plan.seconds
        with plan.open_view(sys.stdout, sys.stderr) as view:
            return run_watch(url, path, view, lossy=watching.lossy, seconds=seconds, codes=plan.codes)
    except ValueError as error:
        sys.stderr.write(f"{watching.daemon} watch: {error}\n")
        return Exit.BAD_INPUT
