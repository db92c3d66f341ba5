"""Ears that remember: a link's handler, and a generator that keeps what it drew."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from common.redis.errors import RedisError


class RecordingHandler:
    """A `LinkHandler`. `events` has everything in order; `heard` the payloads by channel; `read_at` per batch."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.heard: dict[bytes, list[bytes]] = {}
        self.read_at: list[float] = []
        self.changed = trio.Event()

    def count(self, kind: str) -> int:
        """How many events of that kind there were."""
        return sum(event[0] == kind for event in self.events)

    async def on_messages(self, batch: dict[bytes, list[bytes]], read_at: float) -> None:
        """See `LinkHandler`."""
        for channel, payloads in batch.items():
            self.heard.setdefault(channel, []).extend(payloads)
        self.read_at.append(read_at)
        self._note("messages", batch)

    def on_active(self, channel: bytes, gap: float | None) -> None:
        """See `LinkHandler`."""
        self._note("active", channel, gap)

    def on_refused(self, channel: bytes, error: RedisError) -> None:
        """See `LinkHandler`."""
        self._note("refused", channel, error)

    def on_dropped(self, channel: bytes) -> None:
        """What a connection and a link tell of a shard channel that Redis has ended."""
        self._note("dropped", channel)

    def on_exhausted(self) -> None:
        """See `LinkHandler`."""
        self._note("exhausted", trio.current_time())

    def on_lost(self) -> None:
        """See `LinkHandler`."""
        self._note("lost", trio.current_time())

    def on_online(self, gap: float | None) -> None:
        """See `LinkHandler`."""
        self._note("online", gap)

    async def wait_for(self, kind: str, count: int = 1) -> None:
        """Wait until there were `count` events of that kind; a test's deadline bounds it."""
        while self.count(kind) < count:
            await self.changed.wait()

    def _note(self, *event: object) -> None:
        self.events.append(event)
        self.changed.set()
        self.changed = trio.Event()


class RecordingRandom(random.Random):
    """Seeded; keeps the bounds and the result of every `uniform`."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.drawn: list[tuple[float, float, float]] = []

    def uniform(self, a: float, b: float) -> float:
        """See `random.Random`."""
        value = super().uniform(a, b)
        self.drawn.append((a, b, value))
        return value


def delays_of_an_outage(count: int) -> list[tuple[float, float]]:
    """The bounds of SPEC 2 for the waits of one outage: before its first attempt, then after each that failed."""
    ceilings = [1, 2, 4, 8, 16, *[30] * count]
    return [(0, 0.5), *((ceiling / 2, ceiling) for ceiling in ceilings)][:count]
