"""A logger for tests whose lines are read back as values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from common.logs import make_logger

if TYPE_CHECKING:
    from common.logs import Logger


class Logbook:
    """A log sink; `log` writes to it at every level."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.log: Logger = make_logger("debug", "test", self)

    def write(self, line: str) -> None:
        """Take one line."""
        self.lines.append(json.loads(line))

    def said(self, message: str) -> list[dict[str, Any]]:
        """The lines with this message."""
        return [line for line in self.lines if line["msg"] == message]

    def at_least(self, *levels: str) -> list[dict[str, Any]]:
        """The lines of these levels."""
        return [line for line in self.lines if line["level"] in levels]


class WrittenLogbook(Logbook):
    """One that keeps the lines as they are written, too."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def write(self, line: str) -> None:
        """Take one line."""
        self.written.append(line)
        super().write(line)
