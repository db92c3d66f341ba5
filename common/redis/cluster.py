"""The link to a cluster: see `RedisLink` for what it is asked.

    anchor    any node: what is published with PUBLISH, and what makes the link online
    homes     the primaries that own what is wanted: shard channels, notifications of keys, questions about keys
    survey    the map, read anew when it is doubted

An outage of some slots is no outage of the link: only what is wanted there waits, `describe` remarks on it, and the
link is online while its anchor is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from common.histogram import Histogram
from common.redis.anchor import Anchor
from common.redis.attempts import Attempts
from common.redis.errors import (
    OutageError,
    RedisConnectionError,
    RedisRefused,
    RedisTimeoutError,
    RedisUnavailable,
)
from common.redis.handler import Guarded
from common.redis.homes import Homes
from common.redis.node import NodeOpener
from common.redis.session import bounded
from common.redis.slots import slot_of
from common.redis.state import LinkState, NodeState
from common.redis.survey import Survey
from common.redis.wanted import KEYSPACE_PREFIX, Wanted, plan_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from common.logs import Logger
    from common.redis.connection import Batch, Connection
    from common.redis.handler import LinkHandler
    from common.redis.home import Home
    from common.redis.node import Node
    from common.redis.opening import Connect
    from common.redis.policy import Channels, LinkPolicy
    from common.redis.slots import Address, SlotMap
    from common.redis.subscription import Subscription
    from common.redis.url import RedisURL
    from common.redis.wanted import Wish
    from common.secret import Secret

POLLING: Final = 2.0
"""Seconds between two maps while no canary may be had: what a moved slot may be stale for."""

UNSETTLED: Final = 0.5
"""The same while something that is wanted has no node."""

QUIET: Final = 30.0
"""The same while nothing is amiss: replicas come and go without a word."""


class ClusterLink:
    """See the module. The counters only grow: see `RedisLink`.

    `password` is used when `url` has none, and is read again at every connection. `connect` replaces the opening of
    every socket.
    """

    def __init__(
        self,
        *,
        url: RedisURL,
        password: Secret | None = None,
        client_name: str,
        policy: LinkPolicy,
        handler: LinkHandler,
        log: Logger,
        rng: random.Random,
        channels: Channels,
        connect: Connect | None = None,
    ) -> None:
        self.timeouts = 0
        self.role_changes = 0
        self.round_trips = Histogram()
        self._url = url
        self._policy = policy
        self._handler = handler
        guarded = Guarded(handler, log)
        self._log = log
        self._delivering = trio.Lock()
        self._wanted = Wanted(plan_of(channels, url.pubsub), guarded)
        self._attempts = Attempts(policy=policy, on_exhausted=guarded.on_exhausted, log=log, rng=rng)
        self._opener = NodeOpener(
            url=url,
            password=password,
            connect=connect,
            client_name=client_name,
            policy=policy,
            on_timeout=self._note_timeout,
            on_round_trip=self.round_trips.observe,
            rng=rng,
            log=log,
        )
        self._survey = Survey(pick=self._pick, apply=self._apply, patience=self._patience, rng=rng, log=log)
        self._homes = Homes(
            wanted=self._wanted,
            opener=self._opener,
            deliver=self._deliver,
            doubt=self._survey.doubt,
            request_timeout=policy.request_timeout,
            log=log,
            rng=rng,
        )
        self._anchor = Anchor(
            opener=self._opener,
            wanted=self._wanted,
            attempts=self._attempts,
            seeds=url.hosts,
            known=lambda: self._homes.slots.nodes,
            apply=self._homes.apply,
            deliver=self._deliver,
            handler=guarded,
            log=log,
            rng=rng,
        )

    def __repr__(self) -> str:
        return f"<ClusterLink {self._url.masked()} {self._anchor.state}, {len(self._wanted)} subscriptions>"

    @property
    def reconnects(self) -> int:
        """See `RedisLink`."""
        return self._anchor.reconnects

    @property
    def redirections(self) -> int:
        """See `RedisLink`."""
        return self._homes.redirections

    @property
    def refreshes(self) -> int:
        """How often the map was read because it was doubted, or had grown old."""
        return self._survey.refreshes

    @property
    def online(self) -> bool:
        """See `RedisLink`."""
        return self._anchor.online

    @property
    def obstacle(self) -> str | None:
        """See `RedisLink`."""
        return self._attempts.obstacle

    @property
    def db(self) -> int:
        """A cluster has one."""
        return 0

    async def wait_online(self) -> None:
        """See `RedisLink`."""
        await self._anchor.wait_online()

    def describe(self) -> LinkState:
        """See `RedisLink`. The anchor comes first."""
        anchor, slots = self._anchor, self._homes.slots
        roles, ranges = slots.roles(), slots.ranges()

        def state_of(address: Address, node: Node | None, state: str, subscriptions: int) -> NodeState:
            role = roles.get(address) or (None if node is None else node.role)
            return NodeState(self._opener.where(address), role, ranges.get(address, ""), state, subscriptions)

        nodes: list[NodeState] = []
        if anchor.node is not None:
            heard = sum(wish.anchor is not None for wish in self._wanted)
            state = "online" if anchor.online else "connecting"
            nodes.append(state_of(anchor.node.address, anchor.node, state, heard))
        nodes += [
            state_of(home.address, home.node, "connecting" if home.node is None else "online", len(home.heard))
            for home in self._homes.all
        ]
        return LinkState(
            anchor.state,
            anchor.attempt,
            anchor.since,
            self._url.masked(),
            len(self._wanted),
            tuple(nodes),
            tuple(self._remarks()),
        )

    def _remarks(self) -> list[str]:
        """What an operator should know though the link is online."""
        remarks = []
        homes = self._homes
        if self._anchor.node is not None and homes.slots.unserved:
            remarks.append(f"{homes.slots.unserved} slots of the cluster have no node")
        lost = [home for home in homes.all if home.aimed and home.node is None]
        remarks += [
            f"no connection to {self._opener.where(home.address)}: {len(home.aimed)} subscriptions wait"
            for home in lost
        ]
        if any(home.deaf for home in homes.live):
            remarks.append(f"the user may not SSUBSCRIBE: a moved slot is noticed within {POLLING:g} s")
        return remarks

    # -- subscriptions and requests -----------------------------------------------------------------------------------

    def subscribe(self, channel: bytes) -> Subscription:
        """See `RedisLink`."""
        wish = self._wanted.get(channel)
        if wish is None:
            wish = self._wanted.add(channel)
            self._anchor.hear(wish)
            self._homes.place(wish)
        return wish.subscription

    def unsubscribe(self, channel: bytes) -> None:
        """See `RedisLink`."""
        wish = self._wanted.get(channel)
        if wish is not None:
            self._give_back(wish)

    async def unsubscribe_all(self) -> None:
        """See `RedisLink`."""
        for wish in self._wanted:
            self._give_back(wish, waited_for=True)
        anchor = [] if self._anchor.node is None else [self._anchor.node]
        async with trio.open_nursery() as nursery:
            for node in [*anchor, *(home.node for home in self._homes.live if home.node is not None)]:
                nursery.start_soon(node.session.wait_unsubscribed)

    def _give_back(self, wish: Wish, *, waited_for: bool = False) -> None:
        self._wanted.discard(wish)
        self._anchor.drop(wish, waited_for=waited_for)
        self._homes.drop(wish, waited_for=waited_for)
        wish.subscription.close()

    async def wait_active(self, subscription: Subscription) -> None:
        """See `Link.wait_active`."""
        if self.obstacle is not None and self._anchor.node is None and not subscription.closed:
            raise OutageError(self.obstacle)
        asked = self._anchor.node is not None
        if not subscription.active:
            await bounded(subscription.wait_settled, self._policy.request_timeout)
        subscription.check()
        if subscription.active:
            return
        if not asked:
            raise RedisTimeoutError("no connection to Redis")
        self._note_timeout("SUBSCRIBE")
        raise RedisTimeoutError(f"no answer to SUBSCRIBE for {self._policy.request_timeout:g}s")

    async def request(self, *args: bytes | str | int, key: bytes | str | None = None) -> object:
        """See `RedisLink`."""
        if key is None:
            if self._anchor.node is None or not self.online:
                raise RedisConnectionError("no connection to Redis")
            return await self._anchor.node.session.request(*args)

        async def question(node: Node, asking: bool) -> object:
            return await node.session.request(*args, asking=asking)

        return await self._homes.ask(slot_of(key), question)

    async def request_everywhere(self, *args: bytes | str | int) -> dict[str, object]:
        """See `RedisLink`."""
        answers: dict[str, object] = {}
        for address in self._homes.slots.primaries:
            node = await self._homes.node_of(address)
            answers[self._opener.where(address)] = await node.session.request(*args)
        return answers

    async def read(self, *args: bytes | str | int, sending: Callable[[], None] | None = None) -> object:
        """See `RedisLink`."""
        key = args[1]
        name = key if isinstance(key, bytes) else str(key).encode()

        async def question(node: Node, asking: bool) -> object:
            return await node.session.reads.read(*args, sending=sending, asking=asking)

        return await self._homes.ask(slot_of(name), question, self._wanted.get(KEYSPACE_PREFIX + name))

    def _note_timeout(self, command: str) -> None:
        self.timeouts += 1
        self._log.warning("redis request timed out", command=command, seconds=self._policy.request_timeout)

    # -- the life of the link -----------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See `RedisLink`."""
        refused: RedisRefused | RedisUnavailable | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._homes.run)
            nursery.start_soon(self._survey.run)
            try:
                await self._anchor.run(task_status)
            except (RedisRefused, RedisUnavailable) as error:
                # Alone, not as one of a group: the nursery has nothing else to say.
                refused = error
            nursery.cancel_scope.cancel()
        if refused is not None:
            try:
                raise refused
            finally:
                # Else its traceback leads to this frame, and the frame back to it.
                del refused

    async def _deliver(self, connection: Connection, batch: Batch, read_at: float) -> None:
        """Hand on messages of one connection at a time: those of a channel that moves are in their order."""
        try:
            self._delivering.acquire_nowait()
        except trio.WouldBlock:
            await self._delivering.acquire()
            # It may have moved while others were handed on.
            batch = {channel: payloads for channel, payloads in batch.items() if connection.hears(channel)}
        try:
            await self._handler.on_messages(batch, read_at)
        finally:
            self._delivering.release()

    def _apply(self, slots: SlotMap) -> bool:
        return self._homes.apply(slots)

    def _pick(self) -> Node | None:
        nodes = [self._anchor.node, *(home.node for home in self._homes.live)]
        return next((node for node in nodes if node is not None and node.session.connection.error is None), None)

    def _patience(self) -> float:
        if self._homes.unsettled or self._homeless():
            return UNSETTLED
        return POLLING if any(home.deaf for home in self._homes.live) else QUIET

    def _homeless(self) -> list[Home]:
        """Homes without a connection at which something is to be heard."""
        return [home for home in self._homes.all if home.aimed and home.node is None]
