"""What is there of tmux, as values, and as the JSON that the API answers with. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from datetime import datetime

LONGEST_NAME: Final = 256
"""Characters of any name that tmux gives."""

MOST_SESSIONS: Final = 100
"""Sessions that are listed."""


@attrs.frozen
class TmuxSession:
    """One session of the server."""

    name: str
    windows: int
    attached: int
    created: datetime

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "name": self.name[:LONGEST_NAME],
            "windows": self.windows,
            "attached": self.attached,
            "created": self.created.isoformat().replace("+00:00", "Z"),
        }


@attrs.frozen
class Pane:
    """One pane of our session."""

    id: str
    window: str
    index: str
    """The window's and the pane's, as tmux shows them: `0.0`."""
    command: str
    pid: int
    dead: bool
    exit_code: int | None = None
    """Of a dead one; None where tmux does not know it, as after a signal."""
    exit_signal: int | None = None
    """The signal that ended it; None where there was none, or tmux is too old to know."""
    title: str = ""
    lines: tuple[str, ...] = ()

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "window": self.window[:LONGEST_NAME],
            "title": self.title[:LONGEST_NAME],
            "index": self.index,
            "command": self.command[:LONGEST_NAME],
            "pid": self.pid,
            "dead": self.dead,
            "exitCode": self.exit_code,
            "exitSignal": self.exit_signal,
            "lines": list(self.lines),
        }


@attrs.frozen
class TmuxStatus:
    """What is there. Without tmux nothing is, and `reason` says why."""

    available: bool
    reason: str
    sessions: tuple[TmuxSession, ...]
    name: str
    """Of the session that is ours to start and stop."""
    attach: str
    """What an operator types to see it."""
    panes: tuple[Pane, ...] = ()
    changing: bool = False
    """Whether our session is being started or stopped."""

    @property
    def running(self) -> bool:
        """Whether our session is there."""
        return any(session.name == self.name for session in self.sessions)

    def document(self) -> dict[str, object]:
        """As JSON; `session` is null unless ours is there. `online` is the older dashboards' name for `running`."""
        return {
            "available": self.available,
            "reason": self.reason,
            "running": self.running,
            "online": self.running,
            "changing": self.changing,
            "sessions": [session.document() for session in self.sessions[:MOST_SESSIONS]],
            "session": self.name if self.running else None,
            "sessionName": self.name,
            "panes": [pane.document() for pane in self.panes],
            "attach": self.attach,
        }
