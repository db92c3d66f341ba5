"""The map of a cluster, read again: one refresh at a time, and not many of them, however many ask for one.

Whoever doubts the map says so (`doubt`); all who do until the refresh begins get the same one. It begins within
`JITTER`, so that many processes don't ask in one instant, and `GAP` after the last one at the earliest.
"""

from __future__ import annotations

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


class Survey:
    """See the module. `refreshes` counts those that were begun.

    `pick` returns the node to ask, None while there is none; `apply` is given the map. `patience` says after how many
    seconds the map is read though nobody doubts it.
    """

    def __init__(
        self,
        *,
        pick: Callable[[], Node | None],
        apply: Callable[[SlotMap], None],
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
        self._via: Node | None = None

    def doubt(self, via: Node | None = None) -> None:
        """Read the map soon; `via` is a node that knows more than others."""
        if via is not None:
            self._via = via
        self._doubted.set()

    async def run(self) -> None:
        """Read the map whenever it is doubted, until cancelled."""
        while True:
            with trio.move_on_after(self._patience()):
                await self._doubted.wait()
            await trio.sleep(self._rng.uniform(0, JITTER))
            begun = trio.current_time()
            self._doubted = trio.Event()
            await self._refresh()
            await trio.sleep_until(begun + GAP)

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
            self._apply(slots)
