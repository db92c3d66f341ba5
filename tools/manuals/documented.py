"""What is told of one command, whatever settings it has."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

import attrs

from common.cli import build_parser
from common.config import DaemonSettings, rows

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from common.cli import Program
    from common.config import VariableRow
    from common.exits import Exit

S = TypeVar("S", bound=DaemonSettings)


@attrs.frozen
class Documented:
    """A command of the project; `parser` makes a parser anew each time."""

    name: str
    summary: str
    parser: Callable[[], argparse.ArgumentParser]
    variables: Sequence[VariableRow]
    exit_codes: Mapping[Exit, str]


def documented(program: Program[S]) -> Documented:
    """What there is to tell of `program`."""
    return Documented(
        program.name, program.summary, partial(build_parser, program), rows(program.settings), program.exit_codes
    )
