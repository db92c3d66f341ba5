"""The commands that make a tmux session of the platform's daemons, a window each, and one that follows all their logs.

Pure, but for the search of programs on PATH. A window's output is also written to a file (`opsd.tmux.logs`): tmux pipes
it there, and `tail -F` in the window `LOGS` follows the files by their names, so that it goes on when one begins anew.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from opsd.tmux.logs import LogFiles

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Names of sessions and windows: all others mean something to tmux."""

VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

LOGS: Final = "logs"
"""The window that follows all logs."""

_OF_THE_TERMINAL: Final = frozenset({"TERM", "TMUX", "TMUX_PANE", "PWD", "OLDPWD", "SHLVL", "_", "COLUMNS", "LINES"})
_OPTIONS: Final = (("remain-on-exit", "on"), ("allow-rename", "off"), ("automatic-rename", "off"))


@attrs.frozen
class Window:
    """One window to be made: its command, and the whole environment of the command."""

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str] = attrs.field(repr=False)
    without: tuple[str, ...] = ()
    """Variables that must not come from the tmux server's own environment."""


def make_script(session: str, windows: Sequence[Window], directory: Path, logs: LogFiles | None = None) -> str:
    """tmux commands that make the session; every word from outside is written in octal, so that none is syntax.

    With `logs`, and a `tail` to follow them, there is one window more.
    """
    if not windows or not all(NAME.fullmatch(window.name) for window in windows):
        raise ValueError("windows are needed, with names of letters, digits, _ and -")
    tail = None if logs is None else shutil.which("tail")
    lines: list[str] = []
    for number, window in enumerate(windows):
        lines += _make(session, window, directory, first=number == 0)
        if logs is not None and tail is not None:
            lines.append(_command("pipe-pane", "-t", _place(session, window), logs.keeper(window.name)))
    if logs is not None and tail is not None:
        follow = (tail, "-n", "+1", "-F", "--", *(str(logs.of(window.name)) for window in windows))
        lines += _make(session, Window(LOGS, follow, {}, windows[0].without), directory, first=False)
    return "".join(f"{line}\n" for line in lines)


def _make(session: str, window: Window, directory: Path, *, first: bool) -> list[str]:
    make = (
        ["new-session", "-d", "-s", session, "-x", "200", "-y", "50"]
        if first
        else ["new-window", "-d", "-t", f"={session}:"]
    )
    # tmux expands formats in the directory's name.
    make += ["-n", window.name, "-c", str(directory).replace("#", "##")]
    for name, value in sorted(window.environ.items()):
        if VARIABLE.fullmatch(name) and name not in _OF_THE_TERMINAL:
            make += ["-e", f"{name}={value}"]
    place = _place(session, window)
    return [
        f"{_command(*make)} -- {_command(*_without(window))}",
        *(f"set-option -w -t {_quoted(place)} {option} {setting}" for option, setting in _OPTIONS),
        # The pane's title would be the machine's name.
        _command("select-pane", "-t", place, "-T", window.name),
    ]


def _place(session: str, window: Window) -> str:
    return f"={session}:={window.name}"


def _without(window: Window) -> list[str]:
    """The command, run without the variables that the tmux server may have and the window must not."""
    program = shutil.which("env")
    if not window.without or program is None:
        return list(window.argv)
    return [program, *(word for name in window.without for word in ("-u", name)), *window.argv]


def _command(*words: str) -> str:
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    return '"' + "".join(f"\\{byte:03o}" for byte in os.fsencode(word)) + '"'
