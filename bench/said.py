"""What a daemon said, counted: the part of a log that one looks at after a drill. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def count_lines(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Each message of the log with its level and how often it came, in the order in which they came first."""
    counted = Counter((line["level"], line["msg"]) for line in lines)
    return [f"{level:5} {number:5} x {message}" for (level, message), number in counted.items()]
