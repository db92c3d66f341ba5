"""`preflightd checklist`: the rules as a table that a person can check against the specification, or as JSON."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Final

from common.cli import Command
from common.exits import Exit
from common.quote import quote
from preflightd.checklist import load_checklist, packaged
from preflightd.language import RulesError, document

if TYPE_CHECKING:
    import argparse

    from preflightd.rules import Rules

_HELP: Final = "print the checklist's keys in order, and when each is true; T(x) is the field timestamps:x"
NARROWEST: Final = 60
"""Columns that a table has at least, however narrow the terminal."""


def table(rules: Rules, width: int) -> str:
    """The rules, a key on its line and what it means beside it, wrapped to `width` columns."""
    gap = max(map(len, rules)) + 2
    lines: list[str] = []
    for key, condition in rules.items():
        wrapped = textwrap.wrap(str(condition), max(width, NARROWEST, gap + 20) - gap, break_long_words=False)
        lines += [f"{first:{gap}}{rest}" for first, rest in zip([key, *[""] * len(wrapped)], wrapped, strict=False)]
    return "\n".join(lines)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="a file with rules [the one of PREFLIGHT_CHECKLIST, else the package's]"
    )
    parser.add_argument("--json", action="store_true", help="the rules as a JSON document, for programs")


def _run(options: argparse.Namespace) -> int:
    path = options.file or os.environ.get("PREFLIGHT_CHECKLIST", "").strip()
    try:
        rules = (load_checklist(path) if path else packaged()).rules
    except RulesError as error:
        sys.stderr.write(f"preflightd checklist: {quote(path)}: {error}\n")
        return Exit.BAD_INPUT
    text = json.dumps(document(rules), indent=2) if options.json else table(rules, shutil.get_terminal_size().columns)
    sys.stdout.write(f"{text}\n")
    return 0


CHECKLIST: Final = Command("checklist", _HELP, _add_arguments, _run)
