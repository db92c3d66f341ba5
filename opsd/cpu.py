"""The CPU time of all daemons as one counter, which never falls: not when a worker is replaced, nor when a daemon goes.

Pure. A process that is gone keeps its part. One that is missing for a while, since its daemon does not answer, goes on
where it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.telemetry.parse import MOST_WORKERS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from common.telemetry.values import WorkerStatus


class CpuTime:
    """Seconds of user and system time, of every process that was ever seen, as it was last seen."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._seen: dict[str, dict[tuple[int, str], float]] = {}

    def feed(self, source: str, workers: Iterable[WorkerStatus]) -> None:
        """Take in what the processes of one source say now."""
        seen = self._seen.setdefault(source, {})
        for worker in workers:
            # No process of another start has the same.
            process = (worker.pid, worker.start)
            before = seen.pop(process, 0.0)
            self.seconds += max(0.0, worker.cpu - before)
            seen[process] = max(before, worker.cpu)
        # Those seen longest ago go: a source can't make this grow without end.
        while len(seen) > MOST_WORKERS:
            del seen[next(iter(seen))]
