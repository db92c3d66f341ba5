"""The connection to one primary of a cluster, made again for as long as something is to be heard or asked there.

A `Home` is for wishes whose slots its node owns, and for questions about such keys. It does not know the map: who aims
wishes at it (`homes`) takes them away again, and ends it when there is no more use for it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

import trio

from common.backoff import Backoff
from common.quote import quote
from common.redis.errors import RedisConnectionError, RedisError
from common.redis.handshake import REPLICA

if TYPE_CHECKING:
    import random

    from common.logs import Logger
    from common.redis.node import Ears, Node, NodeOpener
    from common.redis.slots import Address
    from common.redis.wanted import Wish

REOPENING: Final = Backoff(0.1, 2.0)
"""Delays after a connection that could not be opened or has ended: the map soon says whether others have its slots."""

STEADY: Final = 10.0
"""Seconds of a connection after which the delays start anew."""


class Keeper(Protocol):
    """Who places wishes: told what becomes of a home."""

    def on_live(self, home: Home) -> None:
        """It has a connection."""

    def on_failed(self, home: Home) -> None:
        """It has none, and an attempt has failed."""

    def on_lost(self, home: Home, last_byte: float) -> None:
        """Its connection has ended, silent since `last_byte`."""


class Home:
    """See the module. `node` is there while there is a connection that has not been noticed to end.

    `aimed` are the wishes that are to be heard here, `heard` those with a leg here: some are on their way to or from
    elsewhere. `deaf`: the user may not SSUBSCRIBE here, so that no canary says when a slot leaves.
    """

    def __init__(
        self, address: Address, *, opener: NodeOpener, keeper: Keeper, ears: Ears, log: Logger, rng: random.Random
    ) -> None:
        self.address = address
        self.node: Node | None = None
        self.aimed: dict[Wish, None] = {}
        self.heard: dict[Wish, None] = {}
        self.deaf = False
        self.asked_at = -math.inf
        """When somebody last asked for its connection."""
        self.scope = trio.CancelScope()
        """Around its task: whoever has started it cancels it."""
        self._opener = opener
        self._keeper = keeper
        self._ears = ears
        self._log = log
        self._rng = rng
        self._live = trio.Event()

    def __repr__(self) -> str:
        state = "live" if self.node is not None else "without a connection"
        return f"<Home {self.address} {state}, {len(self.aimed)} aimed, {len(self.heard)} heard>"

    async def wait_live(self) -> None:
        """Wait until it has a connection. Without a deadline of its own."""
        while self.node is None:
            await self._live.wait()

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        failures = 0
        with self.scope:
            while True:
                begun = trio.current_time()
                try:
                    await self._live_once()
                except RedisError as error:
                    failures = failures + 1 if trio.current_time() - begun < STEADY else 1
                    delay = REOPENING.after_failure(failures, self._rng)
                    self._log.warning(
                        "redis cluster's node unavailable, retrying",
                        address=self._opener.where(self.address),
                        attempt=failures,
                        backoff=round(delay, 3),
                        error=quote(str(error)),
                    )
                    self._keeper.on_failed(self)
                await trio.sleep(delay)

    async def _live_once(self) -> NoReturn:
        """One connection from its opening to its end. Raises the RedisError that says why it ended."""
        node = await self._opener.open(self.address, self._ears)
        if node.role == REPLICA:
            await trio.aclose_forcefully(node.opened.stream)
            raise RedisConnectionError(f"a replica, and a primary is needed: {self._opener.where(self.address)}")
        try:
            raise await self._opener.serve(node, lambda: self._begin(node))
        finally:
            if self.node is node:
                self.node = None
                self._keeper.on_lost(self, node.session.connection.last_byte)

    async def _begin(self, node: Node) -> None:
        self.node = node
        self.deaf = False
        self._live.set()
        self._live = trio.Event()
        self._keeper.on_live(self)
