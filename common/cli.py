"""The command line that every daemon has: serve, check, and what it adds of its own.

`run` is a process from its arguments to its exit code (SPEC 6). Nothing of the network is touched before the
configuration is known to be good.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Generic, TextIO, TypeVar

import attrs
import trio

from common.check import write_configuration
from common.collector import tune_collector
from common.config import ConfigError, DaemonSettings, load, rows
from common.exits import WORDS, Exit
from common.foreground import run_in_foreground
from common.healthcheck import add_healthcheck
from common.logs import open_logs
from common.start import Start, StartError
from common.version import version

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

S = TypeVar("S", bound=DaemonSettings)


@attrs.frozen
class Command:
    """A command of one daemon's own: `run` gets the parsed arguments and returns the exit code."""

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


@attrs.frozen(kw_only=True)
class Program(Generic[S]):
    """What makes one daemon different from another on the command line."""

    name: str
    summary: str
    """One sentence."""
    settings: type[S]
    serve: Callable[[Start[S]], int]
    """Serves until told to end; returns the exit code. Raises StartError."""
    serve_help: str
    check: Callable[[S, TextIO], Awaitable[int]]
    """Tries what serving needs, prints what it finds and returns the exit code."""
    check_help: str
    """What `check` tries."""
    commands: Sequence[Command] = ()
    add_serve_arguments: Callable[[argparse.ArgumentParser, argparse.ArgumentParser], None] = lambda _all, _serve: None
    """Adds the options of serving to the parser of the whole line, and to that of `serve`."""
    objection: Callable[[argparse.Namespace], str | None] = lambda _options: None
    """What is wrong with the parsed arguments, in a line; None of good ones."""
    exit_codes: Mapping[Exit, str] = WORDS
    """What each exit code of serving says."""


def run(program: Program[S], arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run `program` as `arguments` (the process's own unless given) say; return the exit code."""
    environ = os.environ if environ is None else environ
    parser = build_parser(program)
    options = parser.parse_args(arguments)
    objection = program.objection(options)
    if objection is not None:
        parser.error(objection)
    match options.command:
        case None | "serve":
            return _serve(program, environ, options)
        case "check":
            return run_in_foreground(partial(_check, program, environ))
        case name:
            command = next(command for command in program.commands if command.name == name)
            return run_in_foreground(partial(command.run, options))


def build_parser(program: Program[S]) -> argparse.ArgumentParser:
    """What reads the command line; its man page and its shells' completion are made from it, too."""
    parser = argparse.ArgumentParser(
        prog=program.name,
        description=f"{program.summary}\n\nWithout a command it serves. Environment variables configure it.",
        epilog=f"{_variables(program)}\n\n{_exit_codes(program)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{program.name} {version()}")
    add_healthcheck(parser, program.name)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    serving = subparsers.add_parser("serve", help=f"{program.serve_help}; a second signal ends at once (the default)")
    program.add_serve_arguments(parser, serving)
    subparsers.add_parser(
        "check",
        help=f"print the effective configuration, secrets masked, and try {program.check_help}; exit 0 if all is well",
    )
    for command in program.commands:
        command.add_arguments(
            subparsers.add_parser(
                command.name,
                help=command.help,
                description=command.help,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )
    return parser


def _variables(program: Program[S]) -> str:
    lines = [f"  {row.variable:<36} {row.doc} [{row.default or 'unset'}]" for row in rows(program.settings)]
    return "\n".join(["environment variables [default]:", *lines])


def _exit_codes(program: Program[S]) -> str:
    lines = [f"  {code:<36d} {words}" for code, words in program.exit_codes.items()]
    return "\n".join(["exit codes of serving:", *lines])


def _serve(program: Program[S], environ: Mapping[str, str], options: argparse.Namespace) -> int:
    try:
        loaded = load(program.settings, environ)
    except ConfigError as error:
        with open_logs("info", program.name) as log:
            log.error("bad configuration", error=str(error))
        return Exit.BAD_CONFIGURATION
    with open_logs(loaded.settings.log_level, program.name) as log:
        tune_collector()
        start = Start(settings=loaded.settings, warnings=loaded.warnings, environ=environ, options=options, log=log)
        try:
            return program.serve(start)
        except StartError as error:
            log.error(str(error), **error.fields)
            return Exit.BAD_CONFIGURATION


def _check(program: Program[S], environ: Mapping[str, str]) -> int:
    try:
        loaded = load(program.settings, environ)
    except ConfigError as error:
        sys.stderr.write(f"{program.name}: {error}\n")
        return Exit.BAD_CONFIGURATION
    write_configuration(loaded.settings, loaded.warnings, sys.stdout)
    return trio.run(program.check, loaded.settings, sys.stdout)
