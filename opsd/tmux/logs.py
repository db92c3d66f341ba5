"""What the windows print, a file each, in a directory that only the user can read.

tmux pipes a window's output to a shell that keeps it (`LogFiles.keeper`): as much as `MOST_PIECES`, then anew, with one
older file beside it.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MOST_PIECES: Final = 32_768
"""Pieces of output, 512 bytes each at most, until a log file begins anew; one older file is kept."""

# dd writes what it reads at once, and says first how many whole and partial records that were: `12+3 records in`.
# Less than it was told to copy is the end.
KEEP: Final = (
    'while said=$(LC_ALL=C dd bs=512 count="$2" of="$1" 2>&1) && test $((${said%% *})) -ge "$2"; '
    'do mv -f "$1" "$1.1"; done'
)
"""A shell's way to keep its input in the file `$1`, beginning anew after `$2` pieces."""


@attrs.frozen
class LogFiles:
    """The files of one session, by the names of its windows."""

    directory: Path

    def of(self, window: str) -> Path:
        """A window's file."""
        return self.directory / f"{window}.log"

    def older(self, window: str) -> Path:
        """What its file was before it began anew."""
        return self.directory / f"{window}.log.1"

    def keeper(self, window: str) -> str:
        """The shell command to pipe a window's output to; tmux expands formats and the time's parts in it."""
        command = shlex.join(["exec", "sh", "-c", KEEP, "keep", str(self.of(window)), str(MOST_PIECES)])
        return command.replace("%", "%%").replace("#", "##")

    def prepare(self, windows: Iterable[str]) -> None:
        """Make the directory, with an empty file for each window.

        Raises OSError, also where the directory is not the user's alone.
        """
        for directory in (self.directory.parent, self.directory):
            with suppress(FileExistsError):
                directory.mkdir(mode=0o700)
        found = self.directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise PermissionError(errno.EACCES, "it is not a directory that only its owner can use")
        for window in windows:
            self.older(window).unlink(missing_ok=True)
            self.of(window).unlink(missing_ok=True)
            self.of(window).touch(0o600)
