"""What the tmux program is asked, as lists of arguments, and what its answers mean. Pure.

An answer is the lines that the program printed. Names and titles in them are whoever's: a line that is not as asked for
is left out.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from opsd.tmux.status import Pane, TmuxSession

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_PANES: Final = 16
"""Panes whose last lines are shown."""

LINES: Final = 10
"""Of each pane."""

LONGEST_LINE: Final = 1000
"""Characters."""

SCROLLBACK: Final = 200
"""Lines above the screen that are looked at: tmux makes room for its word on a dead pane by moving all up."""

# Numbers first: names are the only part that may hold a space.
LIST_SESSIONS: Final = (
    "list-sessions",
    "-F",
    "#{session_windows} #{session_attached} #{session_created} #{session_name}",
)

_PANES: Final = (
    "#{window_index} #{pane_index} #{pane_dead} [#{pane_dead_status}] [#{pane_dead_signal}] #{pane_pid} #{pane_id} "
    "#{pane_current_command}|#{window_name}"
)
# By themselves: after another text that may hold anything, no mark would tell where one begins.
_TITLES: Final = "#{pane_id} #{pane_title}"

_SESSION_LINE: Final = re.compile(r"([0-9]{1,9}) ([0-9]{1,9}) ([0-9]{1,11}) (.+)")
_PANE: Final = re.compile(r"%[0-9]{1,9}")
_PANE_LINE: Final = re.compile(
    r"(?P<window>[0-9]{1,9}) (?P<pane>[0-9]{1,9}) "
    r"(?P<dead>[01]?) \[(?P<status>[0-9]{0,9})\] \[(?P<signal>[0-9]{0,9})\] "
    r"(?P<pid>[0-9]{1,10}) (?P<id>\S+) (?P<command>[^|]*)\|(?P<name>.*)"
)
# The last two of one that ended while it was asked, as it does with its last session.
_NO_SERVER: Final = (
    "no server running",
    "error connecting to",
    "no sessions",
    "lost server",
    "server exited unexpectedly",
)


REAP: Final = ("run-shell", "true")
"""Let tmux end a process of its own. Up to 3.3 it can miss that one has ended; at the next end it looks at all."""


def list_panes(session: str) -> tuple[str, ...]:
    """Ask for the panes of a session."""
    return ("list-panes", "-s", "-t", f"={session}:", "-F", _PANES)


def list_titles(session: str) -> tuple[str, ...]:
    """Ask for the titles of its panes."""
    return ("list-panes", "-s", "-t", f"={session}:", "-F", _TITLES)


def capture_pane(pane: str) -> tuple[str, ...]:
    """Ask for what a pane shows, and for what it showed before."""
    return ("capture-pane", "-p", "-J", "-S", f"-{SCROLLBACK}", "-t", pane)


def source_file(path: str) -> tuple[str, ...]:
    """Have the commands in a file done, by a server that is started for it if there is none."""
    return ("start-server", ";", "source-file", path)


def kill_session(session: str) -> tuple[str, ...]:
    """End a session."""
    return ("kill-session", "-t", f"={session}")


def means_no_server(error: str) -> bool:
    """Whether the program failed because there is no server, which is to say no session."""
    return error.startswith(_NO_SERVER) and "denied" not in error


def parse_sessions(lines: Iterable[str]) -> tuple[TmuxSession, ...]:
    """The answer to `LIST_SESSIONS`."""
    found: list[TmuxSession] = []
    for line in lines:
        match = _SESSION_LINE.fullmatch(line)
        if match is not None:
            created = datetime.fromtimestamp(int(match[3]), UTC)
            found.append(TmuxSession(match[4], int(match[1]), int(match[2]), created))
    return tuple(found)


def parse_panes(lines: Iterable[str]) -> tuple[Pane, ...]:
    """The answer to `list_panes`."""
    found: list[Pane] = []
    for line in lines:
        match = _PANE_LINE.fullmatch(line)
        if match is None or not _PANE.fullmatch(match["id"]):
            continue
        dead = match["dead"] == "1"
        found.append(
            Pane(
                id=match["id"],
                window=match["name"],
                index=f"{match['window']}.{match['pane']}",
                command=match["command"],
                pid=int(match["pid"]),
                dead=dead,
                exit_code=int(match["status"]) if dead and match["status"] else None,
                exit_signal=int(match["signal"]) if dead and match["signal"] else None,
            )
        )
    return tuple(found)


def parse_titles(lines: Iterable[str]) -> dict[str, str]:
    """The answer to `list_titles`, by the panes' ids."""
    return {pane: title for pane, _, title in (line.partition(" ") for line in lines) if _PANE.fullmatch(pane)}


def last_lines(lines: Sequence[str]) -> tuple[str, ...]:
    """Of the answer to `capture_pane` the last lines that say something, each cut to what a page can show."""
    filled = [line.rstrip() for line in lines if line.strip()]
    return tuple(line[:LONGEST_LINE] for line in filled[-LINES:])
