"""statusd's frames on a terminal: lines scroll, and a progress bar stays below them while a message carries one.

Needs rich (the extra `cli`). The bar appears with the first percentage; whoever opened the view closes it, which takes
the bar away and gives the cursor back.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, TextIO

from rich.progress import BarColumn, Progress, TextColumn

from common.watch.terminal import TerminalView, local_time
from common.watch.view import output
from common.watch.words import escaped, shortened
from statusd.view import Tone, read_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

STYLES: Final = {
    Tone.LINE: "",
    Tone.PROGRESS: "cyan",
    Tone.STARTED: "bold blue",
    Tone.COMPLETED: "bold green",
    Tone.EXCEPTION: "bold red",
    Tone.TRIGGER: "bold black on yellow",
    Tone.UNKNOWN: "dim",
}

SHOWN_LIMIT: Final = 4000
"""Characters of one message that are shown: one huge message must not push everything else off the screen."""

LABEL_LIMIT: Final = 40


class TerminalStatusView(TerminalView):
    """Colours and a bar on `out`, a terminal; `close` restores it."""

    def __init__(self, out: TextIO, *, now: Callable[[], datetime] = local_time) -> None:
        super().__init__(out, now=now)
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
            label = shortened(entry.label, LABEL_LIMIT)
            with output():
                self._progress.start()
                self._progress.update(self._bar, completed=entry.percent, description=label, refresh=True)
        self.line(limited(escaped(entry.text)), STYLES[entry.tone])

    def close(self) -> None:
        """Take the bar away and show the cursor again."""
        # A terminal that is gone has no cursor to restore.
        with suppress(OSError):
            self._progress.stop()


def limited(text: str) -> str:
    """`text`, cut at SHOWN_LIMIT with a word about the rest."""
    if len(text) <= SHOWN_LIMIT:
        return text
    return f"{text[:SHOWN_LIMIT]}… ({len(text) - SHOWN_LIMIT} characters more)"
