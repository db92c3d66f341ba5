"""The stream of one of opsd's clients (opsd/bounded_stream.py): writes with a deadline, small reads, and their end."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
from trio.testing import memory_stream_pair

from opsd.bounded_stream import READ_SIZE, WRITE_TIMEOUT, BoundedStream

if TYPE_CHECKING:
    from trio.testing import MockClock


class Kernel:
    """Of a socket, what is asked of it: `takes` bytes at a time, or raises `trouble`."""

    family = socket.AF_INET

    def __init__(self, takes: int = 1 << 20) -> None:
        self.takes = takes
        self.trouble: OSError | None = None
        self.sent = b""
        self.closed = False
        self.options: list[tuple[int, int, int]] = []

    def setsockopt(self, level: int, name: int, value: int) -> None:
        self.options.append((level, name, value))

    def fileno(self) -> int:
        return -1 if self.closed else 7

    def send(self, data: bytes | memoryview) -> int:
        if self.trouble is not None:
            raise self.trouble
        taken = bytes(data)[: self.takes]
        self.sent += taken
        return len(taken)


class Bench:
    """A stream, the socket below it, and the other end."""

    def __init__(self, takes: int = 1 << 20) -> None:
        self.kernel = Kernel(takes)
        self.below, self.client = memory_stream_pair()
        self.ends = 0
        self.stream = BoundedStream(self.below, cast("socket.socket", self.kernel), self._ended)

    def _ended(self) -> None:
        self.ends += 1


async def test_what_the_kernel_takes_at_once_needs_no_wait() -> None:
    bench = Bench()
    await bench.stream.send_all(b"answer")
    assert bench.kernel.sent == b"answer"
    await bench.stream.send_all(b"")
    assert bench.kernel.sent == b"answer"


@pytest.mark.parametrize("takes", [0, 2])
async def test_the_rest_is_waited_for(takes: int) -> None:
    bench = Bench(takes)
    await bench.stream.send_all(b"answer")
    assert bench.kernel.sent + bytes(await bench.client.receive_some()) == b"answer"


async def test_a_kernel_that_takes_nothing_now_is_no_error() -> None:
    bench = Bench()
    bench.kernel.trouble = BlockingIOError()
    await bench.stream.send_all(b"answer")
    assert await bench.client.receive_some() == b"answer"


async def test_a_client_that_takes_nothing_loses_its_connection(autojump_clock: MockClock) -> None:
    bench = Bench(0)
    bench.below.send_stream.send_all_hook = trio.sleep_forever
    start = trio.current_time()
    with pytest.raises(trio.BrokenResourceError, match="takes nothing"):
        await bench.stream.send_all(b"answer")
    assert trio.current_time() - start == pytest.approx(WRITE_TIMEOUT)
    with pytest.raises(trio.ClosedResourceError):
        await bench.below.receive_some()


async def test_a_socket_that_is_broken_or_closed_says_so_as_streams_do() -> None:
    bench = Bench()
    bench.kernel.trouble = ConnectionResetError("reset by peer")
    with pytest.raises(trio.BrokenResourceError, match="reset by peer"):
        await bench.stream.send_all(b"answer")
    bench.kernel.closed = True
    with pytest.raises(trio.ClosedResourceError):
        await bench.stream.send_all(b"answer")
    assert bench.kernel.sent == b""


async def test_an_answer_beside_the_end_of_the_stream_is_a_broken_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(0)

    async def busy(_data: Any) -> None:
        await trio.lowlevel.checkpoint()
        raise trio.BusyResourceError

    monkeypatch.setattr(bench.below, "send_all", busy)
    with pytest.raises(trio.BrokenResourceError, match="is being closed"):
        await bench.stream.send_all(b"answer")


@pytest.mark.parametrize(("said", "upgraded"), [(b"HTTP/1.1 101 Switching", True), (b"HTTP/1.1 400 Bad", False)])
async def test_an_upgrade_that_was_granted_is_remembered(said: bytes, upgraded: bool) -> None:
    bench = Bench()
    await bench.stream.send_all(said)
    await bench.stream.send_all(b"\x81\x00")
    assert bench.stream.upgraded is upgraded


async def test_a_client_is_read_in_small_pieces() -> None:
    bench = Bench()
    await bench.client.send_all(b"x" * (READ_SIZE + 10))
    assert len(await bench.stream.receive_some()) == READ_SIZE
    assert len(await bench.stream.receive_some(4)) == 4
    assert len(await bench.stream.receive_some(1 << 20)) == 6
    assert bench.ends == 0


async def test_the_end_of_what_a_client_says_is_told() -> None:
    bench = Bench()
    await bench.client.aclose()
    assert await bench.stream.receive_some() == b""
    assert bench.ends == 1


async def test_a_stream_that_is_closed_is_not_read_from() -> None:
    bench = Bench()
    bench.kernel.closed = True
    with pytest.raises(trio.ClosedResourceError):
        await bench.stream.receive_some()
    assert bench.ends == 1


async def test_a_read_that_breaks_is_the_end_too() -> None:
    bench = Bench()
    await bench.stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await bench.stream.receive_some()
    assert bench.ends == 1


async def test_half_of_it_can_be_closed() -> None:
    bench = Bench()
    await bench.stream.wait_send_all_might_not_block()
    await bench.stream.send_eof()
    assert await bench.client.receive_some() == b""
    await bench.client.send_all(b"still heard")
    assert await bench.stream.receive_some() == b"still heard"


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this kernel has no TCP_USER_TIMEOUT")
def test_a_client_that_has_vanished_is_given_up_by_the_kernel() -> None:
    milliseconds = int(WRITE_TIMEOUT * 1000)
    assert Bench().kernel.options == [(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)]


@pytest.mark.real_time
async def test_a_unix_socket_has_no_options_of_tcp() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with theirs:
        async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as below:
            await BoundedStream(below, ours).send_all(b"answer")
            assert theirs.recv(100) == b"answer"
