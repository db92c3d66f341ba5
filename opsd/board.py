"""The board: the newest values of all sources, the newest status made of them, and what has changed.

The application makes one and owns the task of `run`, which ends only by cancellation; readers look at `status`, `body`
and `version`, or wait for a newer version. Each source lives in a task of its own, and no reader ever waits for one.

The status is made anew at every push of a source, at most once in `COALESCE` seconds (the first push of a burst at
once), and at every tick, once a second. Each time the version grows by one. Ticks are also what the traffic mode's
samples and the windows of the rates are counted in.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.quote import quote
from opsd.aggregate import Heard, Own, vector_and_meta
from opsd.changes import Changes
from opsd.crew import Crew
from opsd.events import GOOD, MODE, TELEMETRY, EventTopic
from opsd.sources.interface import SnapshotError
from opsd.traffic import Traffic
from opsd.vector import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from common.logs import Logger
    from common.telemetry.values import DaemonStatus
    from opsd.sources.interface import Source
    from opsd.vector import Meta, Mode

__all__ = ["Board", "SnapshotError", "WorkerSnapshot"]

COALESCE: Final = 0.02
"""Seconds between two recomputations at least."""

TICK: Final = 1.0
RESTART_DELAY: Final = 1.0
"""Seconds after which a source's task that failed by a bug is started again."""

_WORKER_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@attrs.frozen
class WorkerSnapshot:
    """A worker's state as a file to download."""

    filename: str
    body: bytes
    """Gzipped JSON."""


@attrs.define
class _Known:
    """What the board remembers of a source between two readings."""

    crew: Crew = attrs.field(factory=Crew)
    seen: DaemonStatus | None = None
    """The status that was counted last."""


class Board:
    """See the module. `own_routes` is the number of opsd's own routes."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        region: str,
        own_routes: int,
        log: Logger,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.version = 0
        """Grows by one with each status."""
        self.status: Status
        """The newest."""
        self.messages_per_second = 0.0
        """Over the last seconds, of all daemons."""
        self.error_rate = 0.0
        """Over the last minute; the status has that of five."""
        self._sources = tuple(sources)
        self._own = Own(region, own_routes)
        self._log = log
        self._utcnow = utcnow
        self._known = {source.name: _Known() for source in self._sources}
        self._traffic = Traffic(source.name for source in self._sources if not source.outside)
        self._changes = Changes(log, self._problem)
        self._in_flight = 0
        self._poked = trio.Event()
        self._newer = trio.Event()
        self._body: bytes | None = None
        self._publish(0.0)

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

    @property
    def source_names(self) -> tuple[str, ...]:
        """Of all sources, whether they answer or not."""
        return tuple(source.name for source in self._sources)

    @property
    def cpu_seconds(self) -> float:
        """User and system time of every daemon's process that this board has seen; it never falls."""
        return self._traffic.cpu_seconds

    @property
    def conditions(self) -> Mapping[EventTopic, str]:
        """How everything is that events tell of, as far as it is known."""
        return self._changes.conditions

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

    def routes(self) -> list[tuple[str, str]]:
        """The paths that the daemons serve, each with its source's name: the last that each has shown."""
        return [
            (source.name, route)
            for source in self._sources
            if not source.outside and (seen := self._known[source.name].seen) is not None
            for route in seen.routes
        ]

    async def snapshot(self, worker: str) -> WorkerSnapshot:
        """The state of one worker, by the id in `workers`. Raises SnapshotError."""
        for source in sorted(self._sources, key=lambda source: len(source.name), reverse=True):
            name, own = source.name, worker.removeprefix(f"{source.name}-")
            if own != worker and _WORKER_ID.fullmatch(own) and own.strip("."):
                body = await source.snapshot(own)
                return WorkerSnapshot(f"{name}-{own}-{self._utcnow():%Y%m%dT%H%M%SZ}.json", body)
        raise SnapshotError(404, "no such worker")

    def sources(self) -> list[dict[str, object]]:
        """How each source is, as JSON objects: `redis` is `online` where each of its workers says so."""
        now = self._now()
        found: list[dict[str, object]] = []
        for source in self._sources:
            reading, crew = source.reading.current(now), self._known[source.name].crew
            links = sorted({worker.redis for worker in reading.status.workers}) if reading.status is not None else []
            offline = [state for state in links if state != "online"]
            found.append(
                {
                    "name": source.name,
                    "outside": source.outside,
                    "available": reading.status is not None,
                    "draining": reading.status is not None and reading.status.draining,
                    "problem": quote(reading.problem),
                    "ready": crew.ready,
                    "workers": crew.expected,
                    "redis": offline[0] if offline else "online" if links else None,
                }
            )
        return found

    def resume_mode(self, mode: Mode) -> None:
        """Go on from the mode that an earlier process came to, unless this one knows better."""
        if not self._traffic.mode_known:
            self._traffic.resume_mode(mode)
            self._changes.conditions[MODE] = mode
            self._poke()

    def events(self) -> list[dict[str, object]]:
        """The events of this process's life, newest first, `MOST_EVENTS` at most."""
        return self._changes.documents()

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

    def request_ended(self) -> None:
        """A request that had started has been answered, or has failed. It is no user's: no rate is about it."""
        self._in_flight -= 1

    # -- the life of the board ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run every source and keep the status new, until cancelled."""
        self._traffic.begin(trio.current_time())
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
                self._traffic.sample(last, ready=self._all_ready())
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
                self._traffic.count(source.name, status, now)

    def _all_ready(self) -> bool:
        """Whether every daemon would serve a user now."""
        crews = [self._known[source.name].crew for source in self._sources if not source.outside]
        return bool(crews) and all(crew.complete for crew in crews)

    def _publish(self, now: float) -> None:
        """Make the status anew."""
        heard: list[Heard] = []
        for source in self._sources:
            known, reading = self._known[source.name], source.reading.current(now)
            known.crew.look(reading.status)
            routes = 0 if source.outside or known.seen is None else len(known.seen.routes)
            heard.append(Heard(source.name, source.outside, reading, routes, complete=known.crew.complete))
        minute = self._traffic.minute(now)
        own = attrs.evolve(self._own, in_flight=self._in_flight)
        vector, meta = vector_and_meta(heard, own, minute, self._traffic.error_rate(now), self._traffic.mode)
        self.messages_per_second = self._traffic.messages_per_second(now)
        self.error_rate = minute.added.error_rate
        self.status = Status(self._timestamp(), vector, meta)
        self.version += 1
        self._body = None
        self._changes.look(self._states(meta), self._timestamp(), self.error_rate)
        self._newer.set()
        self._newer = trio.Event()

    def _states(self, meta: Meta) -> dict[EventTopic, str]:
        """How everything is, as far as it is known."""
        states: dict[EventTopic, str] = {}
        for source in self._sources:
            if not source.asked:
                continue
            up = source.name not in meta.unavailable
            states[EventTopic("source", source.name)] = GOOD["source"] if up else "down"
            if up:
                states[EventTopic("workers", source.name)] = self._known[source.name].crew.state
        if self.ready:
            states[TELEMETRY] = meta.telemetry_status
        if self._traffic.mode_known:
            states[MODE] = self._traffic.mode
        return states

    def _problem(self, name: str) -> str:
        (source,) = (source for source in self._sources if source.name == name)
        return source.reading.current(self._now()).problem

    def _timestamp(self) -> str:
        return self._utcnow().isoformat(timespec="milliseconds").replace("+00:00", "Z")

    @staticmethod
    def _now() -> float:
        return trio.current_time()
