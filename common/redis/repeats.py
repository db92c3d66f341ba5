"""Messages that come over two connections, told once. Pure.

A primary that has become a replica repeats what is published at the new primary, and is also told what nobody else is:
what its own publishers still say. While both are read, a message is told when it comes first, and what then comes over
the other connection with the same channel and payload is taken for its repetition, as often as it was told.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from common.redis.connection import Batch

LIMIT: Final = 20_000
"""Messages that are remembered of each side; of what was never repeated the oldest are forgotten."""


class Repeats:
    """What each of two sides, 0 and 1, has told that the other has not repeated yet."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._told: tuple[OrderedDict[tuple[bytes, int], int], ...] = (OrderedDict(), OrderedDict())

    def untold(self, side: int, batch: Batch) -> Batch:
        """Those messages of a batch of that side which the other has not told; channels without any are left out."""
        own, other = self._told[side], self._told[1 - side]
        fresh: Batch = {}
        for channel, payloads in batch.items():
            for payload in payloads:
                # Two payloads of one channel whose hashes are the same, within seconds: not in this universe.
                key = (channel, hash(payload))
                if key in other:
                    _take(other, key)
                    continue
                own[key] = own.get(key, 0) + 1
                fresh.setdefault(channel, []).append(payload)
        while len(own) > self._limit:
            own.popitem(last=False)
        return fresh


def _take(told: OrderedDict[tuple[bytes, int], int], key: tuple[bytes, int]) -> None:
    told[key] -= 1
    if not told[key]:
        del told[key]
