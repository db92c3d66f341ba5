"""The exit codes of every daemon and of every command (SPEC 6)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class Exit(IntEnum):
    """How a process ended."""

    OK = 0
    FAILED = 1
    BAD_CONFIGURATION = 2
    BAD_INPUT = 2
    """The same of a command, whose arguments or file can't be used; `argparse` counts so too."""
    INTERRUPTED = 130
    """Ctrl-C has ended a command: 128 + SIGINT, as shells count."""
    UNREAD = 141
    """The reader of a command's output was gone before its end: 128 + SIGPIPE, as shells count."""


WORDS: Final[Mapping[Exit, str]] = {
    Exit.OK: "drained",
    Exit.FAILED: "Redis unavailable or refusing the credentials at start, or a second signal",
    Exit.BAD_CONFIGURATION: "bad configuration or the port is taken",
}
"""What the code of a daemon that served says, for `--help` and docs/running.md."""
