"""The terminal client's socket (common/watch/socket.py): what servers answer to its handshake, and how each ends."""

from __future__ import annotations

import base64
import hashlib
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest
import trio
from trio.testing import memory_stream_pair
from trio_websocket import ConnectionClosed, ConnectionRejected, HandshakeError

from common.watch import socket
from common.watch.socket import CLOSE_TIMEOUT, open_socket
from tests.support.raw import PATIENCE
from tests.support.tls import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio.abc import Stream
    from trio.testing import MemoryReceiveStream, MemorySendStream, MockClock

    MemoryStream = trio.StapledStream[MemorySendStream, MemoryReceiveStream]

URL: Final = "ws://status.test:8080/base/r%3Ac?last=3"
UPGRADE: Final = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
CLOSE: Final = b"\x88\x02\x03\xe9"
"""A close frame: 1001."""
HELLO: Final = b"\x81\x05hello"


@asynccontextmanager
async def server(
    play: Callable[[MemoryStream], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[bool]]:
    """A server at every address, whose side is played; and whether each connection to it was closed by the client."""
    closed: list[bool] = []
    async with trio.open_nursery() as nursery:

        async def connect(_host: str, _port: int, *, secure: bool) -> MemoryStream:
            assert not secure
            await trio.lowlevel.checkpoint()
            ours, theirs = memory_stream_pair()
            nursery.start_soon(attend, ours, theirs)
            return ours

        async def attend(ours: MemoryStream, theirs: MemoryStream) -> None:
            await play(theirs)
            while await theirs.receive_some():
                pass
            closed.append(True)

        monkeypatch.setattr(socket, "_open_stream", connect)
        yield closed


async def request(stream: Stream) -> str:
    """The head of the request."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await stream.receive_some()
    return head.decode()


async def accept(stream: Stream, *frames: bytes) -> None:
    """The answer that opens the socket, and what follows in the same piece."""
    found = re.search(r"(?mi)^Sec-WebSocket-Key: (\S+)\r$", await request(stream))
    assert found is not None
    digest = hashlib.sha1(f"{found[1]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()  # noqa: S324 - RFC 6455
    await stream.send_all(UPGRADE + b"Sec-WebSocket-Accept: %b\r\n\r\n" % base64.b64encode(digest) + b"".join(frames))


def saying(said: bytes, *, hangs_up: bool = True) -> Callable[[MemoryStream], Awaitable[None]]:
    """A server that answers these bytes to the request."""

    async def play(stream: MemoryStream) -> None:
        await request(stream)
        if said:
            await stream.send_all(said)
        if hangs_up:
            await stream.send_eof()

    return play


async def test_what_is_asked_is_the_urls_own(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[str] = []

    async def play(stream: Stream) -> None:
        heads.append(await request(stream))
        await stream.send_all(b"HTTP/1.1 503 Full\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nfull")

    async with server(play, monkeypatch) as closed:
        with pytest.raises(ConnectionRejected) as caught:
            async with open_socket(URL):
                pass
    assert heads[0].startswith("GET /base/r%3Ac?last=3 HTTP/1.1\r\nHost: status.test:8080\r\n")
    assert (caught.value.status_code, caught.value.body) == (503, b"full")
    assert (b"retry-after", b"7") in [(name.lower(), value) for name, value in caught.value.headers]
    assert closed == [True]


@pytest.mark.parametrize(
    "said",
    [
        b"220 mail.test ESMTP\r\n\r\n",
        b"x" * 100_000,
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        UPGRADE + b"Sec-WebSocket-Accept: another's\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\n\r\n",
    ],
)
@pytest.mark.parametrize("hangs_up", [False, True])
async def test_an_answer_that_is_none_is_told_at_once_and_in_words(
    said: bytes, hangs_up: bool, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = trio.current_time()
    async with server(saying(said, hangs_up=hangs_up), monkeypatch) as closed:
        with pytest.raises(HandshakeError, match=r"^the answer is no handshake of a WebSocket$"):
            async with open_socket(URL):
                pass
    assert closed == [True]
    assert trio.current_time() == began


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 101 Swi", b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 100\r\n\r\nabc"]
)
async def test_a_server_that_hangs_up_in_mid_handshake_is_not_waited_for(
    said: bytes, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = trio.current_time()
    async with server(saying(said), monkeypatch) as closed:
        with pytest.raises(ConnectionError, match=r"^the server hung up in mid-handshake$"):
            async with open_socket(URL):
                pass
    assert closed == [True]
    assert trio.current_time() == began


async def test_a_connection_that_breaks_in_mid_handshake_is_not_waited_for(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(_host: str, _port: int, *, secure: bool) -> MemoryStream:
        assert not secure
        await trio.lowlevel.checkpoint()
        ours, _ = memory_stream_pair()

        async def reset(_bytes: int | None = None) -> bytes:
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError

        monkeypatch.setattr(ours, "receive_some", reset)
        return ours

    monkeypatch.setattr(socket, "_open_stream", connect)
    with pytest.raises(ConnectionError, match=r"^the connection broke in mid-handshake$"):
        async with open_socket(URL):
            pass


@pytest.mark.parametrize("round_", range(20))
async def test_what_came_with_the_answer_is_read_though_the_server_hung_up_at_once(
    round_: int, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(stream: MemoryStream) -> None:
        await accept(stream, HELLO, CLOSE)
        await stream.send_eof()

    async with server(play, monkeypatch) as closed, open_socket(URL) as opened:
        assert await opened.get_message() == "hello"
        with pytest.raises(ConnectionClosed) as caught:
            await opened.get_message()
        assert caught.value.reason is not None
        assert caught.value.reason.code == 1001
    assert closed == [True]


async def test_a_conversation_whose_connection_breaks_is_over_and_says_so(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = memory_stream_pair()
    receive = ours.receive_some

    async def connect(_host: str, _port: int, *, secure: bool) -> MemoryStream:
        assert not secure
        await trio.lowlevel.checkpoint()
        return ours

    async def receive_some(most: int | None = None) -> bytes | bytearray:
        if data := await receive(most):
            return data
        raise trio.BrokenResourceError

    monkeypatch.setattr(ours, "receive_some", receive_some)
    monkeypatch.setattr(socket, "_open_stream", connect)

    async def play() -> None:
        await accept(theirs, HELLO)
        await theirs.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play)
        async with open_socket(URL) as opened:
            assert await opened.get_message() == "hello"
            with pytest.raises(ConnectionClosed) as caught:
                await opened.get_message()
            assert caught.value.reason is not None
            assert caught.value.reason.code == 1006


@pytest.mark.real_time
async def test_a_daemon_is_found_by_its_address() -> None:
    async def play(stream: trio.SocketStream) -> None:
        assert (await stream.receive_some()).startswith(b"GET /r%3Ac HTTP/1.1\r\nHost: 127.0.0.1")
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    async with listening(play) as peer:
        with trio.fail_after(PATIENCE), pytest.raises(ConnectionRejected) as caught:
            async with open_socket(f"ws://127.0.0.1:{peer.port}/r%3Ac"):
                pass
    assert caught.value.status_code == 404


async def test_leaving_says_goodbye_and_waits_for_no_answer_for_long(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[bytes] = []

    async def play(stream: Stream) -> None:
        await accept(stream)
        said.append(bytes(await stream.receive_some()))

    async with server(play, monkeypatch) as closed:
        async with open_socket(URL):
            left = trio.current_time()
        assert trio.current_time() - left == pytest.approx(CLOSE_TIMEOUT)
    assert said[0][:2] == b"\x88\x82"  # a close frame, masked: as clients' are
    assert closed == [True]
