"""The board: the newest values of all sources and the newest status made of them.

The application makes one and owns the task of `run`, which ends only by cancellation; readers look at `status`, `body`
and `version`, or wait for a newer version. Each source lives in a task of its own, and no reader ever waits for one.

The status is made anew at every push of a source, at most once in `COALESCE` seconds (the first push of a burst at
once), and at every tick, once a second. Each time the version grows by one. Ticks are also what the traffic mode's
samples and the windows of the rates are counted in.
"""

from __future__ import annotations

import json
import re
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs
import trio

from opsd.figures import Heard, Own, vector_and_meta
from opsd.modes import ModeSwitch
from opsd.sources.source import Reading, SnapshotError
from opsd.vector import Status
from opsd.windows import Counters, Growth, Rolling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from common.logs import Logger
    from opsd.sources.source import Source
    from opsd.sources.workers import WorkersStatus
    from opsd.vector import Telemetry

__all__ = ["Board", "Event", "Snapshot", "SnapshotError"]

COALESCE: Final = 0.02
"""Seconds between two recomputations at least."""

TICK: Final = 1.0
MINUTE: Final = 60
ERROR_WINDOW: Final = 300
MESSAGE_WINDOW: Final = 10
"""Seconds over which messages are counted for the history: long enough to be steady, short enough to show a burst."""

MOST_EVENTS: Final = 500
RESTART_DELAY: Final = 1.0
"""Seconds after which a source's task that failed by a bug is started again."""

_WORKER_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@attrs.frozen
class Event:
    """A change of the traffic mode or of the telemetry's health."""

    time: str
    kind: str
    """`mode` or `telemetry`."""
    before: str
    after: str
    error_rate: float

    def document(self) -> dict[str, object]:
        """As a JSON object."""
        return {
            "time": self.time,
            "kind": self.kind,
            "from": self.before,
            "to": self.after,
            "errorRate": round(self.error_rate, 6),
        }


@attrs.frozen
class Snapshot:
    """A worker's state as a file to download."""

    filename: str
    body: bytes
    """Gzipped JSON."""


@attrs.define
class _Known:
    """What the board remembers of a source between two readings."""

    growth: Growth = attrs.field(factory=Growth)
    seen: WorkersStatus | None = None
    """The status that was counted last."""
    routes: int = 0
    available: bool | None = None
    """As was last logged; None when nothing was."""


