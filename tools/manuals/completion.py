"""What the shells complete of a command line: its commands and options, a file where one is meant, else nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import shtab

from tools.manuals.synopsis import actions, subparsers

if TYPE_CHECKING:
    import argparse

    from tools.manuals.documented import Documented

_FILE: Final = "FILE"
"""How the commands name a value that is a file."""


def completion(command: Documented, shell: str) -> str:
    """The script for one of the shells that shtab knows."""
    parser = command.parser()
    _mark_files(parser)
    return f"{shtab.complete(parser, shell).rstrip()}\n"


def _mark_files(parser: argparse.ArgumentParser) -> None:
    """Tell shtab which values are files: an attribute of the action, as it asks for it."""
    for action in actions(parser):
        if action.metavar == _FILE:
            setattr(action, "complete", shtab.FILE)  # noqa: B010 - no attribute that argparse has
    for subparser in subparsers(parser):
        _mark_files(subparser)
