"""opsd's command line: serve and check."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

import trio

from common.config import ConfigError, load, rows
from common.foreground import run_in_foreground
from common.healthcheck import add_healthcheck
from common.logs import open_logs
from common.version import version
from opsd.check import check
from opsd.process import BAD_CONFIGURATION, serve_process
from opsd.settings import OpsSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def run(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run as `arguments` (the process's own unless given) say; return the exit code."""
    environ = os.environ if environ is None else environ
    options = _parser().parse_args(arguments)
    if options.command == "check":
        return run_in_foreground(partial(_check, environ))
    return _serve(environ)


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {row.variable:<36} {row.doc} [{row.default or 'unset'}]" for row in rows(OpsSettings)]
    parser = argparse.ArgumentParser(
        prog="opsd",
        description="Shows operators the state of statusd, preflightd and their workers, live: a page and an API.\n\n"
        "Without a command it serves. Environment variables configure it.",
        epilog="\n".join(["environment variables [default]:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"opsd {version()}")
    add_healthcheck(parser, "opsd")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    subparsers.add_parser("serve", help="serve until SIGTERM or Ctrl-C; a second signal ends at once (the default)")
    subparsers.add_parser(
        "check", help="print the effective configuration, secrets masked, and try Redis, the sources and tmux"
    )
    return parser


def _serve(environ: Mapping[str, str]) -> int:
    try:
        loaded = load(OpsSettings, environ)
    except ConfigError as error:
        with open_logs("info", "opsd") as log:
            log.error("bad configuration", error=str(error))
        return BAD_CONFIGURATION
    with open_logs(loaded.settings.log_level, "opsd") as log:
        for warning in loaded.warnings:
            log.warning("configuration", warning=warning)
        return serve_process(loaded.settings, environ, log)


def _check(environ: Mapping[str, str]) -> int:
    try:
        loaded = load(OpsSettings, environ)
    except ConfigError as error:
        sys.stderr.write(f"opsd: {error}\n")
        return BAD_CONFIGURATION
    return trio.run(check, loaded.settings, loaded.warnings, sys.stdout)
