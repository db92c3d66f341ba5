"""The commands that documents give: found in their blocks of code and in their lines, and taken apart.

A block is indented, or fenced; one that is no commands says what it is (```` ```text ````). In prose a command
is code that begins with a program's name and has an argument.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_FENCE: Final = re.compile(r" *(`{3,})(\w*)\s*")
_ITEM: Final = re.compile(r"(?:\d+\.|-) ")
_SPAN: Final = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_ASSIGNMENT: Final = re.compile(r"[A-Z][A-Z0-9_]*=.*", re.DOTALL)
_SEPARATORS: Final = frozenset({"|", "||", "&&", ";"})
_ADDRESS: Final = re.compile(r"[a-z+]+://")
_KEYWORDS: Final = frozenset({"while", "do", "done"})

COMMANDS: Final = frozenset({"", "sh"})
"""The words behind a fence that say: commands."""
OTHERS: Final = frozenset({"text", "json", "diff", "mermaid"})
"""Those that say: none."""


@attrs.frozen
class Command:
    """One program's start: what is set for it, and its words, itself first."""

    variables: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        """Its name."""
        return self.words[0]

    @property
    def arguments(self) -> tuple[str, ...]:
        """What follows."""
        return self.words[1:]


@attrs.frozen
class Block:
    """A block of code; `kind` is the word behind its fence, empty of one that is indented."""

    kind: str
    lines: tuple[str, ...]


def blocks(text: str) -> Iterator[Block]:
    """The blocks of code of a document, in its order. Raises ValueError where a fence does not end."""
    lines = iter(text.splitlines())
    before, depth = "", 4
    for line in lines:
        if fence := _FENCE.fullmatch(line):
            yield Block(fence[2], tuple(_until(lines, fence[1])))
        elif line.startswith(" " * depth) and not before.strip():
            # Consecutive lines of an indented block are blocks of their own: nothing depends on their number.
            yield Block("", (line.strip(),))
            continue
        elif line and not line.startswith(" "):
            # What belongs to an item of a list is indented, and code in it once more.
            depth = 8 if _ITEM.match(line) else 4
        before = line


def _until(lines: Iterator[str], fence: str) -> Iterator[str]:
    for line in lines:
        if line.strip() == fence:
            return
        yield line
    raise ValueError(f"a fence without end: {fence}")


def command_lines(text: str, programs: Collection[str]) -> Iterator[str]:
    """Every line of a block of commands, unless it is an address, and the code in prose that starts one of `programs`
    with an argument."""
    for block in blocks(text):
        if block.kind in COMMANDS:
            yield from (line for line in block.lines if line.strip() and not _ADDRESS.match(line))
    for span in _SPAN.findall(_without_fences(text)):
        if span.partition(" ")[0] in programs and " " in span:
            yield span.replace(r"\|", "|")


def _without_fences(text: str) -> str:
    return re.sub(r"^ *(`{3,})[^\n`]*\n.*?^ *\1$", "", text, flags=re.MULTILINE | re.DOTALL)


def split(line: str) -> Iterator[Command]:
    """The programs that a line starts. Raises ValueError where a quote does not end."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word not in _SEPARATORS:
            words.append(word)
        elif words:
            if (command := _command(words)) is not None:
                yield command
            words = []


def _command(words: list[str]) -> Command | None:
    """None of a keyword of the shell without a program."""
    variables: list[str] = []
    rest = list(words)
    while rest and (rest[0] in _KEYWORDS or _ASSIGNMENT.fullmatch(rest[0])):
        word = rest.pop(0)
        if word not in _KEYWORDS:
            variables.append(word)
    return Command(tuple(variables), tuple(rest)) if rest else None
