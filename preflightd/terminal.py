"""preflightd's frames on a terminal: a live table of the steps, with the locks and the times of change above it.

Needs rich (the extra `cli`). The table appears with the first frame and stays below the notices; whoever opened the
view closes it, which leaves the last table where it is and gives the cursor back.
"""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TextIO

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from common.watch.terminal import TerminalView, local_time
from common.watch.view import output
from common.watch.words import raw_text, shortened
from preflightd.view import State, changes, read_state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import tzinfo

NAME_LIMIT: Final = 40
"""Characters of the name of a step or a lock."""

_LINES_AROUND: Final = 4
"""Lines of the screen that the steps leave free: two above them, their headings, and the cursor's."""


class TerminalPreflightView(TerminalView):
    """A table on `out`, a terminal; `close` gives the cursor back. Times are those at which we heard of a change."""

    def __init__(self, out: TextIO, *, now: Callable[[], datetime] = local_time, zone: tzinfo | None = None) -> None:
        super().__init__(out, now=now)
        self._zone = zone
        # No refresh thread: the table changes when a frame changes it, and nothing writes behind our back.
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._state: State | None = None
        self._changed_at: datetime | None = None
        self._steps_at: dict[str, datetime] = {}
        """When each step last changed; nothing for what we found as it is, here as below."""
        self._locks_at: dict[str, datetime] = {}
        """Since when each lock is held."""

    def frame(self, frame: Mapping[str, object]) -> None:
        """Show the state. Raises OutputClosedError."""
        state = read_state(frame)
        if state is None:
            self.line(shortened(raw_text(frame), self._console.width), "dim")
            return
        self._note_times(state)
        self._state = state
        with output():
            self._live.start()
            self._live.update(self._picture(state), refresh=True)

    def close(self) -> None:
        """Leave the last table, and show the cursor again."""
        # A terminal that is gone has no cursor to restore.
        with suppress(OSError):
            self._live.stop()

    def _note_times(self, state: State) -> None:
        before, now = self._state, self._now()
        if before is None:
            return
        if changes(before, state):
            self._changed_at = now
        for step, is_done in state.checklist.items():
            if before.checklist.get(step, False) != is_done:
                self._steps_at[step] = now
        was_held = set(before.held)
        since = {name: now if name not in was_held else self._locks_at.get(name) for name in state.held}
        self._locks_at = {name: when for name, when in since.items() if when is not None}

    def _picture(self, state: State) -> Group:
        return Group(self._heading(state), self._locks(state), self._steps(state))

    def _heading(self, state: State) -> Text:
        modified = "unknown" if state.last_modified is None else date_of(state.last_modified, self._zone)
        text = _line(f"{len(state.done)} of {len(state.checklist)} done", "bold")
        text.append(f"   last modified {modified}")
        return text.append(_at(self._changed_at, "   changed "))

    def _locks(self, state: State) -> Text:
        held = state.held
        if not held:
            return _line("nothing is locked", "dim")
        text = _line(f"{len(held)} locked: ", "bold yellow")
        for position, name in enumerate(held):
            text.append(", " if position else "").append(shortened(name, NAME_LIMIT))
            text.append(_at(self._locks_at.get(name), " since "), "not bold")
        return text

    def _steps(self, state: State) -> Table:
        """The steps in one column, or in as many as the height of the screen makes necessary."""
        steps = list(state.checklist.items())
        columns = max(1, math.ceil(len(steps) / max(1, self._console.height - _LINES_AROUND)))
        height = math.ceil(len(steps) / columns)
        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in ("step", "", "changed") * columns:
            table.add_column(heading, no_wrap=True)
        for row in range(height):
            table.add_row(*(cell for step, is_done in steps[row::height] for cell in self._cells(step, is_done)))
        return table

    def _cells(self, step: str, is_done: bool) -> tuple[Text, Text, str]:
        changed_at = self._steps_at.get(step)
        is_new = changed_at is not None and changed_at == self._changed_at
        name = Text(shortened(step, NAME_LIMIT), "bold" if is_new else "")
        return name, Text("done", "green") if is_done else Text("-", "dim"), _at(changed_at)


def date_of(stamp: int, zone: tzinfo | None = None) -> str:
    """A Unix time in `zone`, the reader's own unless given; the number itself where it is no date."""
    try:
        return f"{datetime.fromtimestamp(stamp, UTC).astimezone(zone):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return str(stamp)


def _line(text: str, style: str) -> Text:
    """Cut at the screen's width: what is below it must stay on the screen."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _at(when: datetime | None, before: str = "") -> str:
    return "" if when is None else f"{before}{when:%H:%M:%S}"
