"""What was: a sample of the status every few seconds, in a capped Redis stream that survives opsd.

Several opsd may have one Redis: the keys are those of the sources that are looked at (`opsd.keys`).

The application makes one `History` and owns the task of `run`, which keeps the link to Redis and takes the samples
until it is cancelled. Without Redis there is no history, and nothing else suffers: `query` says so, samples are lost.

Each entry holds the time at which it was taken, by the clock of this machine. The entry's id only tells the order:
Redis never lets it go back, so that after a clock that was ahead ids may lie in the future for as long as that was.

A primary may become a replica without ending a connection, and refuses to write from then on. The connection is left
then, and where the name leads is asked anew.
"""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.daemons import OPS
from common.quote import quote
from common.redis.errors import RedisError, RedisRefused, RedisUnavailable
from common.redis.handler import Deaf
from common.redis.links import RedisLink, make_link
from common.redis.policy import Channels, Replica, policy_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from common.logs import Logger
    from opsd.board import Board
    from opsd.keys import Keys
    from opsd.settings import OpsSettings
    from opsd.vector import Mode, Status

INTERVAL: Final = 5.0
"""Seconds between two samples."""

MOST_POINTS: Final = 5000
LONGEST_MINUTES: Final = 31 * 1440

_PAGE: Final = 1000
"""Samples asked for at once: few enough that taking them in delays nobody by more than a few milliseconds."""

RECONNECT_GAP: Final = 1.0
"""Seconds between two connections that are left because nothing can be written on them."""

_RESTART_DELAY: Final = 10.0
_FIELD: Final = "v"
_TIME: Final = "t"
"""The field of the time, in milliseconds since 1970; entries of older versions have none, and count by their id."""

_NOT_PRIMARY: Final = frozenset({"READONLY", "MASTERDOWN"})
"""What a replica answers to a write, and to anything while it has lost its primary."""

_MILLISECONDS: Final = re.compile(rb"[0-9]{1,15}")
_ID: Final = re.compile(rb"([0-9]{1,20})-([0-9]{1,20})")
_SEVERITY: Final[dict[str, tuple[int, Mode]]] = {
    "normal": (0, "normal"),
    "degraded": (1, "degraded"),
    "isolated": (2, "isolated"),
}


class HistoryUnavailableError(Exception):
    """Redis can't be asked now; the message says why."""


@attrs.frozen
class Sample:
    """The figures that are charted, at one time, or of one stretch of time."""

    at: float
    """Seconds since 1970."""
    connections: float
    messages_per_second: float
    latency: float
    """Milliseconds."""
    error_rate: float
    mode: Mode

    def document(self) -> dict[str, object]:
        """As a JSON object."""
        time = datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"time": time, **self.figures(), "mode": self.mode}

    def encoded(self) -> str:
        """As it is kept in Redis, beside the time."""
        figures = (self.connections, self.messages_per_second, self.latency, self.error_rate)
        return ",".join([*(f"{figure:.7g}" for figure in figures), self.mode])

    def figures(self) -> dict[str, float]:
        """Those that have a lowest and a highest, by their JSON names."""
        return {
            "connections": round(self.connections, 3),
            "messagesPerSecond": round(self.messages_per_second, 3),
            "latency": round(self.latency, 3),
            "errorRate": round(self.error_rate, 6),
        }

    @classmethod
    def decoded(cls, at: float, value: bytes) -> Sample | None:
        """What `encoded` made; None for anything else."""
        try:
            connections, messages, latency, error_rate, mode = value.decode("ascii", "replace").split(",")
            sample = cls(at, float(connections), float(messages), float(latency), float(error_rate), _SEVERITY[mode][1])
        except (ValueError, KeyError):
            return None
        figures = (sample.connections, sample.messages_per_second, sample.latency, sample.error_rate)
        return sample if all(math.isfinite(figure) and figure >= 0 for figure in figures) else None


@attrs.frozen
class Point:
    """A stretch of time: its mean, with the largest error rate and the worst mode, at the time of its last sample."""

    mean: Sample
    low: Sample
    """The lowest of each figure."""
    high: Sample
    """The highest of each: a peak that the mean hides."""

    def document(self) -> dict[str, object]:
        """As a JSON object."""
        return {**self.mean.document(), "min": self.low.figures(), "max": self.high.figures()}


