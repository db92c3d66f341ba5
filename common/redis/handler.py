"""Who is told what happens on a link: the interface between `Link` and its one handler, the hub of topics.

A handler lives as long as its link. All of it is called from the link's own tasks; an exception that is raised there is
logged with its traceback and ends nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from common.redis.connection import Batch
    from common.redis.errors import RedisError


class LinkHandler(Protocol):
    """What every handler wants to know: its channels."""

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

    def on_exhausted(self) -> None:
        """`max_retries` attempts of this outage have failed. Once per outage; the attempts go on."""


@runtime_checkable
class LinkListener(LinkHandler, Protocol):
    """A handler that also wants to know about the link as a whole, whatever its channels."""

    def on_lost(self) -> None:
        """The connection that was online has ended. What is published from now on is gone."""

    def on_online(self, gap: float | None) -> None:
        """Every subscription has been answered. `gap`: seconds without a byte from Redis, None the first time."""


class Deaf:
    """The handler of a link that only asks: it subscribes to nothing, so there is nothing to hear."""

    async def on_messages(self, batch: Batch, read_at: float) -> None:
        """See `LinkHandler`."""

    def on_active(self, channel: bytes, gap: float | None) -> None:
        """See `LinkHandler`."""

    def on_refused(self, channel: bytes, error: RedisError) -> None:
        """See `LinkHandler`."""

    def on_exhausted(self) -> None:
        """See `LinkHandler`."""