class Board:
    """See the module. `own_routes` is the number of opsd's own routes; `on_event` hears of every event."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        region: str,
        own_routes: int,
        log: Logger,
        on_event: Callable[[Event], None] | None = None,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.version = 0
        """Grows by one with each status."""
        self.status: Status
        """The newest."""
        self.messages_per_second = 0.0
        """Over the last seconds, of all daemons."""
        self._sources = tuple(sources)
        self._own = Own(region, own_routes)
        self._log = log
        self._on_event = on_event
        self._utcnow = utcnow
        self._known = {source.name: _Known() for source in self._sources}
        self._rolling = Rolling(ERROR_WINDOW)
        self._begun = 0.0
        self._in_flight = 0
        self._mode = ModeSwitch()
        self._telemetry: Telemetry | None = None
        """As of the last event; None until every source has been asked."""
        self._events: deque[Event] = deque(maxlen=MOST_EVENTS)
        self._poked = trio.Event()
        self._newer = trio.Event()
        self._body: bytes | None = None
        self._publish(self._begun)

    # -- for readers --------------------------------------------------------------------------------------------------

    @property
    def body(self) -> bytes:
        """The status as JSON, made once per version."""
        if self._body is None:
            self._body = json.dumps(self.status.document(), separators=(",", ":"), ensure_ascii=False).encode()
        return self._body

    @property
    def ready(self) -> bool:
        """Whether every source has been asked once, whatever came of it."""
        return all(source.asked for source in self._sources)

    async def wait_newer(self, version: int) -> int:
        """Wait until there is a version above `version`, and return it. Without a deadline of its own."""
        while self.version <= version:
            await self._newer.wait()
        return self.version

    def workers(self) -> list[dict[str, object]]:
        """The workers of all sources that answer, as JSON objects; the ids are those that `snapshot` takes."""
        now = self._now()
        return [
            {**worker.document(), "id": f"{source.name}-{worker.id}", "source": source.name}
            for source in self._sources
            if (status := source.reading.current(now).status) is not None
            for worker in status.workers
        ]

    async def snapshot(self, worker: str) -> Snapshot:
        """The state of one worker, by the id in `workers`. Raises SnapshotError."""
        for source in sorted(self._sources, key=lambda source: len(source.name), reverse=True):
            name, own = source.name, worker.removeprefix(f"{source.name}-")
            if own != worker and _WORKER_ID.fullmatch(own) and own.strip("."):
                body = await source.snapshot(own)
                return Snapshot(f"{name}-{own}-{self._utcnow():%Y%m%dT%H%M%SZ}.json", body)
        raise SnapshotError(404, "no such worker")

    def events(self) -> list[dict[str, object]]:
        """The events of this process's life, newest first, `MOST_EVENTS` at most."""
        return [event.document() for event in reversed(self._events)]

    # -- what opsd counts of itself -----------------------------------------------------------------------------------

    @property
    def tmux_sessions(self) -> int:
        """Sessions of the local tmux."""
        return self._own.tmux_sessions

    @tmux_sessions.setter
    def tmux_sessions(self, sessions: int) -> None:
        if sessions != self._own.tmux_sessions:
            self._own = attrs.evolve(self._own, tmux_sessions=sessions)
            self._poke()

    def request_started(self) -> None:
        """A request of opsd's own API has come."""
        self._in_flight += 1

    def request_ended(self, seconds: float, status: int) -> None:
        """A request that had started has been answered with `status` after `seconds`, or has failed."""
        self._in_flight -= 1
        self._rolling.add(self._now(), Counters(answers=1, server_errors=int(status >= 500), seconds=seconds))

    # -- the life of the board ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run every source and keep the status new, until cancelled."""
        self._begun = trio.current_time()
        self._rolling.begin(self._begun)
        async with trio.open_nursery() as nursery:
            for source in self._sources:
                nursery.start_soon(self._keep, source)
            await self._keep_status()

    async def _keep(self, source: Source) -> None:
        """The barrier of one source: a bug in it costs its figures for a second."""
        while True:
            try:
                await source.run(self._poke)
            except Exception:  # noqa: BLE001 - the barrier: see above
                self._log.exception("source failed", source=source.name)
            await trio.sleep(RESTART_DELAY)

    async def _keep_status(self) -> None:
        last = trio.current_time()
        self._publish(last)
        tick = last + TICK
        while True:
            with trio.move_on_at(tick):
                await self._poked.wait()
                await trio.sleep_until(last + COALESCE)
            self._poked = trio.Event()
            last = trio.current_time()
            self._count(last)
            if last >= tick:
                self._sample(last)
                # Ticks that the machine had no time for are gone: two samples are never taken at once.
                tick = max(tick + TICK, last + TICK / 2)
            self._publish(last)

    def _poke(self) -> None:
        """Something is new."""
        self._poked.set()

    def _count(self, now: float) -> None:
        """Take in what the sources have newly counted."""
        for source in self._sources:
            known, status = self._known[source.name], source.reading.status
            if status is None or status is known.seen:
                continue
            known.seen = status
            if not source.outside:
                known.routes = len(status.routes)
                # A daemon that is younger than this board has counted nothing that was not under the board's eyes.
                fresh = status.uptime < now - self._begun
                self._rolling.add(now, known.growth.feed(status.totals(), status.members(), fresh=fresh))

    def _sample(self, now: float) -> None:
        """One sample of the error rate."""
        before = self._mode.mode
        error_rate = self._rolling.over(now, ERROR_WINDOW).added.error_rate
        if self._mode.sample(error_rate):
            self._happened("mode", before, self._mode.mode, error_rate)

    def _publish(self, now: float) -> None:
        """Make the status anew."""
        heard = [
            Heard(source.name, source.outside, source.reading.current(now), self._known[source.name].routes)
            for source in self._sources
        ]
        minute = self._rolling.over(now, MINUTE)
        error_rate = self._rolling.over(now, ERROR_WINDOW).added.error_rate
        own = attrs.evolve(self._own, in_flight=self._in_flight)
        vector, meta = vector_and_meta(heard, own, minute, error_rate, self._mode.mode)
        self.messages_per_second = self._rolling.over(now, MESSAGE_WINDOW).messages_per_second
        self.status = Status(self._timestamp(), vector, meta)
        self.version += 1
        self._body = None
        self._newer.set()
        self._newer = trio.Event()
        self._log_sources(heard)
        if self.ready:
            before, self._telemetry = self._telemetry, meta.telemetry_status
            if before is not None and before != meta.telemetry_status:
                self._happened("telemetry", before, meta.telemetry_status, error_rate)

    def _log_sources(self, heard: Sequence[Heard]) -> None:
        for source in heard:
            known, reading = self._known[source.name], source.reading
            available = reading.status is not None
            if available == known.available or reading == _UNASKED:
                continue
            known.available = available
            if available:
                self._log.info("source online", source=source.name)
            else:
                self._log.warning("source unavailable", source=source.name, error=reading.problem)

    def _happened(self, kind: str, before: str, after: str, error_rate: float) -> None:
        event = Event(self._timestamp(), kind, before, after, error_rate)
        self._events.append(event)
        text = "traffic mode changed" if kind == "mode" else "telemetry status changed"
        log = self._log.info if after in {"normal", "healthy"} else self._log.warning
        log(text, before=before, after=after, error_rate=round(error_rate, 6))
        if self._on_event is not None:
            self._on_event(event)

    def _timestamp(self) -> str:
        return self._utcnow().isoformat(timespec="milliseconds").replace("+00:00", "Z")

    @staticmethod
    def _now() -> float:
        return trio.current_time()


_UNASKED: Final = Reading()
