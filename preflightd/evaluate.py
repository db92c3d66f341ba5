"""`preflightd evaluate`: the checklist of a run hash that is given as JSON, without Redis."""

from __future__ import annotations

import io
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

from common.cli import Command
from common.exits import Exit
from common.quote import quote
from preflightd.checklist import Checklist, load_checklist, packaged, to_json
from preflightd.language import RulesError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

_HELP: Final = "print the checklist of a run hash: a JSON object of its fields in, a JSON object out; needs no Redis"


class BadInputError(ValueError):
    """What came is no JSON object of fields; the message is one line."""


def evaluated(text: str, checklist: Checklist) -> str:
    """The answer, as JSON, to a JSON object of hash fields. Raises `BadInputError`."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"not JSON: {error}") from error
    if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
        raise BadInputError("not a JSON object whose values are strings")
    snapshot = checklist.evaluate({_bytes(field): _bytes(value) for field, value in fields.items()})
    return to_json(snapshot.content())


def _bytes(text: str) -> bytes:
    # A lone surrogate has no UTF-8; Redis could not have held it as text either.
    return text.encode("utf-8", "surrogatepass")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", nargs="?", default="-", metavar="FILE", help="where to read from, - for standard input [-]"
    )
    parser.add_argument("--checklist", metavar="FILE", help="a file with other rules than the package's")
    parser.add_argument("--lines", action="store_true", help="one JSON object a line in, one a line out")


def _run(options: argparse.Namespace) -> int:
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            # Whatever the locale says: JSON is UTF-8.
            stream.reconfigure(encoding="utf-8")
    try:
        checklist = packaged() if options.checklist is None else load_checklist(options.checklist)
    except RulesError as error:
        sys.stderr.write(f"preflightd evaluate: {quote(options.checklist)}: {error}\n")
        return Exit.BAD_INPUT
    try:
        with nullcontext(sys.stdin) if options.file == "-" else Path(options.file).open(encoding="utf-8") as source:
            texts: Iterable[str] = source if options.lines else [source.read()]
            for number, text in enumerate(texts, 1):
                try:
                    sys.stdout.write(evaluated(text, checklist) + "\n")
                    # Whoever feeds lines may wait for each answer.
                    sys.stdout.flush()
                except BadInputError as error:
                    where = f"line {number}: " if options.lines else ""
                    sys.stderr.write(f"preflightd evaluate: {where}{error}\n")
                    return Exit.BAD_INPUT
    except BrokenPipeError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"preflightd evaluate: {error}\n")
        return Exit.BAD_INPUT
    return 0


EVALUATE: Final = Command("evaluate", _HELP, _add_arguments, _run)
