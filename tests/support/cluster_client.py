"""A client of a cluster for tests, which asks the node that owns the key, and a ledger of what it published.

A command is sent again only when it was definitively refused: MOVED, ASK, TRYAGAIN, CLUSTERDOWN, or no connection to
send it on. One whose connection ended before its answer came may have taken effect: `UncertainError`.
"""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from common.redis.errors import (
    AskError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    RedirectionError,
    RedisError,
    TryAgainError,
)
from common.redis.resp import RespParser, encode
from common.redis.slots import Address, SlotMap, parse_slots, slot_of, target_of
from tests.support.raw import HOST, PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from common.embedded_cluster import EmbeddedCluster

_PAUSE = 0.02


class UncertainError(Exception):
    """The connection ended before the answer came."""


class _NotSentError(Exception):
    """There is no connection, and nothing was sent."""


class ClusterClient:
    """See the module; made by `open_cluster_client`. Its connections are kept; one command at a time."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self._cluster = cluster
        self._streams: dict[Address, trio.SocketStream] = {}
        self._slots = SlotMap()

    async def call(self, *args: bytes | str | int, key: bytes | str) -> object:
        """The answer to one command about `key`, within `PATIENCE`; an error that is no reason to go on is raised."""
        asking, address = False, self._slots.owner(slot_of(key))
        with trio.fail_after(PATIENCE):
            while True:
                if address is None:
                    address = await self._learn(slot_of(key))
                    continue
                try:
                    answer = await self._exchange(address, args, asking=asking)
                except _NotSentError:
                    address, asking = None, False
                    await trio.sleep(_PAUSE)
                    continue
                if isinstance(answer, RedirectionError):
                    asking = isinstance(answer, AskError)
                    address = target_of(answer, address)
                    if isinstance(answer, MovedError) and address is not None:
                        self._slots.move(answer.slot, address)
                elif isinstance(answer, ClusterDownError | TryAgainError | ReadOnlyError):
                    address, asking = None, False
                    await trio.sleep(_PAUSE)
                elif isinstance(answer, RedisError):
                    raise answer
                else:
                    return answer

    async def ask(self, port: int, *args: bytes | str | int) -> object:
        """The answer of one node, whatever it owns; raises `UncertainError` when it ends."""
        try:
            return await self._exchange((HOST, port), args)
        except _NotSentError as error:
            raise UncertainError from error

    async def aclose(self) -> None:
        """Close every connection."""
        for stream in self._streams.values():
            await stream.aclose()
        self._streams.clear()

    async def _learn(self, slot: int) -> Address | None:
        for node in self._cluster.nodes:
            if node.answering:
                try:
                    answer = await self._exchange((HOST, node.port), ("CLUSTER", "SLOTS"))
                except (_NotSentError, UncertainError):
                    continue
                self._slots = parse_slots(answer, (HOST, node.port))
                if self._slots.owner(slot) is not None:
                    return self._slots.owner(slot)
        await trio.sleep(_PAUSE)
        return None

    async def _exchange(self, address: Address, args: tuple[bytes | str | int, ...], *, asking: bool = False) -> object:
        stream = self._streams.get(address)
        if stream is None:
            try:
                stream = self._streams[address] = await trio.open_tcp_stream(*address)
            except OSError as error:
                raise _NotSentError from error
        parser = RespParser()
        answers: list[object] = []
        expected = 2 if asking else 1
        whole = False
        try:
            await stream.send_all((encode("ASKING") if asking else b"") + encode(*args))
            while len(answers) < expected:
                data = await stream.receive_some(1 << 16)
                if not data:
                    raise UncertainError
                parser.feed(data)
                answers += parser.values()
            whole = True
        except trio.BrokenResourceError as error:
            raise UncertainError from error
        finally:
            if not whole:
                del self._streams[address]
                await trio.aclose_forcefully(stream)
        return answers[-1]


@asynccontextmanager
async def open_cluster_client(cluster: EmbeddedCluster) -> AsyncIterator[ClusterClient]:
    """A client whose connections are closed with the block."""
    client = ClusterClient(cluster)
    try:
        yield client
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(PATIENCE):
            await client.aclose()


@attrs.define
class Ledger:
    """What was published on one channel, what was heard, and the gaps that were told."""

    sent: dict[int, tuple[float, float]] = attrs.Factory(dict)
    """Each number with when it was sent and when its answer came; without those of which nobody can tell."""
    uncertain: set[int] = attrs.Factory(set)
    heard: list[int] = attrs.Factory(list)
    gaps: list[int] = attrs.Factory(list)
    """How many had been heard when each was told."""

    @property
    def lost(self) -> list[int]:
        """What was published for certain, and not heard."""
        return sorted(set(self.sent) - set(self.heard))

    def check_order(self) -> None:
        """Nothing was heard twice or out of order."""
        assert self.heard == sorted(set(self.heard)), [
            pair for pair in zip(self.heard, self.heard[1:], strict=False) if pair[0] >= pair[1]
        ]

    def check_lost_in_gaps(self) -> None:
        """What was lost is missing where a gap was told: who listens knows that something may be.

        When it was published does not tell: a node that is killed takes with it what was still on its way over the bus.
        """
        told = [([0, *self.heard][place], [*self.heard, math.inf][place]) for place in self.gaps]
        untold = [number for number in self.lost if not any(before < number < after for before, after in told)]
        assert not untold, f"missing, and no gap was told there: {untold}, gaps: {told}"
