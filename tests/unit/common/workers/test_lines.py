"""The lines between the parent and a worker (common/workers/lines)."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from common.workers.lines import LINE_LIMIT, SEND_TIMEOUT, ChannelError, GoneError, Lines

if TYPE_CHECKING:
    from trio.testing import MockClock


async def heard(stream: trio.abc.ReceiveStream, count: int) -> list[dict[str, object]]:
    """The next messages."""
    data = b""
    while data.count(b"\n") < count:
        chunk = await stream.receive_some()
        assert chunk, "the channel has ended"
        data += chunk
    return [json.loads(line) for line in data.splitlines()]


def open_pair() -> tuple[Lines, trio.abc.Stream]:
    """A channel's end and what its other side reads, nothing of which is taken before it does."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    return Lines(ours), theirs


async def test_a_sender_that_is_cancelled_does_not_cut_its_message_short(autojump_clock: MockClock) -> None:
    ours, theirs = open_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send, {"first": "x" * 1000})
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        with trio.move_on_after(1, shield=True):
            assert await heard(theirs, 1) == [{"first": "x" * 1000}]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send, {"second": 2})
        assert await heard(theirs, 1) == [{"second": 2}]


async def test_a_sender_that_is_cancelled_before_its_turn_sends_nothing(autojump_clock: MockClock) -> None:
    ours, theirs = open_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send, {"first": 1})
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1) as impatient:
            await ours.send({"second": 2})
        assert impatient.cancelled_caught
        nursery.start_soon(ours.send, {"third": 3})
        assert await heard(theirs, 2) == [{"first": 1}, {"third": 3}]


async def test_a_side_that_takes_nothing_counts_as_gone(autojump_clock: MockClock) -> None:
    ours, _theirs = open_pair()
    failed: list[float] = []

    async def send() -> None:
        with pytest.raises(GoneError):
            await ours.send({"first": 1})
        failed.append(trio.current_time() - start)

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        # One that waits for its turn waits no longer.
        nursery.start_soon(send)
    assert failed == pytest.approx([SEND_TIMEOUT, SEND_TIMEOUT])
    with pytest.raises(GoneError):
        await ours.send({"second": 2})
    assert trio.current_time() - start == pytest.approx(SEND_TIMEOUT), "what may be half written is closed"


async def test_an_end_that_is_gone_is_said_at_once(autojump_clock: MockClock) -> None:
    ours, theirs = open_pair()
    await theirs.aclose()
    start = trio.current_time()
    with pytest.raises(GoneError):
        await ours.send({"first": 1})
    assert trio.current_time() == start
    assert [message async for message in ours.messages()] == []


async def received(stream: trio.abc.Stream) -> list[dict[str, object]]:
    """All messages that come to this end."""
    async with aclosing(Lines(stream).messages()) as messages:
        return [message async for message in messages]


async def test_a_message_that_does_not_end_is_not_kept_for_ever(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"x" * (LINE_LIMIT + 1))
    with pytest.raises(ChannelError, match="a message is too long"):
        await received(ours)


@pytest.mark.parametrize("cut", [b"", b'{"order":'])
@pytest.mark.parametrize("error", [None, trio.BrokenResourceError(), trio.ClosedResourceError()], ids=repr)
async def test_the_end_of_the_other_side_ends_the_messages_however_it_comes(
    cut: bytes, error: Exception | None, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = trio.testing.memory_stream_pair()

    async def broken(_most: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if not pieces:
            if error is not None:
                raise error
            return b""
        return pieces.pop(0)

    pieces = [piece for piece in (b'{"order":"drain"}\n', cut) if piece]
    monkeypatch.setattr(ours, "receive_some", broken)
    assert await received(ours) == [{"order": "drain"}]
