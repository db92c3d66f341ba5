"""What a watch says to whoever shows it, and how a show ends the watch."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping


class Note(enum.Enum):
    """What a notice is about."""

    CONNECTED = "connected"
    GAP = "gap"
    """Something may be missing from what was shown."""
    RETRYING = "retrying"
    REFUSED = "refused"
    """The last one: `watch` returns after it."""


@attrs.frozen(kw_only=True)
class Codes:
    """The exit codes of a watch."""

    refused: int = 1
    time_up: int = 0
    hung_up: int | None = None
    """After a hangup, which asks not to come back; None is to come back all the same."""


class FinishedError(Exception):
    """What a show has seen ends the watch, with an exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"finished with {code}")
        self.code = code


class OutputClosedError(Exception):
    """There is nobody left to show anything to: the pipe or the terminal is gone."""


class Show(Protocol):
    """What a person sees. Neither method may block for long: pings are answered by the same task."""

    def frame(self, frame: Mapping[str, object]) -> None:
        """Show one frame of the server's, any type but `ping`, `hangup` and `gap`.

        Raises OutputClosedError, and FinishedError to end the watch.
        """

    def notice(self, note: Note, text: str) -> None:
        """Show one line about the connection; `text` is safe for a terminal. Raises OutputClosedError."""
