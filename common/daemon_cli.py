"""The command line of a daemon that serves WebSockets: with workers, and with a private Redis if that is asked for."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from common.check import check
from common.cli import Program
from common.config import Settings
from common.process import serve_process
from common.start import tracing
from common.workers.inherited import Inherited, add_worker_arguments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.cli import Command
    from common.daemon import Daemon
    from common.start import Start

S = TypeVar("S", bound=Settings)


def program(daemon: Daemon[S], commands: Sequence[Command] = ()) -> Program[S]:
    """The program that serves `daemon`, with its own `commands`."""
    return Program(
        name=daemon.name,
        summary=daemon.summary,
        settings=daemon.settings,
        serve=partial(_serve, daemon),
        serve_help="serve until SIGTERM or Ctrl-C has drained the clients",
        check=partial(check, daemon),
        check_help="Redis",
        commands=commands,
        add_serve_arguments=_add_arguments,
        objection=_objection,
    )


def _add_arguments(parser: argparse.ArgumentParser, serving: argparse.ArgumentParser) -> None:
    _add_embedded(parser, default=False)
    # The option may stand before or after the command; a default here would undo the one before.
    _add_embedded(serving, default=argparse.SUPPRESS)
    parser.set_defaults(worker=None)
    add_worker_arguments(serving)


def _add_embedded(parser: argparse.ArgumentParser, *, default: object) -> None:
    parser.add_argument(
        "--embedded-redis",
        action="store_true",
        default=default,
        help="serve with a private redis-server of its own and print the URL to publish to, for trying things out;"
        " EMBEDDED_REDIS says which program: bundled, system, or a path [on PATH, else bundled]",
    )


def _objection(options: argparse.Namespace) -> str | None:
    """Before the command it could be meant for any; without this it would have no effect there."""
    if options.embedded_redis and options.command not in (None, "serve"):
        return f"--embedded-redis is for serving; {options.command} has no private redis-server"
    return None


def _serve(daemon: Daemon[S], start: Start[S]) -> int:
    inherited = Inherited.parsed(start.options)
    if inherited is None:
        return serve_process(daemon, start, embedded=start.options.embedded_redis)
    # What only a worker needs is loaded by workers alone.
    from common.workers.worker import serve_worker  # noqa: PLC0415

    # Its parent has said what there is to say, and its limits are the parent's.
    with tracing(start.settings, daemon.name, start.log, inherited.worker) as tracer:
        return trio.run(serve_worker, daemon, start.settings, inherited, tracer, start.log)
