"""Text to values and back, as operators write them: Go's durations, sizes, counts, booleans, levels, lists.

Pure. A parser takes trimmed text and raises ValueError with a reason that completes "VARIABLE='text' is …". Digits are
ASCII, signs are not accepted.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

_NANOSECONDS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # the micro sign
    "μs": 1_000,  # the Greek letter
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_LONGEST: Final = (1 << 63) - 1
"""Nanoseconds that Go's type holds: 292 years."""

_DURATION_PART: Final = re.compile(r"([0-9]{1,40})?(?:\.([0-9]{0,40}))?(ns|us|µs|μs|ms|s|m|h)")
_NO_DURATION: Final = "not a duration such as 250ms, 5s or 1m30s"

_SIZE: Final = re.compile(r"([0-9]{1,18})[ \t]*(?:([kmg])(?:i?b)?|b)?", re.IGNORECASE)
_SIZE_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}

_BOOLEANS: Final = dict.fromkeys(("1", "t", "true", "yes", "on"), True) | dict.fromkeys(
    ("0", "f", "false", "no", "off"), False
)
_LEVELS: Final = {"debug": "debug", "info": "info", "warn": "warn", "warning": "warn", "error": "error"}


def parse_duration(text: str) -> float:
    """Seconds of a duration in Go's notation, `1h2m3.5s`, cut to nanoseconds; zero is accepted, also as a bare `0`."""
    if text == "0":
        return 0.0
    total, position = Fraction(0), 0
    while position < len(text):
        part = _DURATION_PART.match(text, position)
        if part is None or not (part[1] or part[2]):
            raise ValueError(_NO_DURATION)
        total += Fraction(f"{part[1] or 0}.{part[2] or 0}") * _NANOSECONDS[part[3]]
        position = part.end()
    if not text:
        raise ValueError(_NO_DURATION)
    if total > _LONGEST:
        raise ValueError("longer than 292 years")
    return int(total) / 1_000_000_000


def parse_positive_duration(text: str) -> float:
    """Seconds of a duration that may not be zero."""
    seconds = parse_duration(text)
    if seconds == 0:
        raise ValueError("not longer than zero")
    return seconds


def format_duration(seconds: float) -> str:
    """Go's notation without parts that are zero: `1m5s`, `2h`, `1.5s`, `250ms`; `parse_duration` reads it back."""
    nanoseconds = round(Fraction(seconds) * 1_000_000_000)
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < 1_000_000_000:
        unit = next(unit for unit in ("ms", "µs", "ns") if nanoseconds >= _NANOSECONDS[unit])
        return _decimal(nanoseconds, _NANOSECONDS[unit]) + unit
    minutes, rest = divmod(nanoseconds, _NANOSECONDS["m"])
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours}h" if hours else "", f"{minutes}m" if minutes else ""]
    return "".join(parts) + (_decimal(rest, 1_000_000_000) + "s" if rest else "")


def _decimal(count: int, unit: int) -> str:
    whole, rest = divmod(count, unit)
    fraction = str(unit + rest)[1:].rstrip("0")
    return f"{whole}.{fraction}" if fraction else str(whole)


def parse_size(text: str) -> int:
    """Bytes, more than none: a number, or one with `B`, `KB`, `MB`, `GB` (1024-based, as `KiB` and `K`) in any case."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("not a size such as 65536, 64KB, 1MB or 1GB")
    size = int(match[1]) * _SIZE_UNITS[(match[2] or "").lower()]
    if size == 0:
        raise ValueError("not larger than zero")
    return size


def format_size(size: int) -> str:
    """`1GB`, `1MB`, `64KB`, or a bare number where none is exact. `parse_size` gives `size` back."""
    unit = next((unit for unit in "gmk" if size and size % _SIZE_UNITS[unit] == 0), "")
    return f"{size // _SIZE_UNITS[unit]}{unit.upper()}{'B' if unit else ''}"


def parse_count(text: str, minimum: int, maximum: int) -> int:
    """A whole number from `minimum` to `maximum`."""
    count = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else -1
    if not minimum <= count <= maximum:
        raise ValueError(f"not a whole number from {minimum} to {maximum}")
    return count


def parse_bool(text: str) -> bool:
    """`1 t true yes on` or `0 f false no off`, in any case."""
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError("neither true nor false") from None


def format_bool(value: bool) -> str:
    """`true` or `false`."""
    return "true" if value else "false"


def parse_level(text: str) -> str:
    """`debug`, `info`, `warn` or `error`, in any case; `warning` is `warn`."""
    try:
        return _LEVELS[text.lower()]
    except KeyError:
        raise ValueError("not one of debug, info, warn, error") from None


def parse_choices(text: str, choices: Collection[str]) -> frozenset[str]:
    """`all`, `none`, or a comma-separated list out of `choices`, in any case."""
    words = split_list(text.lower())
    if words == ["all"]:
        return frozenset(choices)
    if words == ["none"]:
        return frozenset()
    if not words or not set(words) <= set(choices):
        raise ValueError(f"neither all, none nor a list out of {', '.join(choices)}")
    return frozenset(words)


def format_choices(chosen: Collection[str], choices: Collection[str]) -> str:
    """`all`, `none`, or the list in the order of `choices`."""
    words = [choice for choice in choices if choice in chosen]
    return "none" if not words else "all" if len(words) == len(choices) else ",".join(words)


def split_list(text: str) -> list[str]:
    """The trimmed items of a comma-separated list, empty ones left out."""
    return [item for item in (part.strip() for part in text.split(",")) if item]
