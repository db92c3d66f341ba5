"""The container's health check, as the image runs it."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from deploy.healthcheck import ADDRESSES
from tests.support.raw import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.integration

PROGRAM = Path(__file__).parents[2] / "deploy" / "healthcheck.py"
NOBODY = "127.0.0.1:1"


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """The address of a server that answers whatever is asked."""

    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        yield f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def exit_code(**addresses: str) -> int:
    environ = os.environ | dict.fromkeys(ADDRESSES, NOBODY) | addresses | {"PYTHONWARNINGS": "error"}
    with trio.fail_after(PATIENCE):
        ended = await trio.run_process(
            [sys.executable, "-I", str(PROGRAM)], env=environ, check=False, capture_stderr=True
        )
    assert ended.stderr == b""
    return ended.returncode


@pytest.mark.parametrize("variable", ADDRESSES)
async def test_it_is_healthy_when_either_daemon_says_that_it_lives(variable: str) -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as address:

        async def is_healthy() -> bool:
            return await exit_code(**{variable: address}) == 0

        # It waits for a second, which this process may need to come to answer; whoever runs it asks again too.
        await wait_until(is_healthy, "healthy")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", b"-ERR\r\n", b""])
async def test_any_other_answer_is_none(answer: bytes) -> None:
    async with answering(answer) as address:
        assert await exit_code(STATUS_LISTEN_ADDR=address) == 1


@pytest.mark.parametrize("address", [NOBODY, "nonsense", "127.0.0.1:port"])
async def test_nobody_there_and_an_address_that_is_none_are_unhealthy(address: str) -> None:
    assert await exit_code(STATUS_LISTEN_ADDR=address) == 1
