"""The first node of many (common/redis/discovery.py): who is taken, and what becomes of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import attrs
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from common.redis.discovery import HEAD_START, open_first
from common.redis.errors import NoPermissionError, RedisConnectionError, RedisError

if TYPE_CHECKING:
    from common.redis.node import Node
    from common.redis.slots import Address

A: Address = ("a.test", 7001)
B: Address = ("b.test", 7002)


@attrs.frozen
class Opened:
    stream: trio.abc.Stream = attrs.field(factory=lambda: memory_stream_pair()[0])


@attrs.frozen
class FakeNode:
    address: Address
    opened: Opened = attrs.field(factory=Opened)


async def is_closed(node: FakeNode) -> bool:
    try:
        await node.opened.stream.send_all(b"x")
    except trio.ClosedResourceError:
        return True
    return False


async def test_of_two_that_open_at_the_same_moment_one_is_closed_again(autojump_clock: MockClock) -> None:
    nodes = {address: FakeNode(address) for address in (A, B)}
    both = trio.Event()

    async def open_node(address: Address) -> Node:
        if address == B:
            await trio.sleep(1)
            both.set()
        else:
            await both.wait()
        return cast("Node", nodes[address])

    taken = cast("FakeNode", await open_first([A, B], open_node))
    assert trio.current_time() == HEAD_START + 1
    other = next(node for node in nodes.values() if node is not taken)
    assert (await is_closed(taken), await is_closed(other)) == (False, True)


async def test_who_is_cancelled_with_a_node_in_hand_closes_it() -> None:
    node = FakeNode(A)

    async def open_node(address: Address) -> Node:
        assert address == A
        scope.cancel()
        return cast("Node", node)

    with trio.CancelScope() as scope:
        await open_first([A], open_node)
    assert scope.cancelled_caught
    assert await is_closed(node)


async def test_who_is_cancelled_before_has_nothing_to_close() -> None:
    async def open_node(_address: Address) -> Node:
        scope.cancel()
        await trio.lowlevel.checkpoint()
        raise AssertionError("it was cancelled")

    with trio.CancelScope() as scope:
        await open_first([A], open_node)
    assert scope.cancelled_caught


async def test_the_error_that_says_most_is_raised() -> None:
    errors: dict[Address, RedisError] = {A: NoPermissionError("no"), B: RedisConnectionError("refused")}

    async def open_node(address: Address) -> Node:
        raise errors[address]

    for order in ([A, B], [B, A]):
        with pytest.raises(NoPermissionError):
            await open_first(order, open_node)