def downsample(samples: Iterable[Sample], start: float, end: float, points: int) -> list[Point]:
    """At most `points` points for what lies between two times, by equal stretches; empty ones are left out."""
    width = max(end - start, 1e-3) / points
    buckets: dict[int, list[Sample]] = {}
    for sample in samples:
        if start <= sample.at <= end:
            buckets.setdefault(min(int((sample.at - start) / width), points - 1), []).append(sample)
    return [_merged(bucket) for _, bucket in sorted(buckets.items())]


def _merged(bucket: list[Sample]) -> Point:
    def over(merge: Callable[[list[float]], float]) -> Sample:
        return Sample(
            at=max(sample.at for sample in bucket),
            connections=merge([sample.connections for sample in bucket]),
            messages_per_second=merge([sample.messages_per_second for sample in bucket]),
            latency=merge([sample.latency for sample in bucket]),
            error_rate=merge([sample.error_rate for sample in bucket]),
            mode=max(_SEVERITY[sample.mode] for sample in bucket)[1],
        )

    high = over(max)
    mean = attrs.evolve(over(lambda figures: sum(figures) / len(figures)), error_rate=high.error_rate)
    return Point(mean, over(min), high)


class History:
    """See the module. `link` is its own; `run` runs it. `wall` tells the time in seconds since 1970."""

    def __init__(
        self, link: RedisLink, keys: Keys, keep_seconds: float, log: Logger, *, wall: Callable[[], float] = time.time
    ) -> None:
        self.working = False
        """Whether the last sample was recorded; not before the first was."""
        self._link = link
        self._keys = keys
        self._keep = keep_seconds
        self._most = max(1, math.ceil(keep_seconds / INTERVAL))
        self._log = log
        self._wall = wall
        self._failing = False
        self._life = trio.CancelScope()
        """Of the link's run."""
        self._left_at = -math.inf

    @property
    def online(self) -> bool:
        """Whether Redis answers."""
        return self._link.online

    async def run(self, board: Board) -> None:
        """Keep the link, and take a sample of `board` every `INTERVAL`, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_link)
            while True:
                await trio.sleep(INTERVAL)
                try:
                    await self.record(board.status, board.messages_per_second)
                except HistoryUnavailableError as error:
                    # The link itself says when Redis goes and comes; what is left are refusals.
                    if self._link.online and not self._failing:
                        self._log.warning("history not recorded", error=str(error))
                    self._failing = True
                else:
                    if self._failing:
                        self._log.info("history recorded again")
                    self._failing = False

    async def record(self, status: Status, messages_per_second: float) -> None:
        """Keep one sample. Raises HistoryUnavailableError."""
        vector = status.vector
        sample = Sample(
            at=self._wall(),
            connections=vector.sessions.websocket_connections,
            messages_per_second=messages_per_second,
            latency=vector.directions.request_flow.avg_latency,
            error_rate=vector.others.error_rate,
            mode=vector.directions.traffic_mode,
        )
        # Rounded down: what is asked for at once must not lie in the future.
        milliseconds = max(0, int(sample.at * 1000))
        entry = (_FIELD, sample.encoded(), _TIME, milliseconds)
        try:
            await self._ask(self._keys.history, "XADD", self._keys.history, "MAXLEN", "~", self._most, "*", *entry)
        except HistoryUnavailableError:
            self.working = False
            raise
        self.working = True

    async def query(self, minutes: int, points: int) -> list[dict[str, object]]:
        """The last minutes in at most `points` samples, oldest first, as JSON objects; no more than is kept.

        Raises ValueError for a number that is out of range, HistoryUnavailableError when Redis can't be asked.
        """
        if not 1 <= minutes <= LONGEST_MINUTES or not 1 <= points <= MOST_POINTS:
            raise ValueError(f"minutes are 1 to {LONGEST_MINUTES}, points 1 to {MOST_POINTS}")
        end, span = self._wall(), min(minutes * 60, self._keep)
        start = end - span
        samples: list[Sample] = []
        # Ids never go back and an entry's is at no time before the clock of Redis then: from this one on there is
        # everything of that time, and after a clock that was ahead also what must be left out.
        position = f"{max(0, int((_seconds(await self._ask(self._keys.history, 'TIME')) - span) * 1000))}-0"
        while position:
            page, position = _page(
                await self._ask(self._keys.history, "XRANGE", self._keys.history, position, "+", "COUNT", _PAGE)
            )
            samples += (sample for sample in page if start <= sample.at <= end)
        return [point.document() for point in downsample(samples, start, end, points)]

    async def keep(self, text: str) -> None:
        """Keep a text of the alerts beside the samples, instead of the one before. Raises HistoryUnavailableError."""
        # A stream of one entry: the user needs no right beside those that samples need.
        await self._ask(self._keys.alerts, "XADD", self._keys.alerts, "MAXLEN", 1, "*", _FIELD, text)

    async def recall(self) -> str | None:
        """The text that was kept last, None if there is none. Raises HistoryUnavailableError."""
        match await self._ask(self._keys.alerts, "XRANGE", self._keys.alerts, "-", "+"):
            case [*_, [_, [*_, bytes(text)]]]:
                return text.decode("utf-8", "replace")
            case _:
                return None

    async def _ask(self, key: str, *args: bytes | str | int) -> object:
        """Ask the server that has `key`."""
        try:
            return await self._link.request(*args, key=key)
        except RedisError as error:
            if str(error).partition(" ")[0] in _NOT_PRIMARY:
                self._leave(str(error))
            raise HistoryUnavailableError(quote(str(error))) from error

    def _leave(self, why: str) -> None:
        """End the connection; the next one is made to wherever the name leads then."""
        now = trio.current_time()
        if now - self._left_at >= RECONNECT_GAP:
            self._left_at = now
            if not self._failing:
                self._log.warning("history: redis is no primary, connecting anew", error=quote(why))
            self._life.cancel()

    async def _keep_link(self) -> None:
        while True:
            with trio.CancelScope() as self._life:
                try:
                    await self._link.run()
                except (RedisRefused, RedisUnavailable) as error:
                    self._log.error("history is off: redis refuses", error=quote(str(error)), backoff=_RESTART_DELAY)
                await trio.sleep(_RESTART_DELAY)


def make_history_link(settings: OpsSettings, log: Logger, rng: random.Random) -> RedisLink:
    """The link that a `History` needs, not yet running. It never gives up."""
    policy = attrs.evolve(policy_of(settings, max_retries=0), replica=Replica.REFUSE)
    return make_link(
        url=settings.redis_url,
        password=settings.redis_password,
        sentinel_password=settings.sentinel_password,
        client_name=OPS.name,
        policy=policy,
        handler=Deaf(),
        log=log,
        rng=rng,
        channels=Channels.NONE,
    )


def _seconds(reply: object) -> float:
    """What TIME answers, in seconds since 1970."""
    if isinstance(reply, list) and len(reply) == 2 and all(isinstance(part, bytes) for part in reply):
        return int(reply[0]) + int(reply[1]) / 1e6
    raise HistoryUnavailableError("Redis answers TIME with something else")


def _page(reply: object) -> tuple[list[Sample], str]:
    """The samples of one XRANGE and where the next page begins; empty when this was the last."""
    samples: list[Sample] = []
    entries = reply if isinstance(reply, list) else []
    position = ""
    for entry in entries:
        match entry:
            case [bytes(name), [*parts]] if found := _ID.fullmatch(name):
                position = f"{found[1].decode()}-{int(found[2]) + 1}"
                # Other entries are somebody else's.
                fields = dict(zip(parts[::2], parts[1::2], strict=False))
                value, at = fields.get(_FIELD.encode()), fields.get(_TIME.encode(), found[1])
                if isinstance(value, bytes) and isinstance(at, bytes) and _MILLISECONDS.fullmatch(at):
                    sample = Sample.decoded(int(at) / 1000, value)
                    samples += [] if sample is None else [sample]
    return samples, position if len(entries) == _PAGE else ""
