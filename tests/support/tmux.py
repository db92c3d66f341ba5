"""A tmux that is a script, and what scripts for the real one say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from opsd.tmux.program import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OK: Final = Output(0, (), "")

_OCTAL: Final = re.compile(r"\\(\d{3})")


class Program:
    """A scripted tmux: answers by command, remembers what it was asked."""

    def __init__(self, **answers: Output | Callable[[], Output]) -> None:
        self.answers = {name.replace("_", "-"): answer for name, answer in answers.items()}
        self.calls: list[Sequence[str]] = []
        self.scripts: list[str] = []

    async def __call__(self, arguments: Sequence[str]) -> Output:
        await trio.lowlevel.checkpoint()
        self.calls.append(arguments)
        if "source-file" in arguments:
            self.scripts.append(_private(Path(arguments[-1])))
        answer = self.answers.get(arguments[0], OK)
        return answer() if callable(answer) else answer

    def names(self) -> list[str]:
        return [arguments[0] for arguments in self.calls]


def _private(file: Path) -> str:
    """The text of a file that only its owner can read."""
    assert file.stat().st_mode & 0o077 == 0
    return file.read_text()


def unquote(script: str) -> list[list[str]]:
    """The words of each command of a script."""
    lines = [line.split(" ") for line in script.splitlines()]
    return [[_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), word).strip('"') for word in line] for line in lines]
