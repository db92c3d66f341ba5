"""Which node each channel of a cluster is heard at: the map, the homes, and how a channel moves between them.

The rule of a move: a channel is handed on from one home only. The new home gets its connection while the old one is
still heard; then the old leg is left, from which moment nothing of it is handed on, and only then the new home is asked
to subscribe. A node passes SPUBLISH on to all nodes of its shard, so that two homes at a time would give messages
twice and out of order; what is published within the round trip of a move is lost instead.

What leads to a move: MOVED says where, for its slot (all that is wanted there moves at the first word of it). A node
that ends a shard channel does not say where, and is asked for its map at once. It is not asked for the channel again: a
replica takes the channels of its primary, so that one that was a primary until now would hand on what it is told to
publish, and the new primary once more. A map that was read anew moves what has another owner. A wish that was sent on
`MOST_HOPS` times waits for the next map.

An ASK is no move: the slot is on its way. The channel gets a guest's leg at the other node, until it has moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from common.quote import quote
from common.redis.errors import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    RedirectionError,
    RedisConnectionError,
    TryAgainError,
)
from common.redis.home import Home
from common.redis.session import bounded
from common.redis.slots import SlotMap, target_of
from common.redis.subscription import CLASSIC, SHARD
from common.redis.wanted import Leg

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from common.logs import Logger
    from common.redis.connection import Batch, Connection
    from common.redis.errors import RedisError
    from common.redis.node import Node, NodeOpener
    from common.redis.slots import Address
    from common.redis.subscription import Subscription
    from common.redis.wanted import HomePlace, Wanted, Wish

MOST_HOPS: Final = 5
"""How often a wish or a question is sent on before the map is read again."""

TRUST: Final = 2.0
"""Seconds for which MOVED counts more than a map: a node that answers for the slot knows better than any other."""

IDLE: Final = 60.0
"""Seconds after the last question that a connection is kept for, with nothing to be heard there."""

_PASSING: Final = (AskError, BusyLoadingError, ClusterDownError, TryAgainError)
"""What a node answers that can't serve a slot now, and may soon."""


