"""statusd's frames on a terminal: lines scroll, and a progress bar stays below them while a message carries one.

Needs rich (the extra `cli`). The bar appears with the first percentage; whoever opened the view closes it, which takes
the bar away and gives the cursor back.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from common.watch.client import Note, OutputClosedError
from common.watch.words import escaped, one_line
from statusd.view import Tone, read_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STYLES: Final = {
    Tone.LINE: "",
    Tone.PROGRESS: "cyan",
    Tone.EXCEPTION: "bold red",
    Tone.TRIGGER: "bold black on yellow",
    Tone.UNKNOWN: "dim",
}
NOTE_STYLES: Final = {
    Note.CONNECTED: "green",
    Note.GAP: "bold yellow",
    Note.RETRYING: "yellow",
    Note.REFUSED: "bold red",
}

SHOWN_LIMIT: Final = 4000
"""Characters of one message that are shown: one huge message must not push everything else off the screen."""

LABEL_LIMIT: Final = 40


def local_time() -> datetime:
    """Now, in the zone of the person at the terminal."""
    return datetime.now(UTC).astimezone()


class TerminalStatusView:
    """Colours and a bar on `out`, a terminal; `close` restores it."""

    def __init__(self, out: TextIO, *, now: Callable[[], datetime] = local_time) -> None:
        self._console = Console(file=out, markup=False, emoji=False, highlight=False)
        self._now = now
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(complete_style="cyan", finished_style="green"),
            TextColumn("{task.percentage:>5.1f} %", markup=False),
            console=self._console,
            # No refresh thread: the bar moves when a message moves it, and nothing writes behind our back.
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._bar = self._progress.add_task("", total=100)

    def frame(self, frame: Mapping[str, object]) -> None:
        """Show a message, and move the bar when it carries a percentage. Raises OutputClosedError."""
        entry = read_status(frame)
        if entry.percent is not None:
            self._progress.start()
            label = shortened(entry.label)
            self._progress.update(self._bar, completed=entry.percent, description=label, refresh=True)
        self._print(limited(escaped(entry.text)), STYLES[entry.tone])

    def notice(self, note: Note, text: str) -> None:
        """Show a line about the connection. Raises OutputClosedError."""
        self._print(f"-- {text} --", NOTE_STYLES[note])

    def close(self) -> None:
        """Take the bar away and show the cursor again."""
        # A terminal that is gone has no cursor to restore.
        with suppress(OSError):
            self._progress.stop()

    def _print(self, text: str, style: str) -> None:
        stamp = f"{self._now():%H:%M:%S} "
        # The lines of a traceback stand below each other, clear of the timestamps.
        line = Text.assemble((stamp, "dim"), (text.replace("\n", f"\n{' ' * len(stamp)}"), style))
        try:
            self._console.print(line, soft_wrap=True)
        except OSError as error:
            raise OutputClosedError(str(error)) from error


def limited(text: str) -> str:
    """`text`, cut at SHOWN_LIMIT with a word about the rest."""
    if len(text) <= SHOWN_LIMIT:
        return text
    return f"{text[:SHOWN_LIMIT]}… ({len(text) - SHOWN_LIMIT} characters more)"


def shortened(label: str) -> str:
    """`label` on one line, fit to stand before a bar."""
    line = one_line(label)
    return line if len(line) <= LABEL_LIMIT else f"{line[: LABEL_LIMIT - 1]}…"
