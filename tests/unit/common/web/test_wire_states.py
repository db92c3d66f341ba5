"""What a wire says of itself: its state, its figures, and why it ended (common/web/wire.py)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from common.disconnect import SLOW_CONSUMER, WRITE_ERROR
from common.web.wire import PIECE
from tests.support.line import BACKLOG, CLOSE, FIRST, TIMEOUT, Line, opened
from tests.support.streams import ScriptedSocket, os_error, without_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

    from common.web.wire import Wire


@pytest.fixture(autouse=True, scope="module")
def _without_kernel() -> Iterator[None]:
    with without_kernel():
        yield


def states(wire: Wire) -> tuple[bool, bool]:
    return wire.closing, wire.finished


def test_a_new_wire_has_sent_nothing_and_has_no_error() -> None:
    wire = Line(ScriptedSocket()).wire
    assert (wire.frames_sent, wire.backlog_bytes, wire.error) == (0, 0, None)
    assert (states(wire), repr(wire)) == ((False, False), "<Wire held backlog=0 frames=0>")


def test_each_state_is_told_apart() -> None:
    wire = Line(ScriptedSocket([len(FIRST)], afterwards=0)).wire
    wire.send_nowait(b"ab", 2)
    assert repr(wire) == "<Wire held backlog=2 frames=2>"
    wire.open(FIRST)
    assert (states(wire), repr(wire)) == ((False, False), "<Wire open backlog=2 frames=2>")
    wire.close_nowait(CLOSE)
    assert (states(wire), repr(wire)) == ((True, False), f"<Wire closing backlog={2 + len(CLOSE)} frames=2>")
    wire.finish()
    assert (states(wire), repr(wire)) == ((False, True), "<Wire finished backlog=0 frames=2>")


def test_a_wire_that_its_owner_finishes_reports_no_end_and_stays_shut() -> None:
    sock = ScriptedSocket()
    line = Line(sock)
    line.wire.finish()
    line.wire.open(FIRST)
    line.wire.send_nowait(b"x")
    line.wire.close_nowait(CLOSE)
    assert (line.ends, sock.sends, line.wire.error, line.wire.finished) == ([], 0, None, True)


@pytest.mark.parametrize("taken", [0, 7], ids=["nothing", "a part"])
def test_the_101_is_in_the_backlog_until_it_is_taken(taken: int) -> None:
    sock = ScriptedSocket([taken], afterwards=0)
    wire = Line(sock).wire
    wire.send_nowait(b"queued")
    wire.open(FIRST)
    assert (wire.backlog_bytes, bytes(sock.taken)) == (len(FIRST) + 6 - taken, FIRST[:taken])


@pytest.mark.parametrize("taken", [0, 7], ids=["nothing", "a part"])
def test_a_101_that_is_not_taken_at_once_is_no_frame(taken: int) -> None:
    sock = ScriptedSocket([taken], afterwards=0)
    wire = Line(sock).wire
    wire.open(FIRST)
    assert (wire.backlog_bytes, wire.frames_sent) == (len(FIRST) - taken, 0)


async def test_a_full_backlog_is_the_reason_that_is_given(autojump_clock: MockClock) -> None:
    line = Line(ScriptedSocket([len(FIRST)], afterwards=0))
    line.wire.open(FIRST)
    line.wire.send_nowait(b"x" * (BACKLOG + 1))
    line.wire.send_nowait(b"y")
    assert (line.ends, line.wire.error) == ([(0.0, SLOW_CONSUMER)], "the backlog is over MAX_BACKLOG")
    assert line.wire.frames_sent == 1, "the second was not accepted"


async def test_an_interrupted_send_is_tried_again(autojump_clock: MockClock) -> None:
    sock = ScriptedSocket([len(FIRST), InterruptedError(), InterruptedError(), 1 << 30])
    async with opened(sock) as line:
        line.wire.send_nowait(b"frame")
        assert line.wire.backlog_bytes == 5
        await trio.testing.wait_all_tasks_blocked()
        assert (line.wire.backlog_bytes, line.ends) == (0, [])
    assert sock.taken == FIRST + b"frame"


async def test_an_error_is_kept_without_what_it_holds(autojump_clock: MockClock) -> None:
    for answers in ([os_error(errno.EPIPE)], [0, os_error(errno.EPIPE)]):
        line = Line(ScriptedSocket([len(FIRST), *answers]))
        async with trio.open_nursery() as nursery:
            line.wire.open(FIRST)
            line.wire.attach(nursery)
            line.wire.send_nowait(b"x")
        assert isinstance(line.wire.error, OSError)
        assert (line.wire.error.errno, line.wire.error.__traceback__) == (errno.EPIPE, None)
        assert line.ends == [(0.0, WRITE_ERROR)]


RESET = os_error(errno.ECONNRESET)


class Broken(trio.abc.Stream):
    """Takes as many pieces as it is told to, and then breaks, from a cause or without one."""

    def __init__(self, pieces: int, cause: Exception | None) -> None:
        self.sizes: list[int] = []
        self._pieces = pieces
        self._cause = cause

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        if len(self.sizes) == self._pieces:
            raise trio.BrokenResourceError from self._cause
        self.sizes.append(len(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # noqa: ARG002 - a stream
        await trio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("cause", "kept"),
    [(RESET, RESET), (None, None), (ValueError("of a layer above"), None)],
    ids=["the system's", "none", "another"],
)
async def test_of_a_stream_that_breaks_the_cause_is_kept_if_it_is_the_systems(
    cause: Exception | None, kept: OSError | None, autojump_clock: MockClock
) -> None:
    stream = Broken(2, cause)
    line = Line(stream=stream)
    line.wire.open(b"")
    line.wire.send_nowait(b"x" * (3 * PIECE))
    await line.wire.drain()
    assert (line.ends, line.wire.error, line.wire.backlog_bytes) == ([(0.0, WRITE_ERROR)], kept, 0)
    assert stream.sizes == [0, PIECE]


async def test_a_stream_is_given_pieces_and_they_are_accounted_one_by_one(autojump_clock: MockClock) -> None:
    left: list[int] = []

    class Watched(Broken):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            left.append(line.wire.backlog_bytes)
            await super().send_all(data)

    stream = Watched(100, None)
    line = Line(stream=stream)
    line.wire.open(b"")
    line.wire.send_nowait(b"yz")
    line.wire.send_nowait(b"x" * (2 * PIECE + 1))
    await line.wire.drain()
    assert stream.sizes == [0, 2, PIECE, PIECE, 1]
    assert left == [2 * PIECE + 3, 2 * PIECE + 3, 2 * PIECE + 1, PIECE + 1, 1]
    assert (line.wire.backlog_bytes, line.ends) == (0, [])


async def test_a_stream_that_stalls_says_so(autojump_clock: MockClock) -> None:
    class Stalled(Broken):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:  # noqa: ARG002 - a stream
            await trio.sleep_forever()

    line = Line(stream=Stalled(0, None))
    line.wire.open(FIRST)
    await line.wire.drain()
    assert line.ends == [(TIMEOUT, SLOW_CONSUMER)]
    assert (line.wire.error, line.wire.backlog_bytes) == ("nothing was taken for WRITE_TIMEOUT", 0)
