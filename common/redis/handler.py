"""Who is told what happens on a link: the interface between `Link` and its one handler, the hub of topics.

A handler lives as long as its link. All of it is called from the link's own tasks; an exception that is raised there is
logged with its traceback and ends nothing.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.logs import Logger
    from common.redis.connection import Batch
    from common.redis.errors import RedisError


class LinkHandler(Protocol):
    """What is said of the channels, and of the link as a whole."""

    async def on_messages(self, batch: Batch, read_at: float) -> None:
        """Messages of one read, by channel, in order; `read_at` is when their bytes were read.

        Nothing else is read from Redis until it returns.
        """

    def on_active(self, channel: bytes, gap: float | None) -> None:
        """Redis has acknowledged this channel; none of the messages that follow has been handed on yet.

        `gap` is None the first time; after an outage, the seconds without a byte from Redis.
        """

    def on_refused(self, channel: bytes, error: RedisError) -> None:
        """Redis does not let us hear this channel. No other is concerned; it is tried again at the next reconnect."""

    def on_lost(self) -> None:
        """The connection that was online has ended. What is published from now on is gone."""

    def on_online(self, gap: float | None) -> None:
        """Every subscription has been answered. `gap`: seconds without a byte from Redis, None the first time."""

    def on_exhausted(self) -> None:
        """`max_retries` attempts of this outage have failed. Once per outage; the attempts go on."""


class Guarded:
    """A handler behind a barrier: one that raises is a bug of its own, and the link lives on.

    Messages are handed on bare: who reads them has a barrier already.
    """

    def __init__(self, handler: LinkHandler, log: Logger) -> None:
        self.on_messages = handler.on_messages
        self._handler = handler
        self._log = log

    def on_active(self, channel: bytes, gap: float | None) -> None:
        """See `LinkHandler`."""
        with self._barrier("on_active"):
            self._handler.on_active(channel, gap)

    def on_refused(self, channel: bytes, error: RedisError) -> None:
        """See `LinkHandler`."""
        with self._barrier("on_refused"):
            self._handler.on_refused(channel, error)

    def on_lost(self) -> None:
        """See `LinkHandler`."""
        with self._barrier("on_lost"):
            self._handler.on_lost()

    def on_online(self, gap: float | None) -> None:
        """See `LinkHandler`."""
        with self._barrier("on_online"):
            self._handler.on_online(gap)

    def on_exhausted(self) -> None:
        """See `LinkHandler`."""
        with self._barrier("on_exhausted"):
            self._handler.on_exhausted()

    @contextmanager
    def _barrier(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception:  # noqa: BLE001 - the barrier: see the class
            self._log.exception("redis handler failed", handler=what)


class Deaf:
    """Hears nothing: for a link that asks and subscribes to nothing, or whose owner looks for itself."""

    async def on_messages(self, batch: Batch, read_at: float) -> None:
        """See `LinkHandler`."""

    def on_active(self, channel: bytes, gap: float | None) -> None:
        """See `LinkHandler`."""

    def on_refused(self, channel: bytes, error: RedisError) -> None:
        """See `LinkHandler`."""

    def on_lost(self) -> None:
        """See `LinkHandler`."""

    def on_online(self, gap: float | None) -> None:
        """See `LinkHandler`."""

    def on_exhausted(self) -> None:
        """See `LinkHandler`."""
