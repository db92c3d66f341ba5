"""What a parser takes, as values. Pure.

argparse tells nobody of its options but in a text, which is wrapped to a terminal and differs from one Python to the
next; so this reads what its own formatter reads.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@attrs.frozen(kw_only=True)
class Argument:
    """An option, or without `flags` a positional argument; `value` is the name of what it takes, if it takes any."""

    flags: Sequence[str]
    value: str
    needed: bool
    """Whether there is no command line without it, or for an option no use of it without the value."""
    help: str


@attrs.frozen(kw_only=True)
class Synopsis:
    """What one parser takes; `commands` have parsers of their own."""

    prog: str
    arguments: Sequence[Argument]
    commands: Sequence[Subcommand]


@attrs.frozen
class Subcommand:
    """A command, what the list of commands says of it, and what it takes."""

    name: str
    help: str
    synopsis: Synopsis


def read(parser: argparse.ArgumentParser) -> Synopsis:
    """All that is not hidden from the help. Raises ValueError for an action that a man page could not tell of."""
    arguments: list[Argument] = []
    commands: list[Subcommand] = []
    for action in actions(parser):
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as every tool that reads parsers
            commands += _commands(action)
        else:
            arguments.append(_argument(parser, action))
    return Synopsis(prog=parser.prog, arguments=arguments, commands=commands)


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Those that the help shows, in its order."""
    return (action for action in parser._actions if action.help != argparse.SUPPRESS)  # noqa: SLF001 - likewise


def subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Those of its commands."""
    for action in actions(parser):
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - likewise
            yield from action.choices.values()


def _commands(action: argparse._SubParsersAction[argparse.ArgumentParser]) -> Iterator[Subcommand]:
    for listed in action._choices_actions:  # noqa: SLF001 - likewise
        yield Subcommand(listed.dest, listed.help or "", read(action.choices[listed.dest]))


def _argument(parser: argparse.ArgumentParser, action: argparse.Action) -> Argument:
    if action.nargs not in (None, 0, argparse.OPTIONAL) or isinstance(action.metavar, tuple):
        raise ValueError(f"{parser.prog}: {action.dest} takes {action.nargs} values, which no page tells")
    value = "" if action.nargs == 0 else action.metavar or action.dest.upper()
    said = (action.help or "") % {**vars(action), "prog": parser.prog}
    return Argument(flags=action.option_strings, value=value, needed=action.nargs is None, help=said)
