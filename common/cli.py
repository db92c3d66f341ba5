"""A daemon's command line: serve, check, and what the daemon adds of its own.

`run` is a process from its arguments to its exit code (SPEC 6). Nothing of the network is touched before the
configuration is known to be good.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import attrs
import trio

from common.check import check
from common.collector import tune_collector
from common.config import ConfigError, Settings, load, rows
from common.daemon import BAD_CONFIGURATION, Daemon
from common.foreground import run_in_foreground
from common.healthcheck import add_healthcheck
from common.logs import open_logs
from common.process import serve_process
from common.version import version
from common.workers.worker import Inherited, add_worker_arguments, serve_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

S = TypeVar("S", bound=Settings)


@attrs.frozen
class Command:
    """A command of one daemon's own: `run` gets the parsed arguments and returns the exit code."""

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def run(
    daemon: Daemon[S],
    commands: Sequence[Command] = (),
    arguments: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> int:
    """Run `daemon` as `arguments` (the process's own unless given) say; return the exit code."""
    environ = os.environ if environ is None else environ
    options = _parser(daemon, commands).parse_args(arguments)
    match options.command:
        case None | "serve":
            return _serve(daemon, environ, options)
        case "check":
            return run_in_foreground(partial(_check, daemon, environ))
        case name:
            command = next(command for command in commands if command.name == name)
            return run_in_foreground(partial(command.run, options))


def _parser(daemon: Daemon[S], commands: Sequence[Command]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=daemon.name,
        description=f"{daemon.summary}\n\nWithout a command it serves. Environment variables configure it.",
        epilog=_variables(daemon),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{daemon.name} {version()}")
    add_healthcheck(parser, daemon.name)
    _add_embedded(parser, default=False)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    serving = subparsers.add_parser(
        "serve",
        help="serve until SIGTERM or Ctrl-C has drained the clients; a second signal ends at once (the default)",
    )
    # The option may stand before or after the command; a default here would undo the one before.
    _add_embedded(serving, default=argparse.SUPPRESS)
    parser.set_defaults(worker=None)
    add_worker_arguments(serving)
    subparsers.add_parser(
        "check", help="print the effective configuration, secrets masked, and try Redis; exit 0 if all is well"
    )
    for command in commands:
        command.add_arguments(
            subparsers.add_parser(
                command.name,
                help=command.help,
                description=command.help,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )
    return parser


def _add_embedded(parser: argparse.ArgumentParser, *, default: object) -> None:
    parser.add_argument(
        "--embedded-redis",
        action="store_true",
        default=default,
        help="serve with a private redis-server of its own and print the URL to publish to, for trying things out;"
        " EMBEDDED_REDIS says which program: bundled, system, or a path [on PATH, else bundled]",
    )


def _variables(daemon: Daemon[S]) -> str:
    lines = [f"  {row.variable:<36} {row.doc} [{row.default or 'unset'}]" for row in rows(daemon.settings)]
    return "\n".join(["environment variables [default]:", *lines])


def _serve(daemon: Daemon[S], environ: Mapping[str, str], options: argparse.Namespace) -> int:
    try:
        loaded = load(daemon.settings, environ)
    except ConfigError as error:
        with open_logs("info", daemon.name) as log:
            log.error("bad configuration", error=str(error))
        return BAD_CONFIGURATION
    with open_logs(loaded.settings.log_level, daemon.name) as log:
        tune_collector()
        if (inherited := Inherited.parsed(options)) is not None:
            return trio.run(serve_worker, daemon, loaded.settings, inherited, log)
        for warning in loaded.warnings:
            log.warning("configuration", warning=warning)
        return serve_process(daemon, loaded.settings, environ, log, embedded=options.embedded_redis)


def _check(daemon: Daemon[S], environ: Mapping[str, str]) -> int:
    try:
        loaded = load(daemon.settings, environ)
    except ConfigError as error:
        sys.stderr.write(f"{daemon.name}: {error}\n")
        return BAD_CONFIGURATION
    return trio.run(check, daemon.name, loaded.settings, loaded.warnings, sys.stdout, daemon.check, daemon.probe)
