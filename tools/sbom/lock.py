"""A lock as uv writes it: `name[extra]==version ; marker`, hashes, and a comment that says who asked. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)(?: ; (.+?))? \\$")
_HASH: Final = re.compile(r"^ +--hash=sha256:([0-9a-f]{64})", re.MULTILINE)
_ASKED: Final = re.compile(r"^ +# (?:via|  ) *(\S+)", re.MULTILINE)
_OPTION: Final = "-"
"""In place of a name in the comment: `-c FILE`, which asks for nothing."""


class LockError(ValueError):
    """A lock that is not of the shape above; the message is for the user."""


@dataclass(frozen=True)
class Pin:
    """One package of a lock."""

    name: str
    """As the index normalises it."""
    version: str
    marker: str
    """Where it is needed; empty is everywhere."""
    hashes: tuple[str, ...]
    """SHA-256 of each file of this version that may be installed."""
    asked_by: frozenset[str]
    """The packages that need it, the project by its own name."""


def read_lock(text: str) -> dict[str, Pin]:
    """The packages by name, in the lock's order. Raises LockError."""
    pins = [_pin(entry) for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#")]
    if not pins:
        raise LockError("a lock without packages")
    return {pin.name: pin for pin in pins}


def normalised(name: str) -> str:
    """The one spelling of a package's name (https://packaging.python.org/specifications/name-normalization/)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _pin(entry: str) -> Pin:
    first, _, rest = entry.partition("\n")
    found = _PIN.match(first)
    hashes = tuple(_HASH.findall(rest))
    if found is None or not hashes:
        raise LockError(f"not a locked package: {first!r}")
    asked = {normalised(name) for name in _ASKED.findall(rest) if not name.startswith(_OPTION)}
    return Pin(normalised(found[1]), found[2], found[3] or "", hashes, frozenset(asked))
