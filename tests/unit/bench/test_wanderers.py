"""What one of the clients that come and go does with the bytes that it gets, over a stream in memory."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from bench import wire
from bench.wanderers import Wanderer

if TYPE_CHECKING:
    from collections.abc import Callable

ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + wire.ACCEPT + b"\r\n\r\n"
PING = wire.server_text(b'{"type":"ping"}')
TEXT = wire.server_text(b'{"type":"status","data":"x"}')


@pytest.mark.parametrize("cut", [range, lambda size: range(0, size, size)], ids=["octets", "whole"])
async def test_pings_of_both_kinds_are_answered(cut: Callable[[int], range]) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    client = Wanderer(theirs)
    data = ACCEPTED + PING + TEXT + b"\x89\x02ab"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run, b"asked\r\n")
        places = [*cut(len(data)), len(data)]
        for begin, end in itertools.pairwise(places):
            await ours.send_all(data[begin:end])
        await ours.send_eof()
        await client.ended.wait()
    assert client.refusal is None
    assert client.frames == 3
    said = b""
    async for chunk in ours:
        said += chunk
    pong = wire.masked_frame(wire.TEXT, b'{"type":"pong"}')
    assert said == b"asked\r\n" + pong + wire.masked_frame(wire.PONG, b"ab")


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [(b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP/1.1 503 Service Unavailable"), (b"HTTP/1.1 101", "no answer")],
)
async def test_a_refusal_is_told(answer: bytes, refusal: str) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    client = Wanderer(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run, b"")
        await ours.send_all(answer)
        await ours.send_eof()
        await client.answer.wait()
    assert client.refusal == refusal
    assert client.ended.is_set()


async def test_a_deaf_one_reads_no_more_and_keeps_the_connection() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    client = Wanderer(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run, b"")
        await ours.send_all(ACCEPTED)
        await client.answer.wait()
        client.deaf = True
        await ours.send_all(TEXT)
        await trio.testing.wait_all_tasks_blocked()
        await ours.send_all(PING + random.Random(1).randbytes(100))
        await trio.testing.wait_all_tasks_blocked()
        assert client.frames == 1
        assert not client.ended.is_set()
        nursery.cancel_scope.cancel()
