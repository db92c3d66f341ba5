"""The proxy's faults as real sockets feel them: resets, refusals, a server that is not there."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from tests.faultproxy import open_fault_proxy
from tests.support.ports import free_port
from tests.support.raw import HOST, PATIENCE, open_stream, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.integration


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """The port of a server that says back what it hears."""

    async def serve(stream: trio.SocketStream) -> None:
        try:
            async for data in stream:
                await stream.send_all(data)
        except trio.BrokenResourceError:
            return

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host=HOST))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def ask(stream: trio.SocketStream) -> bytes:
    with trio.fail_after(PATIENCE):
        await stream.send_all(b"?")
        return bytes(await stream.receive_some())


async def test_a_cut_is_an_end_and_a_reset_is_a_reset() -> None:
    async with echo() as port, open_fault_proxy(port) as proxy:
        async with await open_stream(proxy.port) as stream:
            assert await ask(stream) == b"?"
            proxy.cut()
            with trio.fail_after(PATIENCE):
                assert await stream.receive_some() == b""
        async with await open_stream(proxy.port) as stream:
            assert await ask(stream) == b"?"
            proxy.reset()
            with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        await wait_until(lambda: proxy.open == 0, "nothing is open")
        assert proxy.carried == 2


async def test_refused_newcomers_and_a_connection_that_stays() -> None:
    async with echo() as port, open_fault_proxy(port) as proxy, await open_stream(proxy.port) as stream:
        assert await ask(stream) == b"?"
        proxy.refuse()

        async def refused() -> bool:
            try:
                await (await open_stream(proxy.port)).aclose()
            except ConnectionResetError:  # accepted by the kernel, for a listener that was about to close
                return False
            except ConnectionRefusedError:
                return True
            return False

        await wait_until(refused, "refused")
        assert await ask(stream) == b"?"
        await proxy.admit()
        async with await open_stream(proxy.port) as newcomer:
            assert await ask(newcomer) == b"?"


async def test_a_server_that_is_not_there_is_a_reset() -> None:
    async with open_fault_proxy(free_port()) as proxy, await open_stream(proxy.port) as stream:
        with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_half_closed_the_server_is_heard_no_more() -> None:
    async with echo() as port, open_fault_proxy(port) as proxy, await open_stream(proxy.port) as stream:
        assert await ask(stream) == b"?"
        proxy.half_close()
        assert await ask(stream) == b""
