"""Not a byte after a torn frame: drains, cancellation, streams, every schedule of a socket (common/web/wire.py)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from common.disconnect import SLOW_CONSUMER, WRITE_ERROR
from common.web.frames import text_frame
from common.web.wire import PIECE
from tests.support.line import CLOSE, FIRST, TIMEOUT, Line, opened
from tests.support.streams import Answer, ScriptedSocket, os_error, without_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

ERRORS: Final = [errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.EBADF, errno.ENOTCONN, errno.ENOBUFS]


@pytest.fixture(autouse=True, scope="module")
def _without_kernel() -> Iterator[None]:
    with without_kernel():
        yield


# -- draining and closing ----------------------------------------------------------------------------------------------


async def test_drain_writes_what_the_nursery_left_behind(autojump_clock: MockClock) -> None:
    sock = ScriptedSocket([len(FIRST), 3], afterwards=0)
    async with opened(sock) as line:
        line.wire.send_nowait(b"frame")
        await trio.testing.wait_all_tasks_blocked()
    assert sock.taken == FIRST + b"fra", "a cancelled flusher has written nothing more"
    line.wire.close_nowait(CLOSE)
    sock.answer_from_now(1, 0, afterwards=1 << 30)
    await line.wire.drain()
    assert sock.taken == FIRST + b"frame" + CLOSE


async def test_drain_gives_up_on_a_stalled_client(autojump_clock: MockClock) -> None:
    line = Line(ScriptedSocket([len(FIRST)], afterwards=0))
    line.wire.open(FIRST)
    line.wire.send_nowait(b"x")
    await line.wire.drain()
    assert line.ends == [(TIMEOUT, SLOW_CONSUMER)]


async def test_a_finished_wire_leaves_its_socket_alone(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    sock = ScriptedSocket([len(FIRST)], afterwards=0)
    async with opened(sock, ours) as line:
        line.wire.send_nowait(b"x")
        line.wire.finish()
        sends = sock.sends
        line.wire.send_nowait(b"y")
        await trio.testing.wait_all_tasks_blocked()
        assert (sock.sends, line.wire.backlog_bytes, line.wire.finished) == (sends, 0, True)
    await ours.aclose()
    assert await theirs.receive_some() == b""
    assert line.ends == [], "whoever finishes it knows why"


# -- transports without a socket ---------------------------------------------------------------------------------------


async def test_a_stalled_stream_ends_a_slow_consumer(autojump_clock: MockClock) -> None:
    ours, _theirs = trio.testing.lockstep_stream_pair()
    async with opened(stream=ours) as line:
        await trio.sleep(60)
    assert line.ends == [(TIMEOUT, SLOW_CONSUMER)]


async def test_each_piece_that_a_stream_takes_is_progress(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    data = bytes(range(256)) * (PIECE // 256 * 10)
    got = b""
    async with opened(stream=ours) as line:
        assert await theirs.receive_some() == FIRST
        line.wire.send_nowait(data)
        while len(got) < len(data):
            await trio.sleep(TIMEOUT * 0.9)
            got += await theirs.receive_some(PIECE)
            assert line.wire.backlog_bytes >= len(data) - len(got)
        await trio.testing.wait_all_tasks_blocked()
        assert (line.wire.backlog_bytes, line.ends) == (0, [])
    assert got == data


async def test_a_stream_cut_off_in_the_middle_of_a_frame_gets_nothing_more(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with opened(stream=ours) as line:
        assert await theirs.receive_some() == FIRST
        line.wire.send_nowait(b"torn frame")
        assert await theirs.receive_some(4) == b"torn"
    assert line.wire.finished
    line.wire.send_nowait(b"more")
    with trio.move_on_after(1):
        await line.wire.drain()
    await ours.aclose()
    assert await theirs.receive_some() == b" frame", "what was given to the transport before"
    assert await theirs.receive_some() == b""


async def test_a_flusher_cancelled_before_its_first_byte_tears_nothing(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with opened(stream=ours) as line:
        await trio.testing.wait_all_tasks_blocked()
        assert await theirs.receive_some() == FIRST
        line.wire.close_nowait(CLOSE)
    with trio.fail_after(1):
        await line.wire.drain()
    await ours.aclose()
    assert await theirs.receive_some() == CLOSE


async def test_a_stream_that_breaks_is_a_write_error(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.aclose()
    async with opened(stream=ours) as line:
        await trio.testing.wait_all_tasks_blocked()
        line.wire.send_nowait(b"x")
    assert [end for _, end in line.ends] == [WRITE_ERROR]


# -- every schedule ----------------------------------------------------------------------------------------------------

_ANSWERS: Final = st.lists(
    st.one_of(st.integers(0, 40), st.just(1 << 30), st.sampled_from(ERRORS).map(os_error)), max_size=40
)
_FRAMES: Final = st.lists(st.binary(max_size=60).map(text_frame), max_size=30)
_PAUSES: Final = st.lists(st.sampled_from([None, None, 0.0, 1.0, 3.0]), min_size=30, max_size=30)


@given(
    answers=_ANSWERS, frames=_FRAMES, pauses=_PAUSES, afterwards=st.sampled_from([0, 1, 1 << 30]), held=st.booleans()
)
def test_what_a_client_sees_is_a_prefix_of_what_was_sent(
    answers: list[Answer], frames: list[bytes], pauses: list[float | None], afterwards: int, held: bool
) -> None:
    sock = ScriptedSocket(answers, afterwards=afterwards)
    line_: list[Line] = []

    async def main() -> None:
        line = Line(sock)
        line_.append(line)
        async with trio.open_nursery() as nursery:
            line.wire.attach(nursery)
            if not held:
                line.wire.open(FIRST)
            for frame, pause in zip(frames, pauses, strict=False):
                line.wire.send_nowait(frame)
                if pause is not None:
                    await trio.sleep(pause)
            line.wire.open(FIRST)
            line.wire.detach()
            nursery.cancel_scope.cancel()
        line.wire.close_nowait(CLOSE)
        with trio.move_on_after(TIMEOUT * 3):
            await line.wire.drain()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    (line,) = line_
    whole = FIRST + b"".join(frames) + CLOSE
    assert whole.startswith(sock.taken)
    assert len(line.ends) <= 1
    assert bool(line.ends) == line.wire.finished
    if not line.ends and line.wire.backlog_bytes == 0:
        assert sock.taken == whole
    assert line.wire.backlog_bytes in {0, len(whole) - len(sock.taken)}
