"""The accept loop, on a listener that is a script: who is served, and what each error of accept means."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack
from ipaddress import ip_address
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Self, cast

import attrs
import pytest
import trio

from common.web.listener import BATCH, PAUSE, accept
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    from trio.testing import MockClock

    from common.web.accepted import Accepted

EXHAUSTED: Final = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM]

PASSING: Final = [
    errno.ECONNABORTED,
    errno.EPERM,
    errno.EPROTO,
    errno.ENETDOWN,
    errno.ENOPROTOOPT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EOPNOTSUPP,
    errno.ENETUNREACH,
    errno.ETIMEDOUT,
]
"""The connection's own errors, as accept(2) lists them."""


class ScriptedListener:
    """Accepts what its script says: an error number, or the name of a client, whose socket is one half of a pair.

    After the script nobody comes any more. The sockets are closed with the `with` block.
    """

    def __init__(self, *script: int | object) -> None:
        self.left = list(script)
        self.calls = 0
        self.accepted: list[socket.socket] = []
        self.others: list[socket.socket] = []
        """The clients' ends of those."""
        self._stack = ExitStack()
        self._ready, self.bell = socket.socketpair()
        self._stack.enter_context(self._ready)
        self._stack.enter_context(self.bell)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fileno(self) -> int:
        """What becomes readable when `bell` is rung."""
        return self._ready.fileno()

    def accept(self) -> tuple[socket.socket, object]:
        """The script's next line."""
        self.calls += 1
        if not self.left:
            raise BlockingIOError(errno.EAGAIN, "nobody")
        line = self.left.pop(0)
        if isinstance(line, int):
            raise OSError(line, os.strerror(line))
        ours, theirs = socket.socketpair()
        self._stack.enter_context(ours)
        self._stack.enter_context(theirs)
        self.accepted.append(ours)
        self.others.append(theirs)
        return ours, line


A: Final = ("192.0.2.1", 50001)
B: Final = ("2001:db8::1", 50002, 0, 0)


@attrs.define
class Run:
    """An accept loop at work."""

    served: list[Accepted] = attrs.field(factory=list)
    book: Logbook = attrs.field(factory=Logbook)

    async def until(self, listener: ScriptedListener, count: int, *, within: float = 60.0) -> None:
        """Accept from `listener` until `count` were served."""
        enough = trio.Event()

        async def serve(client: Accepted) -> None:
            self.served.append(client)
            if len(self.served) == count:
                enough.set()
            await trio.sleep_forever()

        with trio.fail_after(within):
            async with trio.open_nursery() as handlers:
                handlers.start_soon(accept, cast("socket.socket", listener), serve, handlers, self.book.log)
                await enough.wait()
                handlers.cancel_scope.cancel()


@pytest.fixture
def run() -> Run:
    """A run of the test's own."""
    return Run()


async def test_each_socket_is_served_with_its_address(run: Run) -> None:
    names = [A, B, ("::ffff:192.0.2.7", 50003, 0, 0), ("fe80::1%eth0", 1, 0, 2), ""]
    with ScriptedListener(*names) as listener:
        await run.until(listener, len(names))
        addresses = ["192.0.2.1", "2001:db8::1", "192.0.2.7", "fe80::1"]
        served = {client.sock: client.address for client in run.served}
        assert [served[sock] for sock in listener.accepted] == [*map(ip_address, addresses), None]
        assert all(sock.gettimeout() == 0.0 for sock in listener.accepted)
    assert run.book.lines == []


async def test_the_stream_and_the_socket_are_the_same_connection(run: Run) -> None:
    with ScriptedListener(A) as listener:
        await run.until(listener, 1)
        (client,) = run.served
        assert client.sock is not None
        assert client.sock.send(b"told by the socket") == 18
        await client.stream.send_all(b", then by the stream")
        assert listener.others[0].recv(100) == b"told by the socket, then by the stream"


async def test_a_quiet_port_is_waited_for(run: Run) -> None:
    with ScriptedListener() as listener:

        async def come() -> None:
            await trio.testing.wait_all_tasks_blocked()
            assert listener.calls == 1
            listener.left.append(A)
            listener.bell.send(b"!")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(come)
            await run.until(listener, 1)
        assert listener.calls >= 2


@pytest.mark.parametrize("number", EXHAUSTED)
async def test_out_of_descriptors_accepting_pauses_and_says_so_once(
    run: Run, autojump_clock: MockClock, number: int
) -> None:
    with ScriptedListener(A, *[number] * 25, B) as listener:
        start = autojump_clock.current_time()
        await run.until(listener, 2)
        assert autojump_clock.current_time() - start == pytest.approx(25 * PAUSE)
        assert [client.address for client in run.served] == [ip_address(A[0]), ip_address(B[0])]
    paused, again = run.book.lines
    assert (paused["level"], paused["msg"], paused["error"]) == ("error", "accepting paused", os.strerror(number))
    assert (again["level"], again["msg"]) == ("info", "accepting again")


async def test_running_out_of_descriptors_is_said_once_until_everybody_who_waited_is_in(
    run: Run, autojump_clock: MockClock
) -> None:
    with ScriptedListener(errno.EMFILE, A, errno.EMFILE, errno.ENFILE, B) as listener:
        start = autojump_clock.current_time()
        await run.until(listener, 2)
        assert autojump_clock.current_time() - start == pytest.approx(3 * PAUSE)
    assert [line["msg"] for line in run.book.lines] == ["accepting paused", "accepting again"]


async def test_a_pause_ends_with_the_daemon(run: Run, autojump_clock: MockClock) -> None:
    with ScriptedListener(*[errno.EMFILE] * 1000) as listener:
        start = autojump_clock.current_time()
        with pytest.raises(trio.TooSlowError):
            await run.until(listener, 1, within=1.0)
        assert autojump_clock.current_time() - start == pytest.approx(1.0)
        assert listener.calls == pytest.approx(1.0 / PAUSE, abs=1)


@pytest.mark.parametrize("number", PASSING)
async def test_an_error_of_one_connection_is_nobody_elses(run: Run, autojump_clock: MockClock, number: int) -> None:
    with ScriptedListener(number, A, number, number, B) as listener:
        start = autojump_clock.current_time()
        await run.until(listener, 2)
        assert autojump_clock.current_time() == start
    assert run.book.lines == []


async def test_an_interrupted_accept_is_tried_again(run: Run) -> None:
    with ScriptedListener(errno.EINTR, A) as listener:
        listener.bell.send(b"!")
        await run.until(listener, 1)
    assert run.book.lines == []


@pytest.mark.parametrize("number", [errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EFAULT])
async def test_an_error_of_the_listener_itself_is_a_bug_and_comes_out(run: Run, number: int) -> None:
    with ScriptedListener(number) as listener, pytest.RaisesGroup(OSError) as caught:
        await run.until(listener, 1)
    (error,) = caught.value.exceptions
    assert isinstance(error, OSError)
    assert error.errno == number


async def test_a_crowd_at_the_door_leaves_the_others_their_turn(run: Run) -> None:
    let_in = [0]

    with ScriptedListener(*[A] * (3 * BATCH)) as listener:

        async def other() -> None:
            while True:
                await trio.lowlevel.checkpoint()
                let_in.append(len(listener.accepted))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            await run.until(listener, 3 * BATCH)
            nursery.cancel_scope.cancel()
    # Trio shuffles whose turn comes first in each round: the end of one and the beginning of the next may both be ours.
    assert max(later - earlier for earlier, later in pairwise(let_in)) <= 2 * BATCH
