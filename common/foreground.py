"""A command that a person waits for, or a pipe reads: a signal ends it as usual, and so does a reader that is gone."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from common.early import release
from common.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Callable


def run_in_foreground(run: Callable[[], int]) -> int:
    """Return the exit code of `run`, or that of Ctrl-C or a lost reader. Raises SystemExit if a signal came before."""
    release()
    try:
        code = run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        discard_output()
        return Exit.UNREAD
    return code


def discard_output() -> None:
    """Let the interpreter's last flush of a standard output that nobody reads any more succeed."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
