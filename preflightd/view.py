"""How the terminal client shows preflightd's frames: what has changed from one to the next, and plain lines of it.

`read_state` and `changes` are pure. `PlainPreflightView` writes a line a change, for pipes and files; the terminal's
view (a live table) lives in `preflightd.terminal`, because it needs the extra `cli`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from common.watch.view import PlainView
from common.watch.words import one_line, raw_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@attrs.frozen
class State:
    """What a frame says of a run. Nothing in it is escaped yet."""

    checklist: Mapping[str, bool]
    """In the order of the frame."""
    locks: Mapping[str, bool]
    last_modified: int | None = None

    @property
    def done(self) -> list[str]:
        """The steps that are done."""
        return [step for step, is_done in self.checklist.items() if is_done]

    @property
    def held(self) -> list[str]:
        """The locks that are held."""
        return [name for name, is_held in self.locks.items() if is_held]


def read_state(frame: Mapping[str, object]) -> State | None:
    """What a frame of preflightd's says; None if it is none."""
    checklist, locks = _booleans(frame.get("checklist")), _booleans(frame.get("lock_statuses"))
    modified = frame.get("last_modified")
    if frame.get("type") != "preflight" or checklist is None or locks is None:
        return None
    if isinstance(modified, bool) or not isinstance(modified, int | None):
        return None
    return State(checklist, locks, modified)


def summary(state: State) -> str:
    """The whole state in a line, not escaped."""
    parts = [f"{len(state.done)} of {len(state.checklist)} done"]
    if state.done:
        parts[0] += f": {' '.join(state.done)}"
    if state.held:
        parts.append(f"locked: {' '.join(state.held)}")
    if state.last_modified is not None:
        parts.append(f"last_modified {state.last_modified}")
    return "; ".join(parts)


def changes(before: State, after: State) -> list[str]:
    """What has changed, a line for each step and lock, not escaped.

    Of `last_modified`, which changes with nearly every step, only where nothing else has changed.
    """
    lines = [*_step_changes(before.checklist, after.checklist), *_lock_changes(before.locks, after.locks)]
    if not lines and before.last_modified != after.last_modified:
        lines.append(f"last_modified {'unknown' if after.last_modified is None else after.last_modified}")
    return lines


@attrs.define
class ChecklistLines:
    """The frames of one client as lines, fit for a terminal: first a summary, then what changes."""

    _state: State | None = None

    def of(self, frame: Mapping[str, object]) -> list[str]:
        """The lines for the next frame; none if it says again what is known, as after a reconnect."""
        state, before = read_state(frame), self._state
        if state is None:
            return [one_line(raw_text(frame))]
        self._state = state
        lines = [summary(state)] if before is None else changes(before, state)
        return [one_line(line) for line in lines]


@attrs.define
class PlainPreflightView(PlainView):
    """One line a change."""

    _lines: ChecklistLines = attrs.field(factory=ChecklistLines, init=False)

    def frame(self, frame: Mapping[str, object]) -> None:
        """Write what changed. Raises OutputClosedError."""
        for line in self._lines.of(frame):
            self.line(line)


def _booleans(value: object) -> Mapping[str, bool] | None:
    if not isinstance(value, dict) or not all(isinstance(item, bool) for item in value.values()):
        return None
    return value


def _step_changes(before: Mapping[str, bool], after: Mapping[str, bool]) -> Iterator[str]:
    # In the frame's order; a step that the server no longer has is not done.
    for step in [*after, *(step for step in before if step not in after)]:
        is_done = after.get(step, False)
        if before.get(step, False) != is_done:
            yield f"{'+' if is_done else '-'} {step}"


def _lock_changes(before: Mapping[str, bool], after: Mapping[str, bool]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        was_held, is_held = before.get(name), after.get(name)
        if was_held == is_held:
            continue
        if is_held:
            yield f"locked {name}"
        elif was_held or is_held is False:
            yield f"unlocked {name}"
        else:
            yield f"no lock {name}"
