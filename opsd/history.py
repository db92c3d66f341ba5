"""What was: a sample of the status every few seconds, in a capped Redis stream that survives opsd.

The application makes one `History` and owns the task of `run`, which keeps the link to Redis and takes the samples
until it is cancelled. Without Redis there is no history, and nothing else suffers: `query` says so, samples are lost.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.redis.errors import RedisError, RedisRefused, RedisUnavailable
from common.redis.link import Link, LinkPolicy

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from common.logs import Logger
    from common.redis.connection import Batch
    from opsd.board import Board
    from opsd.settings import OpsSettings
    from opsd.vector import Mode, Status

KEY: Final = "opsd:history"
INTERVAL: Final = 5.0
"""Seconds between two samples."""

MOST_POINTS: Final = 5000
LONGEST_MINUTES: Final = 31 * 1440

_PAGE: Final = 1000
"""Samples asked for at once: few enough that taking them in delays nobody by more than a few milliseconds."""

_RESTART_DELAY: Final = 10.0
_FIELD: Final = "v"
_ID: Final = re.compile(rb"([0-9]{1,15})-([0-9]{1,20})")
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
        return {
            "time": time,
            "connections": round(self.connections, 3),
            "messagesPerSecond": round(self.messages_per_second, 3),
            "latency": round(self.latency, 3),
            "errorRate": round(self.error_rate, 6),
            "mode": self.mode,
        }

    def encoded(self) -> str:
        """As it is kept in Redis, which keeps the time."""
        figures = (self.connections, self.messages_per_second, self.latency, self.error_rate)
        return ",".join([*(f"{figure:.7g}" for figure in figures), self.mode])

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


def downsample(samples: Iterable[Sample], start: float, end: float, points: int) -> list[Sample]:
    """At most `points` samples for what lies between two times, by equal stretches; empty ones are left out.

    Each is the mean of its stretch, with the largest error rate and the worst mode of it, at the time of its last.
    """
    width = max(end - start, 1e-3) / points
    buckets: dict[int, list[Sample]] = {}
    for sample in samples:
        if start <= sample.at <= end:
            buckets.setdefault(min(int((sample.at - start) / width), points - 1), []).append(sample)
    return [_merged(bucket) for _, bucket in sorted(buckets.items())]


def _merged(bucket: list[Sample]) -> Sample:
    count = len(bucket)
    return Sample(
        at=max(sample.at for sample in bucket),
        connections=sum(sample.connections for sample in bucket) / count,
        messages_per_second=sum(sample.messages_per_second for sample in bucket) / count,
        latency=sum(sample.latency for sample in bucket) / count,
        error_rate=max(sample.error_rate for sample in bucket),
        mode=max(_SEVERITY[sample.mode] for sample in bucket)[1],
    )


class History:
    """See the module. `link` is its own; `run` runs it."""

    def __init__(self, link: Link, keep_seconds: float, log: Logger) -> None:
        self._link = link
        self._keep = keep_seconds
        self._most = max(1, math.ceil(keep_seconds / INTERVAL))
        self._log = log
        self._failing = False

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
                    self._failing = False

    async def record(self, status: Status, messages_per_second: float) -> None:
        """Keep one sample. Raises HistoryUnavailableError."""
        vector = status.vector
        sample = Sample(
            at=0.0,
            connections=vector.sessions.websocket_connections,
            messages_per_second=messages_per_second,
            latency=vector.directions.request_flow.avg_latency,
            error_rate=vector.others.error_rate,
            mode=vector.directions.traffic_mode,
        )
        await self._ask("XADD", KEY, "MAXLEN", "~", self._most, "*", _FIELD, sample.encoded())

    async def query(self, minutes: int, points: int) -> list[dict[str, object]]:
        """The last minutes in at most `points` samples, oldest first, as JSON objects; no more than is kept.

        Raises ValueError for a number that is out of range, HistoryUnavailableError when Redis can't be asked.
        """
        if not 1 <= minutes <= LONGEST_MINUTES or not 1 <= points <= MOST_POINTS:
            raise ValueError(f"minutes are 1 to {LONGEST_MINUTES}, points 1 to {MOST_POINTS}")
        # By Redis's clock, which the samples have their times from.
        end = _seconds(await self._ask("TIME"))
        start = end - min(minutes * 60, self._keep)
        samples: list[Sample] = []
        position = f"{int(start * 1000)}-0"
        while position:
            page, position = _page(await self._ask("XRANGE", KEY, position, "+", "COUNT", _PAGE))
            samples += page
        return [sample.document() for sample in downsample(samples, start, end, points)]

    async def _ask(self, *args: bytes | str | int) -> object:
        try:
            return await self._link.request(*args)
        except RedisError as error:
            raise HistoryUnavailableError(str(error)) from error

    async def _keep_link(self) -> None:
        while True:
            try:
                await self._link.run()
            except (RedisRefused, RedisUnavailable) as error:
                self._log.error("history is off: redis refuses", error=str(error), backoff=_RESTART_DELAY)
            await trio.sleep(_RESTART_DELAY)


def make_link(settings: OpsSettings, log: Logger, rng: random.Random) -> Link:
    """The link that a `History` needs, not yet running. It never gives up."""
    policy = LinkPolicy(
        request_timeout=settings.redis_request_timeout,
        retry_base=settings.redis_retry_base,
        retry_max=settings.redis_retry_max,
        max_retries=0,
    )
    return Link(settings.redis_url, settings.redis_password, "opsd", policy, _Deaf(), log, rng)


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
            case [bytes(name), [_, bytes(value)]] if found := _ID.fullmatch(name):
                position = f"{found[1].decode()}-{int(found[2]) + 1}"
                if (sample := Sample.decoded(int(found[1]) / 1000, value)) is not None:
                    samples.append(sample)
            case [bytes(name), *_] if found := _ID.fullmatch(name):
                # Somebody else's entry.
                position = f"{found[1].decode()}-{int(found[2]) + 1}"
    return samples, position if len(entries) == _PAGE else ""


class _Deaf:
    """Hears nothing: the history subscribes to nothing, and the link logs by itself."""

    async def on_messages(self, batch: Batch, read_at: float) -> None:
        """See `LinkHandler`."""

    def on_active(self, channel: bytes, gap: float | None) -> None:
        """See `LinkHandler`."""

    def on_refused(self, channel: bytes, error: Exception) -> None:
        """See `LinkHandler`."""

    def on_exhausted(self) -> None:
        """See `LinkHandler`."""