class Homes:
    """See the module. It is its homes' `Keeper` and their connections' `Ears`.

    `redirections` counts each MOVED and ASK that was followed. `deliver` is given all messages; `doubt` is told when
    the map may be out of date, with the node that knows more.
    """

    def __init__(
        self,
        *,
        wanted: Wanted,
        opener: NodeOpener,
        deliver: Callable[[Connection, Batch, float], Awaitable[None]],
        doubt: Callable[[Node | None], None],
        request_timeout: float,
        log: Logger,
        rng: random.Random,
    ) -> None:
        self.slots = SlotMap()
        self.redirections = 0
        self.unsettled: dict[Wish, None] = {}
        """Wishes that wait for the next map."""
        self._wanted = wanted
        self._opener = opener
        self._deliver = deliver
        self._doubt = doubt
        self._request_timeout = request_timeout
        self._log = log
        self._rng = rng
        self._homes: dict[Address, Home] = {}
        self._said: dict[int, tuple[Address, float]] = {}
        """What MOVED said of a slot, and how long that counts."""
        self._nursery: trio.Nursery | None = None

    @property
    def live(self) -> list[Home]:
        """Those that have a connection."""
        return [home for home in self._homes.values() if home.node is not None]

    @property
    def all(self) -> list[Home]:
        """All of them."""
        return list(self._homes.values())

    async def run(self) -> None:
        """Own the homes' tasks, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for wish in self._wanted:
                    self.place(wish)
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self._homes.clear()

    # -- the map ------------------------------------------------------------------------------------------------------

    def apply(self, slots: SlotMap) -> bool:
        """A map that was read anew: move what has another owner, and try again what waits for it.

        Returns whether it agrees with what MOVED has said lately.
        """
        now = trio.current_time()
        self._said = {slot: said for slot, said in self._said.items() if said[1] > now}
        agrees = not [slot for slot, (address, _) in self._said.items() if slots.move(slot, address)]
        changed = self.slots.changes(slots)
        self.slots = slots
        if changed:
            self._log.info("redis cluster's map changed", slots=len(changed), primaries=len(slots.primaries))
            self._opener.keep([*slots.nodes, *self._homes])
        if changed and self._wanted.plan.warm and self._nursery is not None:
            for primary in slots.primaries:
                self._obtain(primary)
        for slot in changed:
            for wish in self._wanted.in_slot(slot):
                wish.hops = 0
                self.place(wish)
        unsettled, self.unsettled = self.unsettled, {}
        for wish in unsettled:
            wish.hops = 0
            self.place(wish, again=True)
        self.tidy()
        return agrees

    def moved(self, slot: int, address: Address | None, wish: Wish | None = None) -> None:
        """A node has said that `address` owns `slot`, None where it does not know; `wish` is whom it said it to."""
        if address is None:
            self._doubt(None)
            if wish is not None:
                self.unsettled[wish] = None
            return
        self._said[slot] = (address, trio.current_time() + TRUST)
        news = self.slots.move(slot, address)
        if news:
            self._doubt(None)
        # The first word of it moves all; each that has its own MOVED on the way is aimed already.
        for concerned in self._wanted.in_slot(slot) if news else [] if wish is None else [wish]:
            concerned.hops += 1
            if concerned.hops > MOST_HOPS:
                self.unsettled[concerned] = None
            else:
                self.place(concerned)
        if wish is not None and wish.target is not None and not wish.legs and wish.target.node is not None:
            # It is sent to where it has just been refused.
            self.unsettled[wish] = None
            self._doubt(None)

    # -- wishes -------------------------------------------------------------------------------------------------------

    def place(self, wish: Wish, *, again: bool = False) -> None:
        """Aim `wish` at the home of its slot; where it has a connection, it is heard there from now on.

        `again`: also if it is aimed there already, and lacks something.
        """
        if not wish.plan.homed or self._nursery is None:
            return
        address = self.slots.owner(wish.slot)
        if address is None:
            # It may still be heard where it is: that nobody knows the owner does not say that there is another.
            self.unsettled[wish] = None
            return
        target = wish.target
        if target is not None and target.address == address and (wish.legs or not again):
            return
        if target is not None:
            target.aimed.pop(wish, None)
        home = self._obtain(address)
        wish.target = home
        home.aimed[wish] = None
        if home.node is not None:
            self._take(home, home.node, wish)

    def drop(self, wish: Wish, *, waited_for: bool = False) -> None:
        """`wish` is wanted no longer."""
        self._leave(wish, waited_for=waited_for)
        self._part(wish, waited_for=waited_for)
        if wish.target is not None:
            wish.target.aimed.pop(wish, None)
        wish.target = None
        self.unsettled.pop(wish, None)

    def _take(self, home: HomePlace, node: Node, wish: Wish) -> None:
        """Hear `wish` at `home`, and nowhere else."""
        connection = node.session.connection
        # What was published since, and is not read, is lost.
        since = min([leg.connection.last_byte for leg in wish.legs], default=trio.current_time())
        self._leave(wish)
        if wish.guest is not None and wish.guest.connection is not connection:
            self._part(wish)
        guest, wish.guest = wish.guest, None
        self._wanted.interrupt(wish, since)
        for channel, kind in wish.plan.at_home(wish.channel):
            if guest is not None and kind is CLASSIC:
                wish.legs.append(guest)
            elif not (home.deaf and self._is_canary(wish, kind)):
                wish.legs.append(Leg(channel, kind, wish, connection, home))
        home.heard[wish] = None
        self._wanted.confirm(wish)

    def _leave(self, wish: Wish, *, waited_for: bool = False) -> None:
        """Hear `wish` at no home any more, but for its guest."""
        for leg in wish.legs:
            leg.leave(waited_for=waited_for)
            if leg.home is not None and (wish.guest is None or wish.guest.home is not leg.home):
                leg.home.heard.pop(wish, None)
        wish.legs = []

    def _part(self, wish: Wish, *, waited_for: bool = False) -> None:
        """Hear `wish` as a guest no more."""
        guest, wish.guest = wish.guest, None
        if guest is not None:
            guest.leave(waited_for=waited_for)
            if guest.home is not None and guest.home not in [leg.home for leg in wish.legs]:
                guest.home.heard.pop(wish, None)

    def _is_canary(self, wish: Wish, kind: object) -> bool:
        return wish.plan.keyspace and kind is SHARD

    # -- homes --------------------------------------------------------------------------------------------------------

    def _obtain(self, address: Address) -> Home:
        home = self._homes.get(address)
        if home is None:
            if self._nursery is None:
                raise RedisConnectionError("no connection to Redis")
            home = self._homes[address] = Home(
                address, opener=self._opener, keeper=self, ears=self, log=self._log, rng=self._rng
            )
            self._nursery.start_soon(home.run)
        return home

    def tidy(self) -> None:
        """End homes that are of no more use: nothing is heard or to be heard there, and nobody asks."""
        primaries = set(self.slots.primaries)
        for home in self.all:
            owns = home.address in primaries
            idle = trio.current_time() - home.asked_at > (IDLE if owns else self._request_timeout)
            if idle and not home.aimed and not home.heard and not (owns and self._wanted.plan.warm):
                home.scope.cancel()
                del self._homes[home.address]

    def on_live(self, home: Home) -> None:
        """See `Keeper`."""
        if home.node is not None:
            for wish in list(home.aimed):
                self._take(home, home.node, wish)

    def on_failed(self, home: Home) -> None:
        """See `Keeper`."""
        del home
        self._doubt(None)

    def on_lost(self, home: Home, last_byte: float) -> None:
        """See `Keeper`."""
        for wish in home.heard:
            for leg in [leg for leg in wish.legs if leg.home is home]:
                leg.close()
                wish.legs.remove(leg)
                self._wanted.interrupt(wish, last_byte)
            if wish.guest is not None and wish.guest.home is home:
                wish.guest.close()
                wish.guest = None
        home.heard.clear()
        if home.address in self._homes:
            # Else it is we who have ended it.
            self._doubt(None)

    # -- what their connections say -----------------------------------------------------------------------------------

    async def on_messages(self, connection: Connection, batch: Batch, read_at: float) -> None:
        """See `Ears`."""
        await self._deliver(connection, batch, read_at)

    def on_active(self, subscription: Subscription) -> None:
        """See `Ears`."""
        if isinstance(subscription, Leg):
            self._wanted.confirm(subscription.wish)

    def on_refused(self, subscription: Subscription, error: RedisError) -> None:
        """See `Ears`."""
        leg = subscription
        if not isinstance(leg, Leg) or leg.home is None:
            return
        wish, home = leg.wish, leg.home
        if leg is wish.guest:
            wish.guest = None
            return
        if self._is_canary(wish, leg.kind) and not isinstance(error, (MovedError, *_PASSING)):
            if not home.deaf:
                self._log.warning(
                    "redis cluster's map is polled",
                    warning="the user may not SSUBSCRIBE: a slot that moves is noticed late",
                    address=self._opener.where(home.address),
                    error=quote(str(error)),
                )
            home.deaf = True
            self._doubt(None)
            wish.legs.remove(leg)
            self._wanted.confirm(wish)
            return
        # Of a pair, the other half is of no use alone.
        self._leave(wish)
        self._wanted.interrupt(wish, trio.current_time())
        if isinstance(error, MovedError):
            self.redirections += 1
            self.moved(error.slot, target_of(error, home.address), wish)
        elif isinstance(error, _PASSING):
            self.unsettled[wish] = None
            self._doubt(None)
        else:
            self._wanted.refuse(wish, error)

    def on_dropped(self, subscription: Subscription) -> None:
        """See `Ears`. What has become of the slot its node is asked at once."""
        leg = subscription
        if not isinstance(leg, Leg) or leg.home is None or leg not in leg.wish.legs:
            return
        wish = leg.wish
        leg.close()
        self._leave(wish)
        self._wanted.interrupt(wish, leg.connection.heard_before)
        self.unsettled[wish] = None
        self._doubt(leg.home.node)

    # -- questions ----------------------------------------------------------------------------------------------------

    async def ask(
        self, slot: int, question: Callable[[Node, bool], Awaitable[object]], wish: Wish | None = None
    ) -> object:
        """Put a question about a key of `slot` to the node that has it; `question` is told whether to say ASKING.

        `wish` is the key's, if there is one: at a node that the key is on its way to, it is heard first. Raises what
        the question does, and RedisConnectionError where no node can answer now.
        """
        address, asking = self.slots.owner(slot), False
        for _ in range(MOST_HOPS):
            if address is None:
                self._doubt(None)
                raise RedisConnectionError(f"no node of the cluster is known to own slot {slot}")
            home, node = await self._connect(address)
            if asking and wish is not None:
                await self._hear_guest(wish, home, node)
            try:
                return await question(node, asking)
            except MovedError as error:
                address, asking = self._follow(error, home), False
                self.moved(slot, address)
            except AskError as error:
                address, asking = self._follow(error, home), True
            except (ClusterDownError, TryAgainError) as error:
                self._doubt(None)
                raise RedisConnectionError(str(error)) from error
        raise RedisConnectionError(f"slot {slot} is sent on from node to node")

    def _follow(self, error: RedirectionError, home: Home) -> Address | None:
        self.redirections += 1
        return target_of(error, home.address)

    async def node_of(self, address: Address) -> Node:
        """The node at `address`, with a connection. Raises RedisConnectionError if there is none in time."""
        return (await self._connect(address))[1]

    async def _connect(self, address: Address) -> tuple[Home, Node]:
        home = self._obtain(address)
        home.asked_at = trio.current_time()
        if home.node is None:
            await bounded(home.wait_live, self._request_timeout)
        if home.node is None:
            raise RedisConnectionError(f"no connection to {self._opener.where(address)}")
        return home, home.node

    async def _hear_guest(self, wish: Wish, home: Home, node: Node) -> None:
        """Subscribe to the wish's channel at the node that its slot is on its way to, within `request_timeout`."""
        connection = node.session.connection
        if wish.guest is not None and wish.guest.connection is not connection:
            self._part(wish)
        guest = wish.guest
        if guest is None and wish.target is not home:
            guest = wish.guest = Leg(wish.channel, CLASSIC, wish, connection, home)
            home.heard[wish] = None
        if guest is not None:
            await bounded(guest.wait_settled, self._request_timeout)
