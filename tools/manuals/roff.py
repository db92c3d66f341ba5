"""Text as a man page has it: the macros of man(7), and everything else escaped. Pure.

`argparse-manpage` was looked at: it puts variables and exit codes, which stand in the epilog, into one run of text, and
there is no wheel of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

_CONTROL = (".", "'")
"""A line that begins with one of these is a request."""


def escape(text: str) -> str:
    """One line of text that says just that: no request, no escape, hyphens that can be copied, ASCII alone."""
    escaped = "".join(map(_character, text))
    return rf"\&{escaped}" if escaped.startswith(_CONTROL) else escaped


def bold(text: str) -> str:
    return rf"\fB{escape(text)}\fR"


def italic(text: str) -> str:
    return rf"\fI{escape(text)}\fR"


def title(name: str, day: date, source: str) -> str:
    """The page's first request: of section 1, the commands of users."""
    return f'.TH {escape(name.upper())} 1 {day.isoformat()} "{escape(source)}" "User Commands"'


def section(heading: str) -> str:
    return f".SH {escape(heading)}"


def subsection(heading: str) -> str:
    """`heading` is roff already."""
    return f".SS {heading}"


def paragraph(text: str) -> list[str]:
    return [".PP", escape(text)]


def entry(term: str, text: str) -> list[str]:
    """A term, which is roff already, and indented below it what is said of it."""
    return [".TP", term, escape(text)]


def _character(character: str) -> str:
    match character:
        case "\\":
            return r"\e"
        case "-":
            return r"\-"
        case '"':
            # Also within a macro's argument.
            return r"\(dq"
        case "\n":
            return " "
        case _ if not character.isascii():
            return rf"\[u{ord(character):04X}]"
        case _:
            return character
