"""A command that a person waits for, or a pipe reads: a signal ends it as usual, and so does a reader that is gone."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from common.early import release

if TYPE_CHECKING:
    from collections.abc import Callable

INTERRUPTED: Final = 130
"""The exit code of a command that Ctrl-C ended (128 + SIGINT, as shells count)."""

UNREAD: Final = 141
"""The exit code of a command whose reader was gone before its end (128 + SIGPIPE)."""


def run_in_foreground(run: Callable[[], int]) -> int:
    """Return the exit code of `run`, `INTERRUPTED` or `UNREAD`. Raises SystemExit if a signal came before it began."""
    release()
    try:
        code = run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        discard_output()
        return UNREAD
    return code


def discard_output() -> None:
    """Let the interpreter's last flush of a standard output that nobody reads any more succeed."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
