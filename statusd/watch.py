"""`statusd watch`: a run's status lines in the terminal, as a browser would get them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from common.cli import Command
from common.watch.client import run_watch
from statusd.view import open_status_view

if TYPE_CHECKING:
    import argparse

DEFAULT_URL: Final = "ws://localhost:9002"

_HELP: Final = "show a run's status messages in the terminal as they come, reconnecting as needed; Ctrl-C ends it"
USAGE_ERROR: Final = 2


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", nargs="?", default=DEFAULT_URL, metavar="URL", help="where statusd is [%(default)s]")
    parser.add_argument("path", metavar="RUNID:CHANNEL", help="what to watch, for example accustomed-pewter:wepp")
    parser.add_argument("--seconds", type=float, metavar="N", help="end after N seconds [never]")


def _run(options: argparse.Namespace) -> int:
    try:
        with open_status_view(sys.stdout, sys.stderr) as view:
            return run_watch(options.url, options.path, view, seconds=options.seconds)
    except ValueError as error:
        sys.stderr.write(f"statusd watch: {error}\n")
        return USAGE_ERROR


WATCH: Final = Command("watch", _HELP, _add_arguments, _run)
