"""The connection to any node of a cluster: classic messages, the map, and questions that are about no key.

It is what makes a cluster's link online. When its node is lost, or cut off from the majority, another one is tried at
once, all that are known and then those of the URL; only when none can be had there is an outage, with its delays
(`attempts`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from common.quote import quote
from common.redis.discovery import open_first
from common.redis.errors import RedisError
from common.redis.slots import parse_slots
from common.redis.subscription import CLASSIC
from common.redis.survey import SLOTS_QUESTION
from common.redis.wanted import Leg

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from common.logs import Logger
    from common.redis.attempts import Attempts
    from common.redis.connection import Batch, Connection
    from common.redis.handler import LinkHandler
    from common.redis.node import Node, NodeOpener
    from common.redis.slots import Address, SlotMap
    from common.redis.subscription import Subscription
    from common.redis.wanted import Wanted, Wish

BRIEF: Final = 1.0
"""Seconds: a connection that ends sooner is not followed by the next one at once, for all nodes may do the same."""


class Anchor:
    """See the module. `node` is there while there is a connection that has not been noticed to end.

    `known` are the nodes of the map; `seeds` those of the URL. `apply` is given the map that each node it comes to has.
    The fields from `state` on are as `LinkState` has them; `reconnects` is the link's.
    """

    def __init__(
        self,
        *,
        opener: NodeOpener,
        wanted: Wanted,
        attempts: Attempts,
        seeds: tuple[Address, ...],
        known: Callable[[], tuple[Address, ...]],
        apply: Callable[[SlotMap], bool],
        deliver: Callable[[Connection, Batch, float], Awaitable[None]],
        handler: LinkHandler,
        log: Logger,
        rng: random.Random,
    ) -> None:
        self.node: Node | None = None
        self.reconnects = 0
        self.state = "idle"
        self.attempt = 0
        self.since = 0.0
        self._opener = opener
        self._wanted = wanted
        self._attempts = attempts
        self._seeds = seeds
        self._known = known
        self._apply = apply
        self._deliver = deliver
        self._handler = handler
        self._log = log
        self._rng = rng
        self._online = trio.Event()
        self._last_byte: float | None = None
        """When the connection that was online last heard of Redis; None until there was one."""
        self._left: Address | None = None
        """The node that was lost last, which is tried after all others."""

    @property
    def online(self) -> bool:
        """Whether it has a node that answers, and all that is heard there has been answered."""
        return self._online.is_set() and self.node is not None and self.node.session.connection.error is None

    async def wait_online(self) -> None:
        """Wait until it is online. Without a deadline of its own."""
        await self._online.wait()

    # -- wishes -------------------------------------------------------------------------------------------------------

    def hear(self, wish: Wish) -> None:
        """Subscribe for `wish` if it needs that, and there is a connection."""
        if wish.plan.anchored and self.node is not None:
            wish.anchor = Leg(wish.channel, CLASSIC, wish, self.node.session.connection, None)

    def drop(self, wish: Wish, *, waited_for: bool = False) -> None:
        """`wish` is wanted no longer."""
        if wish.anchor is not None:
            wish.anchor.leave(waited_for=waited_for)
            wish.anchor = None

    # -- the life of it -----------------------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Keep a node until cancelled; `started()` when it is online for the first time.

        Before that, raises what `Attempts.failed` does.
        """
        try:
            while True:
                number = self._attempts.number
                self._enter("connecting", number)
                log = self._log.info if number == 1 else self._log.debug
                log("redis connecting", attempt=number, nodes=len(self._candidates()))
                try:
                    node = await open_first(self._candidates(), self._open)
                    ended = await self._live(node, task_status)
                except RedisError as error:
                    ended = error
                delay = self._ended(ended)
                self._enter("waiting", self._attempts.number)
                await trio.sleep(delay)
        finally:
            self._enter("stopped", 0)
            self._online = trio.Event()

    def _candidates(self) -> list[Address]:
        """Every node that may be had, each once: those that are known, in no order, and last the one just lost."""
        known = list(self._known())
        self._rng.shuffle(known)
        return sorted(dict.fromkeys([*known, *self._seeds]), key=lambda address: address == self._left)

    async def _open(self, address: Address) -> Node:
        node = await self._opener.open(address, self, SLOTS_QUESTION)
        try:
            parse_slots(node.answers[0], address)
        except RedisError:
            await trio.aclose_forcefully(node.opened.stream)
            raise
        return node

    async def _live(self, node: Node, task_status: trio.TaskStatus[None]) -> RedisError:
        """Serve `node` until it ends; return why."""
        connection = node.session.connection
        self.node = node
        self._left = node.address
        try:
            self._apply(parse_slots(node.answers[0], node.address))
            for wish in self._wanted:
                self.hear(wish)
            return await self._opener.serve(node, lambda: self._come_online(node, task_status))
        finally:
            self.node = None
            if self._online.is_set():
                self._last_byte = connection.last_byte
            for wish in self._wanted:
                if wish.anchor is not None:
                    wish.anchor.close()
                    wish.anchor = None
                    self._wanted.interrupt(wish, connection.last_byte)

    async def _come_online(self, node: Node, task_status: trio.TaskStatus[None]) -> None:
        """Wait until everything that was subscribed has been answered, then say so."""
        if self._wanted.plan.anchored and len(self._wanted) and not await node.session.wait_subscribed():
            return
        first = self._last_byte is None
        gap = None if self._last_byte is None else trio.current_time() - self._last_byte
        self.reconnects += 1
        self._log.info(
            "redis online",
            attempt=self.attempt,
            address=self._opener.where(node.address),
            subscriptions=len(self._wanted),
            outage=None if gap is None else round(gap, 3),
        )
        self._enter("online", self.attempt)
        self._last_byte = node.session.connection.last_byte
        self._attempts.succeeded()
        self._online.set()
        self._handler.on_online(gap)
        if first:
            task_status.started()

    def _ended(self, error: RedisError) -> float:
        """A connection or a round of attempts has ended: say so, and return the seconds until the next one."""
        if not self._online.is_set():
            return self._attempts.failed(error, at_start=self._last_byte is None)
        online = trio.current_time() - self.since
        self._log.warning("redis stream interrupted", error=quote(str(error)), online=round(online, 3))
        self._online = trio.Event()
        self._handler.on_lost()
        delay = self._attempts.lost(online)
        return 0.0 if online >= BRIEF else delay

    def _enter(self, state: str, attempt: int) -> None:
        self.state = state
        self.attempt = attempt
        self.since = trio.current_time()

    # -- what its connection says -------------------------------------------------------------------------------------

    async def on_messages(self, connection: Connection, batch: Batch, read_at: float) -> None:
        """See `Ears`."""
        await self._deliver(connection, batch, read_at)

    def on_active(self, subscription: Subscription) -> None:
        """See `Ears`."""
        if isinstance(subscription, Leg):
            self._wanted.confirm(subscription.wish)

    def on_refused(self, subscription: Subscription, error: RedisError) -> None:
        """See `Ears`."""
        if isinstance(subscription, Leg):
            self._wanted.refuse(subscription.wish, error)

    def on_dropped(self, subscription: Subscription) -> None:
        """See `Ears`. No shard channel is heard here."""
