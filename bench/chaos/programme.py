"""What is published and written in the course of one run, and how much of everything there is."""

from __future__ import annotations

from typing import Final

import attrs

CHANNELS: Final = ("north:log", "north:status", "south:log", "east;;west:log")
BUSY: Final = ("north", "south")
QUIET: Final = ("quiet",)
PACE: Final = 0.05
"""Seconds between two rounds of messages."""
WRITES: Final = 0.1
"""Seconds between two writes of a busy run."""

COUNTED: Final = tuple(b"counted %d" % number for number in range(5))
"""Messages at the end, when nobody publishes anything else."""


@attrs.frozen(kw_only=True)
class Size:
    """How much of everything: clients of each daemon, the seconds until one that is silent is ended, and those that are
    allowed beyond what is promised, for a machine that has other things to do."""

    status: int = 80
    preflight: int = 40
    pong_timeout: float = 7.0
    margin: float = 15.0


def status_frame(payload: bytes) -> bytes:
    """What a client of statusd gets for a payload of these, none of which needs escapes."""
    return b'{"type":"status","data":"%b"}' % payload
