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
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.quote import quote
from opsd.cpu import CpuTime
from opsd.crew import Crew
from opsd.events import GOOD, MODE, TELEMETRY, Event, Topic
from opsd.figures import Heard, Own, vector_and_meta
from opsd.modes import MODE_WINDOW, OUTAGE_WINDOW, ModeSwitch, mode_of, outage_of
from opsd.sources.source import SnapshotError
from opsd.vector import Status
from opsd.windows import Growth, Rolling, totals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from common.logs import Logger
    from common.telemetry.values import DaemonStatus
    from opsd.sources.source import Source
    from opsd.vector import Mode

__all__ = ["Board", "Snapshot", "SnapshotError"]

COALESCE: Final = 0.02
"""Seconds between two recomputations at least."""

TICK: Final = 1.0
MINUTE: Final = MODE_WINDOW
ERROR_WINDOW: Final = 300
MESSAGE_WINDOW: Final = 10
"""Seconds over which messages are counted for the history: long enough to be steady, short enough to show a burst."""

MOST_EVENTS: Final = 500
RESTART_DELAY: Final = 1.0
"""Seconds after which a source's task that failed by a bug is started again."""

_WORKER_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


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
    recent: Rolling = attrs.field(factory=lambda: Rolling(OUTAGE_WINDOW))
    crew: Crew = attrs.field(factory=Crew)
    seen: DaemonStatus | None = None
    """The status that was counted last."""
    routes: int = 0


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
        self.conditions: dict[Topic, str] = {}
        """How everything is that events tell of, as far as it is known."""
        self._sources = tuple(sources)
        self._own = Own(region, own_routes)
        self._log = log
        self._utcnow = utcnow
        self._cpu = CpuTime()
        self._known = {source.name: _Known() for source in self._sources}
        self._rolling = Rolling(ERROR_WINDOW)
        self._begun = 0.0
        self._in_flight = 0
        self._served = 0
        """Users, so far."""
        self._mode = ModeSwitch()
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

    @property
    def source_names(self) -> tuple[str, ...]:
        """Of all sources, whether they answer or not."""
        return tuple(source.name for source in self._sources)

    @property
    def cpu_seconds(self) -> float:
        """User and system time of every daemon's process that this board has seen; it never falls."""
        return self._cpu.seconds

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

    async def snapshot(self, worker: str) -> Snapshot:
        """The state of one worker, by the id in `workers`. Raises SnapshotError."""
        for source in sorted(self._sources, key=lambda source: len(source.name), reverse=True):
            name, own = source.name, worker.removeprefix(f"{source.name}-")
            if own != worker and _WORKER_ID.fullmatch(own) and own.strip("."):
                body = await source.snapshot(own)
                return Snapshot(f"{name}-{own}-{self._utcnow():%Y%m%dT%H%M%SZ}.json", body)
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
        if not self._mode.known:
            self._mode.resume(mode)
            self.conditions[MODE] = mode
            self._poke()

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

    def request_ended(self) -> None:
        """A request that had started has been answered, or has failed. It is no user's: no rate is about it."""
        self._in_flight -= 1

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
                self._cpu.feed(source.name, status.workers)
                # A daemon that is younger than this board has counted nothing that was not under the board's eyes.
                fresh = status.uptime < now - self._begun
                added = known.growth.feed(totals(status), status.members(), fresh=fresh)
                self._served += added.answers - added.server_errors
                self._rolling.add(now, added)
                known.recent.add(now, added)

    def _sample(self, now: float) -> None:
        """One sample of what users get."""
        minute = self._rolling.over(now, MODE_WINDOW).added.error_rate
        recent = (known.recent.over(now, OUTAGE_WINDOW).added for known in self._known.values())
        crews = [self._known[source.name].crew for source in self._sources if not source.outside]
        ready = bool(crews) and all(crew.complete for crew in crews)
        self._mode.sample(mode_of(minute), outage=outage_of(recent), served=self._served, ready=ready)

    def _publish(self, now: float) -> None:
        """Make the status anew."""
        heard: list[Heard] = []
        for source in self._sources:
            known, reading = self._known[source.name], source.reading.current(now)
            known.crew.look(reading.status)
            heard.append(Heard(source.name, source.outside, reading, known.routes, complete=known.crew.complete))
        minute = self._rolling.over(now, MINUTE)
        error_rate = self._rolling.over(now, ERROR_WINDOW).added.error_rate
        own = attrs.evolve(self._own, in_flight=self._in_flight)
        vector, meta = vector_and_meta(heard, own, minute, error_rate, self._mode.mode)
        self.messages_per_second = self._rolling.over(now, MESSAGE_WINDOW).messages_per_second
        self.error_rate = minute.added.error_rate
        self.status = Status(self._timestamp(), vector, meta)
        self.version += 1
        self._body = None
        self._tell_changes(meta.telemetry_status)
        self._newer.set()
        self._newer = trio.Event()

    def _tell_changes(self, telemetry: str) -> None:
        """Make events of what is another way than it was. How things are at the start is no event."""
        states: dict[Topic, str] = {}
        for source in self._sources:
            if not source.asked:
                continue
            known = self._known[source.name]
            up = source.name not in self.status.meta.unavailable
            states[Topic("source", source.name)] = GOOD["source"] if up else "down"
            if up:
                states[Topic("workers", source.name)] = known.crew.state
        if self.ready:
            states[TELEMETRY] = telemetry
        if self._mode.known:
            states[MODE] = self._mode.mode
        for topic, state in states.items():
            before = self.conditions.get(topic, topic.good if topic == MODE else None)
            self.conditions[topic] = state
            if before is None and topic.kind == "source":
                self._log_source(topic.source, state)
            if before is not None and before != state:
                self._happened(Event(self._timestamp(), topic, before, state, self.error_rate))

    def _log_source(self, name: str, state: str) -> None:
        if state == GOOD["source"]:
            self._log.info("source online", source=name)
            return
        (source,) = (source for source in self._sources if source.name == name)
        problem = source.reading.current(self._now()).problem
        self._log.warning("source unavailable", source=name, error=quote(problem))

    def _happened(self, event: Event) -> None:
        self._events.append(event)
        topic = event.topic
        if topic.kind == "source":
            self._log_source(topic.source, event.after)
            return
        text = _CHANGES[topic.kind]
        log = self._log.info if event.after == topic.good else self._log.warning
        fields = {"source": topic.source} if topic.source else {}
        log(text, **fields, before=event.before, after=event.after, error_rate=round(event.error_rate, 6))

    def _timestamp(self) -> str:
        return self._utcnow().isoformat(timespec="milliseconds").replace("+00:00", "Z")

    @staticmethod
    def _now() -> float:
        return trio.current_time()


_CHANGES: Final = {
    "mode": "traffic mode changed",
    "telemetry": "telemetry status changed",
    "workers": "workers changed",
}
