"""The map of a cluster, read again: one refresh at a time, and not many of them, however many ask for one.

Whoever doubts the map says so (`doubt`); all who do until the refresh begins get the same one, and those who do until
it is answered too if the answer is what they were told. It begins within `JITTER`, so that many processes don't ask in
one instant, and `GAP` after the last one at the earliest. A node that has just lost a slot is asked `AT_ONCE`: it is
the first to know, and every moment counts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import trio

from common.quote import quote
from common.redis.errors import RedisError
from common.redis.slots import parse_slots

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from common.logs import Logger
    from common.redis.node import Node
    from common.redis.slots import SlotMap

SLOTS_QUESTION: Final = ("CLUSTER", "SLOTS")
"""Not CLUSTER SHARDS: a managed service was seen to say loopback addresses there."""

JITTER: Final = 0.1
GAP: Final = 0.5
"""Seconds, both."""

AT_ONCE: Final = 0.05
"""Seconds between two refreshes that may not wait, at least."""


class Survey:
    """See the module. `refreshes` counts those that were begun.

    `pick` returns the node to ask, None while there is none; `apply` is given the map, and returns whether it agrees
    with what nodes have said of single slots. `patience` says after how many
    seconds the map is read though nobody doubts it.
    """

    def __init__(
        self,
        *,
        pick: Callable[[], Node | None],
        apply: Callable[[SlotMap], bool],
        patience: Callable[[], float],
        rng: random.Random,
        log: Logger,
    ) -> None:
        self.refreshes = 0
        self._pick = pick
        self._apply = apply
        self._patience = patience
        self._rng = rng
        self._log = log
        self._doubted = trio.Event()
        self._urgent = trio.Event()
        self._via: Node | None = None

    def doubt(self, via: Node | None = None) -> None:
        """Read the map soon; `via` is a node that has just lost a slot: at once, and from it."""
        if via is not None:
            self._via = via
            self._urgent.set()
        self._doubted.set()

    async def run(self) -> None:
        """Read the map whenever it is doubted, until cancelled."""
        begun = -math.inf
        while True:
            with trio.move_on_after(self._patience()):
                await self._doubted.wait()
            due = max(trio.current_time() + self._rng.uniform(0, JITTER), begun + GAP)
            with trio.move_on_at(due):
                await self._urgent.wait()
                await trio.sleep_until(begun + AT_ONCE)
            begun = trio.current_time()
            self._forget()
            await self._refresh()

    def _forget(self) -> None:
        """All doubts are answered."""
        self._doubted, self._urgent = trio.Event(), trio.Event()

    async def _refresh(self) -> None:
        via, self._via = self._via, None
        node = via if via is not None and via.session.connection.error is None else self._pick()
        if node is None:
            # The anchor brings a map when it is back.
            return
        self.refreshes += 1
        try:
            slots = parse_slots(await node.session.request(*SLOTS_QUESTION), node.address)
        except RedisError as error:
            self._log.debug("redis cluster's map not read", error=quote(str(error)))
            self._doubted.set()
        else:
            if self._apply(slots):
                self._forget()
