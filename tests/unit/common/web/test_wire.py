"""The wire: order, accounting, limits, errors (common/web/wire.py). Torn frames and streams: test_wire_torn.py."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from common.disconnect import SLOW_CONSUMER, WRITE_ERROR
from common.web.frames import text_frame
from tests.support.line import BACKLOG, CLOSE, FIRST, TIMEOUT, Line, opened
from tests.support.streams import Answer, ScriptedSocket, os_error, without_kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ERRORS: Final = [errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.EBADF, errno.ENOTCONN, errno.ENOBUFS]


@pytest.fixture(autouse=True, scope="module")
def _without_kernel() -> Iterator[None]:
    with without_kernel():
        yield


# -- order and state ---------------------------------------------------------------------------------------------------


def test_held_frames_wait_behind_the_101_and_leave_without_a_task() -> None:
    sock = ScriptedSocket()
    wire = Line(sock).wire
    wire.send_nowait(b"one")
    wire.send_nowait(b"two", 2)
    assert (sock.sends, wire.backlog_bytes, wire.frames_sent) == (0, 6, 3)
    wire.open(FIRST)
    assert sock.taken == FIRST + b"onetwo"
    assert wire.backlog_bytes == 0


async def test_held_frames_wait_behind_the_101_on_a_stream(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    line = Line(stream=ours)
    async with trio.open_nursery() as nursery:
        line.wire.attach(nursery)
        line.wire.send_nowait(b"one")
        await trio.testing.wait_all_tasks_blocked()
        assert line.wire.backlog_bytes == 3
        line.wire.open(FIRST)
        line.wire.send_nowait(b"two")
    assert await theirs.receive_some() == FIRST + b"onetwo"


def test_an_open_wire_with_room_writes_at_once() -> None:
    sock = ScriptedSocket()
    wire = Line(sock).wire
    wire.open(FIRST)
    for number in range(100):
        wire.send_nowait(b"%d," % number)
        assert sock.taken.endswith(b"%d," % number)
    assert (wire.frames_sent, sock.sends, wire.backlog_bytes) == (100, 101, 0)


def test_opening_twice_sends_one_101() -> None:
    sock = ScriptedSocket()
    wire = Line(sock).wire
    wire.open(FIRST)
    wire.open(FIRST)
    assert sock.taken == FIRST


async def test_what_the_kernel_does_not_take_is_flushed_in_order(autojump_clock: MockClock) -> None:
    sock = ScriptedSocket([len(FIRST), 2, 0, 1, 0, 0, 3])
    async with opened(sock) as line:
        line.wire.send_nowait(b"first")
        line.wire.send_nowait(b"second")
        assert (bytes(sock.taken), line.wire.backlog_bytes) == (FIRST + b"fi", 9)
        await trio.testing.wait_all_tasks_blocked()
    assert sock.taken == FIRST + b"firstsecond"
    assert (line.wire.backlog_bytes, line.wire.frames_sent, line.ends) == (0, 2, [])


async def test_a_flusher_lives_only_while_there_is_a_backlog(autojump_clock: MockClock) -> None:
    sock = ScriptedSocket(afterwards=0)
    line = Line(sock)
    async with trio.open_nursery() as nursery:
        line.wire.attach(nursery)
        line.wire.open(FIRST)
        for _ in range(3):
            line.wire.send_nowait(b"x")
            assert len(nursery.child_tasks) == 1
        sock.answer_from_now(afterwards=1 << 30)
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks
        line.wire.send_nowait(b"y")
        assert not nursery.child_tasks
        sock.answer_from_now(afterwards=0)
        line.wire.send_nowait(b"z")
        assert len(nursery.child_tasks) == 1, "a second backlog has a second flusher"
        sock.answer_from_now(afterwards=1 << 30)
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks
    assert sock.taken == FIRST + b"xxxyz"


async def test_a_backlog_from_before_the_nursery_is_flushed(autojump_clock: MockClock) -> None:
    sock = ScriptedSocket([5, 0])
    async with opened(sock) as line:
        await trio.testing.wait_all_tasks_blocked()
    assert sock.taken == FIRST
    assert line.ends == []


async def test_nothing_follows_the_close_frame(autojump_clock: MockClock) -> None:
    sock = ScriptedSocket([len(FIRST), 1, 0])
    async with opened(sock) as line:
        line.wire.send_nowait(b"before")
        line.wire.close_nowait(CLOSE)
        line.wire.close_nowait(CLOSE)
        line.wire.send_nowait(b"after")
        await trio.testing.wait_all_tasks_blocked()
        line.wire.send_nowait(b"after")
    assert sock.taken == FIRST + b"before" + CLOSE
    assert line.wire.frames_sent == 1


def test_a_held_wire_takes_no_close_frame() -> None:
    sock = ScriptedSocket()
    wire = Line(sock).wire
    wire.close_nowait(CLOSE)
    wire.open(FIRST)
    assert sock.taken == FIRST


# -- limits ------------------------------------------------------------------------------------------------------------


async def test_the_backlog_is_accounted_to_the_byte(autojump_clock: MockClock) -> None:
    sock = ScriptedSocket([len(FIRST)], afterwards=0)
    async with opened(sock) as line:
        line.wire.send_nowait(b"a" * 400)
        assert line.wire.backlog_bytes == 400
        line.wire.send_nowait(b"b" * 300)
        assert line.wire.backlog_bytes == 700
        sock.answer_from_now(150, afterwards=0)
        await trio.testing.wait_all_tasks_blocked()
        assert line.wire.backlog_bytes == 550
        sock.answer_from_now(250, 1, afterwards=0)
        await trio.testing.wait_all_tasks_blocked()
        assert line.wire.backlog_bytes == 299
        line.wire.close_nowait(CLOSE)
        assert line.wire.backlog_bytes == 299 + len(CLOSE)
        sock.answer_from_now(afterwards=1 << 30)
        await trio.testing.wait_all_tasks_blocked()
        assert line.wire.backlog_bytes == 0
    assert line.ends == []


@pytest.mark.parametrize("held", [True, False], ids=["held", "open"])
def test_the_limit_is_looked_at_before_the_next_message(held: bool) -> None:
    async def main() -> None:
        line = Line(ScriptedSocket([len(FIRST)], afterwards=0))
        if not held:
            line.wire.open(FIRST)
        line.wire.send_nowait(b"x" * BACKLOG)
        line.wire.send_nowait(b"")
        assert line.ends == [], "at the limit is not over it"
        line.wire.send_nowait(b"y")
        assert line.ends == [], "the limit was not passed before this one"
        line.wire.send_nowait(b"z")
        assert line.ends == [(0.0, SLOW_CONSUMER)]
        assert (line.wire.finished, line.wire.backlog_bytes) == (True, 0)

    trio.run(main, clock=MockClock())


async def test_one_large_message_alone_ends_nobody(autojump_clock: MockClock) -> None:
    large = text_frame(b"x" * (BACKLOG * 50))
    sock = ScriptedSocket([len(FIRST), 10, 0, 100, 0])
    async with opened(sock) as line:
        line.wire.send_nowait(large)
        assert line.wire.backlog_bytes == len(large) - 10
        await trio.testing.wait_all_tasks_blocked()
        line.wire.send_nowait(b"next")
    assert line.ends == []
    assert sock.taken == FIRST + large + b"next"


async def test_no_progress_for_the_write_timeout_ends_a_slow_consumer(autojump_clock: MockClock) -> None:
    sock = ScriptedSocket([len(FIRST)], afterwards=0)
    async with opened(sock) as line:
        await trio.sleep(7)
        line.wire.send_nowait(b"x")
        await trio.sleep(1)
        line.wire.send_nowait(b"y")
        await trio.sleep(60)
    assert line.ends == [(7 + TIMEOUT, SLOW_CONSUMER)]
    assert sock.taken == FIRST
    assert (line.wire.finished, line.wire.backlog_bytes, str(line.wire.error)) == (
        True,
        0,
        "nothing was taken for WRITE_TIMEOUT",
    )


async def test_each_progress_starts_the_write_timeout_anew(autojump_clock: MockClock) -> None:
    sock = ScriptedSocket([len(FIRST)], afterwards=0)
    data = b"x" * 900
    async with opened(sock) as line:
        line.wire.send_nowait(data)
        for _ in range(300):
            await trio.sleep(TIMEOUT * 0.9)
            sock.answer_from_now(1, afterwards=0)
        assert line.ends == []
        last = trio.current_time()
        await trio.sleep(60)
    assert [(round(at, 6), end) for at, end in line.ends] == [(round(last + TIMEOUT, 6), SLOW_CONSUMER)]
    assert sock.taken == FIRST + data[:300]


async def test_a_kernel_that_is_never_writable_but_takes_bytes_is_no_stall(autojump_clock: MockClock) -> None:
    """Linux calls a socket writable when a third of its buffer is free; a slow reader may never bring it there."""

    class Reluctant(ScriptedSocket):
        async def wait_writable(self) -> None:
            await trio.sleep_forever()

    sock = Reluctant([len(FIRST), 0, *[5, 0] * 20])
    async with opened(sock) as line:
        line.wire.send_nowait(b"x" * 100)
        await trio.sleep(20 * TIMEOUT + 1)
        assert line.ends == []
        assert sock.taken == FIRST + b"x" * 100


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.__getitem__)
@pytest.mark.parametrize("partial", [0, 1, 6], ids=lambda partial: f"after {partial} bytes")
async def test_an_error_ends_the_wire_once_and_for_all(number: int, partial: int, autojump_clock: MockClock) -> None:
    before: list[Answer] = [partial, 0] if partial else [0]
    sock = ScriptedSocket([len(FIRST), *before, os_error(number)])
    async with opened(sock) as line:
        line.wire.send_nowait(b"a frame")
        await trio.testing.wait_all_tasks_blocked()
        # The kernel would take bytes again: no one may offer any.
        sends = sock.sends
        line.wire.send_nowait(b"another")
        line.wire.close_nowait(CLOSE)
        await line.wire.drain()
        assert sock.sends == sends
    assert line.ends == [(0.0, WRITE_ERROR)]
    assert sock.taken == FIRST + b"a frame"[:partial]
    assert isinstance(line.wire.error, OSError)
    assert line.wire.error.errno == number
    assert line.wire.backlog_bytes == 0


def test_an_error_at_the_first_try_ends_synchronously() -> None:
    async def main() -> None:
        sock = ScriptedSocket([len(FIRST), os_error(errno.EPIPE)])
        line = Line(sock)
        line.wire.open(FIRST)
        line.wire.send_nowait(b"x")
        assert [end for _, end in line.ends] == [WRITE_ERROR]
        assert line.wire.frames_sent == 0

    trio.run(main, clock=MockClock())


def test_an_error_in_the_101_ends_synchronously() -> None:
    async def main() -> None:
        line = Line(ScriptedSocket([os_error(errno.ECONNRESET)]))
        line.wire.send_nowait(b"queued")
        line.wire.open(FIRST)
        assert [end for _, end in line.ends] == [WRITE_ERROR]
        assert (line.wire.finished, line.wire.backlog_bytes) == (True, 0)

    trio.run(main, clock=MockClock())


async def test_a_socket_closed_under_the_flusher_is_a_write_error(autojump_clock: MockClock) -> None:
    sock = ScriptedSocket([len(FIRST)], afterwards=0)
    async with opened(sock) as line:
        line.wire.send_nowait(b"x")
        await trio.testing.wait_all_tasks_blocked()
        sock.close()
        await trio.testing.wait_all_tasks_blocked()
        # A socket that is closed says no more than that it failed.
        assert (line.ends, line.wire.error, line.wire.finished) == ([(0.0, WRITE_ERROR)], None, True)
    assert line.ends == [(0.0, WRITE_ERROR)]


async def _after_detach(line: Line, nursery: trio.Nursery) -> None:
    line.wire.detach()
    nursery.cancel_scope.cancel()


async def _in_a_cancelled_nursery(_line: Line, nursery: trio.Nursery) -> None:
    nursery.cancel_scope.cancel()


async def _after_finish(line: Line, _nursery: trio.Nursery) -> None:
    line.wire.finish()


async def _closing(line: Line, _nursery: trio.Nursery) -> None:
    line.wire.close_nowait(CLOSE)


@pytest.mark.parametrize("state", [_after_detach, _in_a_cancelled_nursery, _after_finish, _closing])
@pytest.mark.parametrize("afterwards", [0, 1, 1 << 30, os_error(errno.EPIPE)], ids=str)
async def test_send_nowait_never_raises(
    state: Callable[[Line, trio.Nursery], object], afterwards: Answer, autojump_clock: MockClock
) -> None:
    sock = ScriptedSocket([len(FIRST)], afterwards=afterwards)
    line = Line(sock)
    async with trio.open_nursery() as nursery:
        line.wire.open(FIRST)
        line.wire.attach(nursery)
        await state(line, nursery)  # type: ignore[misc]
        for _ in range(3):
            line.wire.send_nowait(b"x")
        line.wire.detach()
        nursery.cancel_scope.cancel()
    sock.close()
    for _ in range(3):
        line.wire.send_nowait(b"x")


@pytest.mark.parametrize("afterwards", [0, 1], ids=["stalled", "slow"])
async def test_a_nursery_that_closed_without_a_word_does_not_raise_into_the_sender(
    afterwards: int, autojump_clock: MockClock
) -> None:
    sock = ScriptedSocket([len(FIRST)], afterwards=afterwards)
    line = Line(sock)
    async with trio.open_nursery() as nursery:
        line.wire.open(FIRST)
        line.wire.attach(nursery)
    for _ in range(3):
        line.wire.send_nowait(b"frame")
    assert line.wire.backlog_bytes == 15 - afterwards
