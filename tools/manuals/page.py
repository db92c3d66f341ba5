"""The man page of one command: its options, commands, environment variables and exit codes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from common.version import DISTRIBUTION
from tools.manuals import roff
from tools.manuals.synopsis import read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    from common.config import VariableRow
    from tools.manuals.documented import Documented
    from tools.manuals.synopsis import Argument, Subcommand, Synopsis


def manual_page(command: Documented, others: Sequence[str], version: str, day: date) -> str:
    """The page of `command`, which refers to those of the `others`; `day` is when this version was made."""
    synopsis = read(command.parser())
    lines = [
        roff.title(command.name, day, f"{DISTRIBUTION} {version}"),
        roff.section("NAME"),
        rf"{roff.escape(command.name)} \- {roff.escape(command.summary.rstrip('.'))}",
        roff.section("SYNOPSIS"),
        f"{_usage(synopsis)} [{roff.italic('COMMAND')} \\&...]",
        roff.section("DESCRIPTION"),
        roff.escape(command.summary),
        *roff.paragraph("Without a command it serves. Environment variables configure it."),
        roff.section("OPTIONS"),
        *_entries(synopsis),
        roff.section("COMMANDS"),
        *(line for subcommand in synopsis.commands for line in _subcommand(subcommand)),
        roff.section("ENVIRONMENT"),
        *(line for row in command.variables for line in _variable(row)),
        roff.section("EXIT STATUS"),
        "Of serving:",
        *(line for code, words in command.exit_codes.items() for line in roff.entry(roff.bold(f"{code:d}"), words)),
        roff.section("SEE ALSO"),
        ",\n".join(f"{roff.bold(other)}(1)" for other in others),
    ]
    return "\n".join(lines) + "\n"


def _subcommand(subcommand: Subcommand) -> Iterator[str]:
    yield roff.subsection(_usage(subcommand.synopsis))
    yield roff.escape(subcommand.help)
    yield from _entries(attrs.evolve(subcommand.synopsis, arguments=_but_help(subcommand.synopsis)))


def _usage(synopsis: Synopsis) -> str:
    taken = _but_help(synopsis)
    words = [_shape(argument) for argument in (*_options(taken), *_positionals(taken))]
    return " ".join([roff.bold(synopsis.prog), *words])


def _but_help(synopsis: Synopsis) -> list[Argument]:
    """All that it takes but the help's own option, which is told of once."""
    return [argument for argument in synopsis.arguments if "--help" not in argument.flags]


def _shape(argument: Argument) -> str:
    if argument.flags:
        return f"[{_flag(argument.flags[-1], argument)}]"
    name = roff.italic(argument.value)
    return name if argument.needed else f"[{name}]"


def _entries(synopsis: Synopsis) -> Iterator[str]:
    for argument in (*_positionals(synopsis.arguments), *_options(synopsis.arguments)):
        named = ", ".join(_flag(flag, argument) for flag in argument.flags) or roff.italic(argument.value)
        yield from roff.entry(named, argument.help)


def _flag(flag: str, argument: Argument) -> str:
    if not argument.value:
        return roff.bold(flag)
    value = roff.italic(argument.value)
    return f"{roff.bold(flag)} {value}" if argument.needed else f"{roff.bold(flag)}[={value}]"


def _options(arguments: Sequence[Argument]) -> list[Argument]:
    return [argument for argument in arguments if argument.flags]


def _positionals(arguments: Sequence[Argument]) -> list[Argument]:
    return [argument for argument in arguments if not argument.flags]


def _variable(row: VariableRow) -> list[str]:
    return roff.entry(roff.bold(row.variable), f"{row.doc} [{row.default or 'unset'}]")
