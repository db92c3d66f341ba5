"""What the daemons' logs say: outages, deaths, and of each conversation who served it and how it ended. Pure.

A conversation is known by the address that its client claims (`X-Forwarded-For`, believed from a loopback proxy): no
two have the same. Times are those of the caller's clock, from which the log's differs by `skew`.
"""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@attrs.define
class Outage:
    """From the loss of a worker's link, or an attempt to get it back that failed, until it was online again."""

    begin: float
    end: float = math.inf


@attrs.define
class Journal:
    """One daemon's log, read."""

    outages: dict[int, list[Outage]] = attrs.field(factory=dict)
    """Of each worker, by process id."""
    server: dict[str, int] = attrs.field(factory=dict)
    """The process that accepted each conversation."""
    reason: dict[str, str] = attrs.field(factory=dict)
    """Why each ended."""
    died: set[int] = attrs.field(factory=set)
    """Processes that ended by a signal or an error."""
    dropped: int = 0
    """Lines that the log itself says are missing."""
    tracebacks: list[str] = attrs.field(factory=list)
    errors: Counter[str] = attrs.field(factory=Counter)
    """Messages of level `error`."""

    def outages_of(self, pid: int | None) -> list[Outage]:
        """Those of one worker, or where it is not known which, of all."""
        if pid is not None:
            return self.outages.get(pid, [])
        return [outage for outages in self.outages.values() for outage in outages]


def read(lines: Iterable[Mapping[str, Any]], skew: float) -> Journal:
    """Read a log."""
    journal = Journal()
    for line in lines:
        match line.get("msg"):
            # The second: a connection that ended before all subscriptions were answered, some of which were.
            case "redis stream interrupted" | "redis unavailable, retrying":
                journal.outages.setdefault(line["pid"], []).append(Outage(_time(line, skew)))
            case "redis online":
                for outage in journal.outages.get(line["pid"], []):
                    outage.end = min(outage.end, _time(line, skew))
            case "connection accepted":
                journal.server[line["remote"]] = line["pid"]
            case "connection closed" | "connection ended with error":
                journal.reason[line["remote"]] = line["reason"]
            case "worker died":
                journal.died.add(line["pid"])
            case "log lines dropped":
                journal.dropped += line["count"]
        if "traceback" in line:
            journal.tracebacks.append(line["traceback"])
        if line.get("level") == "error":
            journal.errors[line["msg"]] += 1
    return journal


def _time(line: Mapping[str, Any], skew: float) -> float:
    return datetime.fromisoformat(line["time"]).timestamp() - skew
