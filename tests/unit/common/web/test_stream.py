"""A client's socket as a stream: it waits before it reads, and says how a connection ended as trio's own does."""

from __future__ import annotations

import socket
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from common.web.stream import READ_SIZE, ClientStream
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.real_time


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes that were asked for, of every read of any socket in the test."""
    sizes: list[int] = []
    recv = socket.socket.recv

    def counted(sock: socket.socket, size: int, flags: int = 0, /) -> bytes:
        sizes.append(size)
        return recv(sock, size, flags)

    monkeypatch.setattr(socket.socket, "recv", counted)
    return sizes


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[ClientStream, socket.socket]]:
    """The stream, and the client's end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = ClientStream(ours)
    with theirs:
        yield stream, theirs
        await stream.aclose()


async def test_it_reads_once_for_what_comes_and_not_before(reads: list[int]) -> None:
    async with connected() as (stream, theirs), trio.open_nursery() as nursery:
        heard = []

        async def hear() -> None:
            heard.append(await stream.receive_some())

        nursery.start_soon(hear)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert reads == []
        theirs.send(b"pong")
        while not heard:
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert heard == [b"pong"]
        assert reads == [READ_SIZE]


async def test_no_more_is_read_than_asked_for() -> None:
    async with connected() as (stream, theirs):
        theirs.send(b"x" * (READ_SIZE + 4))
        assert await stream.receive_some(3) == b"xxx"
        assert len(await stream.receive_some()) == READ_SIZE
        assert await stream.receive_some() == b"x"


async def test_the_end_of_the_bytes_and_the_other_direction_after_it() -> None:
    async with connected() as (stream, theirs):
        theirs.shutdown(socket.SHUT_WR)
        assert await stream.receive_some() == b""
        await stream.send_all(b"goodbye")
        await stream.send_eof()
        assert theirs.recv(100) == b"goodbye"
        assert theirs.recv(100) == b""


async def test_a_reset_connection_is_broken() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as theirs:
        ours, _ = listener.accept()
        ours.setblocking(False)
        stream = ClientStream(ours)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await stream.aclose()


async def test_a_closed_stream_says_so_every_time() -> None:
    async with connected() as (stream, _):
        await stream.aclose()
        for _ in range(2):
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()


async def test_whoever_waits_when_it_is_closed_is_told() -> None:
    async with connected() as (stream, _), trio.open_nursery() as nursery:

        async def hear() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()

        nursery.start_soon(hear)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()


async def test_a_read_that_finds_nothing_waits_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may call a socket readable and have nothing after all."""
    answers = [BlockingIOError(), InterruptedError()]
    recv = socket.socket.recv

    def hesitant(sock: socket.socket, size: int, flags: int = 0, /) -> bytes:
        if answers:
            raise answers.pop()
        return recv(sock, size, flags)

    monkeypatch.setattr(socket.socket, "recv", hesitant)
    async with connected() as (stream, theirs):
        theirs.send(b"pong")
        with trio.fail_after(PATIENCE):
            assert await stream.receive_some() == b"pong"
        assert not answers
