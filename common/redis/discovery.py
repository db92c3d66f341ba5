"""The first node of a cluster that can be had, of many that may: tried one after the other, each with a head start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from common.redis.errors import AuthenticationError, NoPermissionError, RedisError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from common.redis.node import Node
    from common.redis.slots import Address

HEAD_START: Final = 0.25
"""Seconds before the next one is tried beside one that does not answer (RFC 8305 has as much between addresses)."""


async def open_first(addresses: Sequence[Address], open_node: Callable[[Address], Awaitable[Node]]) -> Node:
    """The first node to be open, in the order of `addresses`, at least one; the others are closed again.

    Raises the RedisError of the one that says most where none can be opened: what we may not do, before what fails.
    """
    found: list[Node] = []
    errors: list[RedisError] = []
    try:
        async with trio.open_nursery() as nursery:

            async def attempt(address: Address, over: trio.Event) -> None:
                try:
                    node = await open_node(address)
                except RedisError as error:
                    errors.append(error)
                    over.set()
                else:
                    found.append(node)
                    nursery.cancel_scope.cancel()

            for address in addresses:
                over = trio.Event()
                nursery.start_soon(attempt, address, over)
                with trio.move_on_after(HEAD_START):
                    await over.wait()
    except BaseException:
        for node in found:
            await trio.aclose_forcefully(node.opened.stream)
        raise
    for node in found[1:]:
        await trio.aclose_forcefully(node.opened.stream)
    if found:
        return found[0]
    try:
        raise min(errors, key=_says_little)
    finally:
        # Each error's traceback leads to this frame.
        errors.clear()


def _says_little(error: RedisError) -> bool:
    return not isinstance(error, AuthenticationError | NoPermissionError)
