"""What the terminals' views of all daemons share: lines with the local time, above whatever a view keeps live.

Needs rich (the extra `cli`); `common.watch.view.open_view` closes what it opened.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TextIO

from rich.console import Console
from rich.text import Text

from common.watch.show import Note
from common.watch.view import output

if TYPE_CHECKING:
    from collections.abc import Callable

NOTE_STYLES: Final = {
    Note.CONNECTED: "green",
    Note.GAP: "bold yellow",
    Note.RETRYING: "yellow",
    Note.REFUSED: "bold red",
}


def local_time() -> datetime:
    """Now, in the zone of the person at the terminal."""
    return datetime.now(UTC).astimezone()


class TerminalView:
    """Lines on `out`, a terminal."""

    def __init__(self, out: TextIO, *, now: Callable[[], datetime] = local_time) -> None:
        self._console = Console(file=out, markup=False, emoji=False, highlight=False)
        self._now = now

    def line(self, text: str, style: str = "") -> None:
        """Show a line, or several, behind the time. Raises OutputClosedError."""
        stamp = f"{self._now():%H:%M:%S} "
        # The lines of a traceback stand below each other, clear of the timestamps.
        line = Text.assemble((stamp, "dim"), (text.replace("\n", f"\n{' ' * len(stamp)}"), style))
        with output():
            self._console.print(line, soft_wrap=True)

    def notice(self, note: Note, text: str) -> None:
        """Show a line about the connection. Raises OutputClosedError."""
        self.line(f"-- {text} --", NOTE_STYLES[note])
