"""What the operating system and the interpreter say of this process; None where they can't tell."""

from __future__ import annotations

import gc
import platform
import resource
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import psutil

DISTRIBUTIONS: Final = ("run-status-daemons", "trio", "wsproto", "h11", "redis", "hiredis", "attrs", "structlog")
"""Whose versions are told."""

_SELF: Final = psutil.Process()
_PEAK_UNIT: Final = 1 if sys.platform == "darwin" else 1024


def resident_bytes() -> int:
    """The process's resident bytes."""
    return _SELF.memory_info().rss


def peak_bytes() -> int:
    """The most resident bytes that the process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT


def proportional_bytes() -> int | None:
    """The resident bytes with each shared page divided by those who share it. Walks every page: not for the loop."""
    with suppress(psutil.Error):
        return getattr(_SELF.memory_full_info(), "pss", None)
    return None


def collector() -> dict[str, object]:
    """What the cyclic collector has done and is set to."""
    # Not what is frozen: that is counted one by one, 5 ms for what the start alone has made.
    return {
        "enabled": gc.isenabled(),
        "thresholds": gc.get_threshold(),
        "counts": gc.get_count(),
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
