"""What a conversation makes of a broken transport, of a bug and of a cancellation (common/web/peer.py)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from common import disconnect as ends
from common.disconnect import DRAIN, INTERNAL_ERROR
from common.web.frames import text_frame
from tests.support.client import BINARY, HANGUP_PAYLOAD, PONG_PAYLOAD, TEXT
from tests.support.conversation import TRANSPORTS, Conversation, conversation
from tests.support.streams import os_error, without_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

    from common.web.peer import Peer


@pytest.fixture(autouse=True, scope="module")
def _without_kernel() -> Iterator[None]:
    with without_kernel():
        yield


# -- broken transports -------------------------------------------------------------------------------------------------


async def test_a_reset_seen_by_a_write_ends_at_once_without_another_byte(autojump_clock: MockClock) -> None:
    async with conversation() as talk:
        assert talk.sock is not None
        talk.sock.reset()
        sends = talk.sock.sends
        talk.peer.wire.send_nowait(text_frame(b"lost"))
        with trio.fail_after(1):
            await talk.over.wait()
        assert talk.peer.disconnect is ends.WRITE_ERROR
        assert isinstance(talk.peer.wire.error, OSError)
        assert talk.peer.wire.error.errno == errno.ECONNRESET
        assert talk.sock.sends == sends + 1


async def test_a_reset_under_a_backlog_ends_at_once(autojump_clock: MockClock) -> None:
    async with conversation(reads=False) as talk:
        assert talk.sock is not None
        talk.peer.wire.send_nowait(text_frame(b"x" * 200_000))
        await trio.sleep(1)
        talk.sock.reset()
        with trio.fail_after(1):
            await talk.over.wait()
        assert talk.peer.disconnect is ends.WRITE_ERROR
        assert talk.over_at == 1.0


async def test_a_reset_seen_by_the_reader_is_a_client_that_is_gone(autojump_clock: MockClock) -> None:
    class Resetting(trio.abc.ReceiveStream):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            del max_bytes
            await trio.sleep(3)
            raise trio.BrokenResourceError from os_error(errno.ECONNRESET)

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    def break_reading(peer: Peer) -> None:
        stream = peer._stream
        assert isinstance(stream, trio.StapledStream)
        stream.receive_stream = Resetting()

    async with conversation(before=break_reading) as talk:
        await talk.wait_over()
        assert talk.peer.disconnect is ends.CLIENT_GONE
        assert talk.over_at == 3.0


# -- bugs --------------------------------------------------------------------------------------------------------------


class HandlerError(Exception):
    """Raised by a handler that has a bug."""


def stumble(_peer: Peer, kind: str) -> None:
    if kind == "binary":
        raise HandlerError


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_handler_that_raises_ends_its_own_conversation(transport: str, autojump_clock: MockClock) -> None:
    async with conversation(transport, observe=stumble) as talk, conversation(transport, observe=stumble) as other:
        await talk.client.send(BINARY)
        await talk.wait_over()
        assert talk.client.messages == [HANGUP_PAYLOAD]
        assert talk.client.close_code == 1011
        assert talk.peer.disconnect is INTERNAL_ERROR
        assert _leaves(talk.peer.error) == [HandlerError]
        await other.client.send(TEXT, PONG_PAYLOAD)
        await trio.testing.wait_all_tasks_blocked()
        assert other.kinds == ["pong"]
        assert other.peer.disconnect is None


async def test_a_bug_at_the_moment_of_cancellation_is_no_crash(autojump_clock: MockClock) -> None:
    """The drain's deadline may pass while a handler raises: its bug must not come out with the cancellation."""
    scopes: list[trio.CancelScope] = []

    def stumble_when_cancelled(_peer: Peer, _kind: str) -> None:
        scopes[0].cancel()
        raise HandlerError

    async with conversation("lockstep", observe=stumble_when_cancelled, reads=False) as talk:
        scopes.append(talk.scope)
        talk.peer.wire.send_nowait(text_frame(b"the flusher is waiting"))
        await trio.testing.wait_all_tasks_blocked()
        await talk.client.send(BINARY)
        with trio.fail_after(1):
            await talk.over.wait()
    assert _leaves(talk.peer.error) == [HandlerError]
    assert talk.scope.cancelled_caught


def _leaves(error: BaseException | None) -> list[type[BaseException]]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [] if error is None else [type(error)]


# -- cancellation ------------------------------------------------------------------------------------------------------


async def _read_on(talk: Conversation) -> None:
    await talk.client.send(TEXT, PONG_PAYLOAD)


async def _close(talk: Conversation) -> None:
    await talk.client.send_close()


async def _end(talk: Conversation) -> None:
    talk.peer.end(DRAIN)
    await trio.lowlevel.checkpoint()


async def _fill(talk: Conversation) -> None:
    talk.peer.wire.send_nowait(text_frame(b"x" * 100_000))
    await trio.lowlevel.checkpoint()
    talk.peer.end(DRAIN)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("stage", [_read_on, _close, _end, _fill])
@pytest.mark.parametrize("ticks", range(12))
async def test_cancellation_passes_at_every_step_and_closes_the_transport(
    ticks: int, stage: object, transport: str, autojump_clock: MockClock
) -> None:
    assert callable(stage)
    async with conversation(transport) as talk:
        talk.nursery.start_soon(stage, talk)
        for _ in range(ticks):
            await trio.lowlevel.checkpoint()
        talk.scope.cancel()
        await talk.wait_over(within=0.5)
        # What came is whole frames, or frames and one torn at the very end.
        assert talk.scope.cancelled_caught or talk.peer.disconnect is not None
        assert talk.over_at == 0.0
        assert talk.client.close_code in {None, 1000, 1001}
        talk.peer.wire.send_nowait(text_frame(b"nobody is there"))
        await trio.testing.wait_all_tasks_blocked()
        assert not [task for task in talk.nursery.child_tasks if "serve" in task.name]
