"""What the operating system and the interpreter say of this process; None where they can't tell."""

from __future__ import annotations

import gc
import platform
import re
import resource
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

DISTRIBUTIONS: Final = ("run-status-daemons", "trio", "wsproto", "h11", "redis", "hiredis", "attrs", "structlog")
"""Whose versions are told."""

_PAGE: Final = resource.getpagesize()
_PEAK_UNIT: Final = 1 if sys.platform == "darwin" else 1024


def resident_bytes() -> int:
    """The process's resident bytes; without /proc the most that it ever had."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE
    return peak_bytes()


def peak_bytes() -> int:
    """The most resident bytes that the process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT


def proportional_bytes() -> int | None:
    """The resident bytes with each shared page divided by those who share it. Walks every page: not for the loop."""
    with suppress(OSError):
        found = re.search(rb"^Pss:\s+(\d+) kB$", Path("/proc/self/smaps_rollup").read_bytes(), re.MULTILINE)
        return None if found is None else int(found[1]) << 10
    return None


def collector() -> dict[str, object]:
    """What the cyclic collector has done and is set to."""
    return {
        "enabled": gc.isenabled(),
        "thresholds": gc.get_threshold(),
        "counts": gc.get_count(),
        "frozen": gc.get_freeze_count(),
        "generations": gc.get_stats(),
    }


@cache
def versions() -> dict[str, str]:
    """Of Python and of what matters here. Reads files: not for the loop."""
    return {"python": platform.python_version(), **{name: _version(name) for name in DISTRIBUTIONS}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
