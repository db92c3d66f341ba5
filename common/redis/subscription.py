"""One channel that a link listens to: a value that outlives connections.

The link makes it in `subscribe` and closes it in `unsubscribe`; each connection in turn tells it how Redis answered.
Subscribing again after an unsubscribe makes a new one, which is how the tail of the old one is told apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.redis.errors import RedisConnectionError

if TYPE_CHECKING:
    from common.redis.errors import RedisError


@attrs.frozen(eq=False)
class SubscriptionKind:
    """How a channel is heard: the commands that begin and end it, and the pushes' first words. There are two."""

    subscribe: str
    unsubscribe: str
    active: bytes
    """The push that acknowledges."""


CLASSIC: Final = SubscriptionKind("SUBSCRIBE", "UNSUBSCRIBE", b"subscribe")
"""Published with PUBLISH; in a cluster every node hands it on."""

SHARD: Final = SubscriptionKind("SSUBSCRIBE", "SUNSUBSCRIBE", b"ssubscribe")
"""Published with SPUBLISH; heard of the nodes that serve the channel's slot only, which end it when it leaves them."""


class Subscription:
    """What became of the wish to hear `channel`. Read by everyone, changed by the link and its connection only.

    `active`: Redis acknowledged it on the connection that lives now. `refused`: Redis answered with this error instead;
    it is tried again at the next reconnect. `closed`: unsubscribed, for good. `heard_until`: the time of the last byte
    from Redis before the last outage; None while there has been none since it was first active.
    """

    __slots__ = ("_waiters", "active", "channel", "closed", "heard_until", "kind", "refused")

    def __init__(self, channel: bytes, kind: SubscriptionKind = CLASSIC) -> None:
        self.channel = channel
        self.kind = kind
        self.active = False
        self.refused: RedisError | None = None
        self.closed = False
        self.heard_until: float | None = None
        self._waiters = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "active" if self.active else "refused" if self.refused else "pending"
        return f"<Subscription {self.channel!r} {state}>"

    @property
    def settled(self) -> bool:
        """Whether there is nothing to wait for: active, refused or closed."""
        return self.active or self.refused is not None or self.closed

    def check(self) -> None:
        """Raise the error with which Redis refused it, or RedisConnectionError if it is closed; not if it is active."""
        if self.active:
            return
        if self.refused is not None:
            # One refusal may have many waiters: each raises an exception of its own.
            raise type(self.refused)(*self.refused.args) from self.refused
        if self.closed:
            raise RedisConnectionError("unsubscribed while waiting for Redis")

    async def wait_settled(self) -> None:
        """Wait until it is settled. It has no deadline of its own: see `Link.wait_active`."""
        await trio.lowlevel.checkpoint()
        while not self.settled:
            await self._waiters.park()

    def activate(self) -> None:
        """Redis acknowledged it."""
        self.active = True
        self._waiters.unpark_all()

    def refuse(self, error: RedisError) -> None:
        """Redis answered with an error. Without effect while another connection hears the channel."""
        if not self.active:
            self.refused = error
            self._waiters.unpark_all()

    def lose(self, error: RedisError) -> None:
        """The connection that takes over may not hear what the one before it could."""
        self.active = False
        self.refuse(error)

    def rearm(self, last_byte: float) -> None:
        """The connection is gone, silent since `last_byte`: nothing that Redis said about it holds any more."""
        if self.active:
            self.heard_until = last_byte
        self.active = False
        self.refused = None

    def close(self) -> None:
        """Nobody listens any more."""
        self.closed = True
        self.active = False
        self._waiters.unpark_all()
