"""What is to be heard in a cluster: a `Wish` for each channel, made of subscriptions on one connection or on several.

A wish is active when all that it needs is acknowledged, and not a moment longer. Which that is, its `ChannelPlan` says:

messages, `classic`   the channel, on the anchor: any node hands on what is published with PUBLISH
messages, `sharded`   the shard channel, at the slot's home
messages, `both`      the two of them
keyspace              the channel at the home of its key's slot, for only nodes that have the key notify; and beside it
                      a canary: a shard channel of the same slot, with the key as its name's tag, on which nothing is
                      ever published. The node ends it when the slot leaves, which it does not with the other
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import attrs
import trio

from common.redis.policy import Channels
from common.redis.slots import slot_of
from common.redis.subscription import CLASSIC, SHARD, Subscription, SubscriptionKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.redis.connection import Connection
    from common.redis.errors import RedisError
    from common.redis.handler import LinkHandler
    from common.redis.node import Node
    from common.redis.slots import Address
    from common.redis.url import PubSub

KEYSPACE_PREFIX: Final = b"__keyspace@0__:"
"""A cluster has database 0 only."""


@attrs.frozen
class ChannelPlan:
    """What a channel needs; see the module."""

    anchored: bool
    homed: bool
    keyspace: bool

    @property
    def warm(self) -> bool:
        """Whether every primary has a connection before there is a need: what is published while one opens is gone."""
        return self.homed and not self.keyspace

    def slot(self, channel: bytes) -> int:
        """The slot whose home hears `channel`."""
        return slot_of(channel.removeprefix(KEYSPACE_PREFIX) if self.keyspace else channel)

    def at_home(self, channel: bytes) -> list[tuple[bytes, SubscriptionKind]]:
        """What is subscribed to at the home, the canary last."""
        if not self.keyspace:
            return [(channel, SHARD)]
        # No name of a run has a brace in it (SPEC 1).
        return [(channel, CLASSIC), (b"%b{%b}" % (KEYSPACE_PREFIX, channel.removeprefix(KEYSPACE_PREFIX)), SHARD)]


def plan_of(channels: Channels, pubsub: PubSub) -> ChannelPlan:
    """The plan of a daemon's channels; `pubsub` is how messages are published."""
    if channels is Channels.MESSAGES:
        return ChannelPlan(anchored=pubsub != "sharded", homed=pubsub != "classic", keyspace=False)
    return ChannelPlan(anchored=False, homed=channels is Channels.KEYSPACE, keyspace=channels is Channels.KEYSPACE)


class HomePlace(Protocol):
    """Where legs are: a home (see there)."""

    address: Address
    node: Node | None
    aimed: dict[Wish, None]
    heard: dict[Wish, None]
    deaf: bool


class Leg(Subscription):
    """One subscription on one connection, for a wish; it is closed with the connection, if not before.

    `home` is where it is, None for the anchor's.
    """

    __slots__ = ("connection", "home", "wish")

    def __init__(
        self, channel: bytes, kind: SubscriptionKind, wish: Wish, connection: Connection, home: HomePlace | None
    ) -> None:
        super().__init__(channel, kind)
        self.wish = wish
        self.connection = connection
        self.home = home
        connection.subscribe(self)

    def leave(self, *, waited_for: bool = False) -> None:
        """Hand on nothing more from now on, and tell the node so."""
        if not self.closed:
            self.connection.unsubscribe(self, waited_for=waited_for)
            self.close()


class Wish:
    """One channel that somebody wants to hear. `subscription` is what they are given.

    `target` is the home where it is to be heard, `legs` are those that it has at one: at the target, or still at the
    home before while the target has no connection. `guest` is the channel's leg at the node that a slot is on its way
    to. `hops` counts how often it was sent on since the map was last read.
    """

    __slots__ = ("anchor", "guest", "hops", "legs", "plan", "slot", "subscription", "target")

    def __init__(self, channel: bytes, plan: ChannelPlan) -> None:
        self.subscription = Subscription(channel)
        self.plan = plan
        self.slot = plan.slot(channel)
        self.target: HomePlace | None = None
        self.anchor: Leg | None = None
        self.legs: list[Leg] = []
        self.guest: Leg | None = None
        self.hops = 0

    def __repr__(self) -> str:
        return f"<Wish {self.subscription!r} slot {self.slot}, {len(self.legs)} legs>"

    @property
    def channel(self) -> bytes:
        """Which it is."""
        return self.subscription.channel

    @property
    def complete(self) -> bool:
        """Whether all that it needs is acknowledged."""
        anchored = not self.plan.anchored or (self.anchor is not None and self.anchor.active)
        return anchored and (not self.plan.homed or (bool(self.legs) and all(leg.active for leg in self.legs)))


class Wanted:
    """All wishes of a link, by channel and by slot, and what its handler is told of them."""

    def __init__(self, plan: ChannelPlan, handler: LinkHandler) -> None:
        self.plan = plan
        self._handler = handler
        self._wishes: dict[bytes, Wish] = {}
        self._by_slot: dict[int, dict[Wish, None]] = {}

    def __len__(self) -> int:
        return len(self._wishes)

    def __iter__(self) -> Iterator[Wish]:
        return iter(list(self._wishes.values()))

    def get(self, channel: bytes) -> Wish | None:
        """The wish for `channel`, if there is one."""
        return self._wishes.get(channel)

    def in_slot(self, slot: int) -> list[Wish]:
        """The wishes that the home of `slot` is for."""
        return list(self._by_slot.get(slot, ()))

    def add(self, channel: bytes) -> Wish:
        """A new wish."""
        wish = self._wishes[channel] = Wish(channel, self.plan)
        self._by_slot.setdefault(wish.slot, {})[wish] = None
        return wish

    def discard(self, wish: Wish) -> None:
        """It is wanted no longer."""
        del self._wishes[wish.channel]
        in_slot = self._by_slot[wish.slot]
        del in_slot[wish]
        if not in_slot:
            del self._by_slot[wish.slot]

    def confirm(self, wish: Wish) -> None:
        """Something was acknowledged: tell, if that completes the wish."""
        subscription = wish.subscription
        if subscription.active or subscription.closed or not wish.complete:
            return
        now = trio.current_time()
        # It may have been refused before.
        subscription.rearm(now)
        since = subscription.heard_until
        subscription.activate()
        self._handler.on_active(wish.channel, None if since is None else now - since)

    def interrupt(self, wish: Wish, last_byte: float) -> None:
        """Something that it needs was last heard at `last_byte`, and has to be acknowledged anew."""
        wish.subscription.rearm(last_byte)

    def refuse(self, wish: Wish, error: RedisError) -> None:
        """The user may not hear it."""
        if not wish.subscription.closed:
            wish.subscription.refuse(error)
            self._handler.on_refused(wish.channel, error)
