"""HTTP to a source: what is asked, how an answer is read, and how little of a hostile one is read at a time."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import h11
import httpx
import pytest
import trio
import trio.testing

from opsd.sources.budget import A_SECOND, AT_ONCE, Budget, OverspentError
from opsd.sources.daemon import EVENT_LIMIT, StreamReader
from opsd.sources.events import MOST_LINES, EventParser, EventTooLargeError
from opsd.sources.fetch import FetchError, FetchTimeoutError, fetch, make_client
from opsd.sources.target import SourceEndpoint
from opsd.sources.transport import LAP, MOST_CONNECTIONS, MOST_INTERIM, READ_SIZE, HttpExchange, SourceTransport
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio.testing import MockClock

URL = "http://localhost/workers/status"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Source(trio.abc.Stream):
    """A stream on which all that the other side will ever say is there before it is read."""

    def __init__(self, said: bytes = b"", *, ends: bool = True) -> None:
        self.asked = b""
        """What it was sent."""
        self.reads: list[int] = []
        """How much each read found."""
        self.exchange = HttpExchange(self)
        self._said = said
        self._ends = ends

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.asked += data

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._said and not self._ends:
            await trio.sleep_forever()
        data, self._said = self._said[:max_bytes], self._said[max_bytes:]
        self.reads.append(len(data))
        return data

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def body_of(exchange: HttpExchange) -> bytes:
    """The whole body of an answer."""
    await exchange.send(httpx.Request("GET", URL))
    await exchange.receive_head()
    body = b""
    while (chunk := await exchange.receive_chunk()) is not None:
        body += chunk
    return body


def chunked(pieces: int, piece: bytes = b"x") -> bytes:
    return (b"%x\r\n%b\r\n" % (len(piece), piece)) * pieces


async def test_a_request_is_sent_whole_and_an_answer_read_whole(autojump_clock: MockClock) -> None:
    source = Source(INTERIM + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    assert await body_of(source.exchange) == b"hello"
    assert source.asked.startswith(b"GET /workers/status HTTP/1.1\r\nHost: localhost\r\n")
    assert source.exchange.rests == 0


async def test_a_body_is_sent_with_its_request(autojump_clock: MockClock) -> None:
    source = Source()
    await source.exchange.send(httpx.Request("POST", URL, content=b"{}"))
    assert source.asked.endswith(b"\r\n\r\n{}")


@pytest.mark.parametrize("pieces", [100, AT_ONCE - 10])
async def test_others_have_a_turn_after_so_many_chunks(autojump_clock: MockClock, pieces: int) -> None:
    source = Source(CHUNKED + chunked(pieces) + b"0\r\n\r\n")
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await trio.sleep(0.001)
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        assert await body_of(source.exchange) == b"x" * pieces
        nursery.cancel_scope.cancel()
    assert source.exchange.rests >= pieces // (LAP + 1)
    assert turns >= source.exchange.rests - 1


async def test_others_have_a_turn_after_each_read_that_was_full(autojump_clock: MockClock) -> None:
    size = 1 << 20
    source = Source(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
    assert len(await body_of(source.exchange)) == size
    assert max(source.reads) == READ_SIZE
    assert source.exchange.rests >= size // READ_SIZE


async def test_a_body_in_chunks_of_a_byte_is_left(autojump_clock: MockClock) -> None:
    source = Source(CHUNKED + chunked(1_000_000), ends=False)
    with pytest.raises(OverspentError, match="chunks"):
        await body_of(source.exchange)
    assert sum(source.reads) <= 2 * READ_SIZE


async def test_endless_interim_answers_are_left(autojump_clock: MockClock) -> None:
    source = Source(INTERIM * 100_000, ends=False)
    with pytest.raises(h11.RemoteProtocolError, match="interim"):
        await body_of(source.exchange)
    assert sum(source.reads) == READ_SIZE
    source = Source(INTERIM * MOST_INTERIM + CHUNKED + b"0\r\n\r\n")
    assert await body_of(source.exchange) == b""


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
async def test_a_head_without_end_or_without_limit_is_left(autojump_clock: MockClock, end: bytes) -> None:
    source = Source(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + end, ends=False)
    with pytest.raises(h11.RemoteProtocolError):
        await body_of(source.exchange)
    assert sum(source.reads) <= 3 * READ_SIZE


# -- over a socket -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(*said: bytes, gap: float = 0.0) -> AsyncIterator[tuple[httpx.AsyncClient, list[int]]]:
    """A client of a server that says these pieces and then no more; and how many connections are open."""
    connections = [0]

    async def serve(stream: trio.SocketStream) -> None:
        connections[0] += 1
        try:
            await stream.receive_some()
            for piece in said:
                await stream.send_all(piece)
                await trio.sleep(gap)
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
        finally:
            connections[0] -= 1
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        async with make_client(SourceEndpoint(f"http://127.0.0.1:{port}")) as client:
            yield client, connections
        nursery.cancel_scope.cancel()


async def wait_closed(connections: list[int]) -> None:
    with trio.fail_after(PATIENCE):
        while connections[0]:  # noqa: ASYNC110 - the server has no event for it
            await trio.sleep(0.01)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        # More than the budget grows by in all that time.
        (CHUNKED + chunked(10_000), "chunks for"),
        (INTERIM * 1000, "interim answers"),
        (b"HTTP/1.1 200 OK\r\nSet-Cookie : secret\r\n\r\n", "illegal header line"),
        (b"nonsense\r\n\r\n", "illegal status line"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000, "more than"),
        (CHUNKED + b"zz\r\n", "illegal chunk header"),
        (CHUNKED + b"\x9b" * 10_000 + b"\r\n", "illegal chunk header"),
    ],
)
@pytest.mark.real_time
async def test_a_source_that_makes_no_sense_is_hung_up_on(said: bytes, reason: str) -> None:
    async with serving(said) as (client, connections):
        with pytest.raises(FetchError, match=reason) as caught:
            await fetch(client, "/workers/status", None, seconds=PATIENCE, limit=10_000)
        assert "secret" not in str(caught.value)
        assert str(caught.value).isprintable()
        await wait_closed(connections)


@pytest.mark.real_time
async def test_an_answer_has_a_deadline_as_a_whole() -> None:
    # Each piece comes in time; all of them never do.
    async with serving(CHUNKED, *[chunked(1)] * 10_000, gap=0.01) as (client, connections):
        with pytest.raises(FetchTimeoutError):
            await fetch(client, "/workers/status", None, seconds=0.2, limit=1 << 20)
        await wait_closed(connections)


@pytest.mark.real_time
async def test_only_so_many_connections_are_open_at_a_time() -> None:
    async with serving() as (client, connections), trio.open_nursery() as nursery:
        for _ in range(MOST_CONNECTIONS + 5):
            nursery.start_soon(client.get, "/")
        with trio.fail_after(PATIENCE):
            while connections[0] < MOST_CONNECTIONS:  # noqa: ASYNC110 - as above
                await trio.sleep(0.01)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert connections[0] == MOST_CONNECTIONS
        nursery.cancel_scope.cancel()


@pytest.mark.real_time
async def test_who_refuses_or_is_not_there_is_said_so() -> None:
    for transport in (SourceTransport(), SourceTransport("/nonexistent.sock")):
        async with make_client(SourceEndpoint("http://127.0.0.1:1"), transport) as client:
            with pytest.raises(FetchError, match="ConnectError"):
                await fetch(client, "/", None, seconds=PATIENCE, limit=10)


@pytest.mark.parametrize("said", [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", b"", WHOLE[:-1]])
async def test_an_answer_that_ends_early_or_is_none_is_an_error(autojump_clock: MockClock, said: bytes) -> None:
    with pytest.raises(h11.RemoteProtocolError):
        await body_of(Source(said).exchange)


@pytest.mark.real_time
async def test_a_source_is_found_at_its_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with trio.socket.socket(trio.socket.AF_UNIX) as listener:
        await listener.bind(str(path))
        listener.listen()
        async with trio.open_nursery() as nursery, make_client(SourceEndpoint("http://localhost", str(path))) as client:

            async def serve() -> None:
                sock, _ = await listener.accept()
                async with trio.SocketStream(sock) as stream:
                    assert (await stream.receive_some()).startswith(
                        b"GET /workers/status HTTP/1.1\r\nHost: localhost\r\n"
                    )
                    await stream.send_all(WHOLE)

            nursery.start_soon(serve)
            answer = await fetch(client, "/workers/status", None, seconds=PATIENCE, limit=10)
            assert answer.body == b"{}"


# -- what is made of a stream ------------------------------------------------------------------------------------------


def test_a_budget_grows_with_the_bytes_and_with_the_time() -> None:
    budget = Budget("pieces", 100.0)
    budget.spend(100.0, 0, AT_ONCE)
    budget.spend(100.0 + 10, 0, 10 * A_SECOND)
    for _ in range(1000):
        budget.spend(110.0, 64)
    with pytest.raises(OverspentError, match="pieces"):
        budget.spend(110.0, 0)


@pytest.mark.parametrize("line", [b"\n", b":\n", b"\r", b"\r\n", b": x\n", b"data\n", b"x\n"])
def test_a_lap_takes_so_many_lines_and_no_more(line: bytes) -> None:
    parser = EventParser(1 << 20)
    parser.feed(line * 5000)
    laps = 1
    while parser.unread:
        assert parser.lines == laps * MOST_LINES
        parser.feed(b"")
        laps += 1
    assert parser.lines == 5000
    assert laps == 5000 // MOST_LINES + 1


@pytest.mark.parametrize("line", [b"\n", b":\n", b": x\n", b"data\n", b"x\n"])
async def test_a_stream_of_lines_that_say_nothing_is_left(autojump_clock: MockClock, line: bytes) -> None:
    reader = StreamReader(trio.current_time())
    laps = 0

    def read() -> None:
        nonlocal laps
        for _ in range(100):
            for _ in reader.laps((line * READ_SIZE)[:READ_SIZE]):
                laps += 1

    with pytest.raises(OverspentError, match="lines"):
        read()
    assert laps <= (AT_ONCE + READ_SIZE) // MOST_LINES


async def test_comments_for_days_are_no_flood(autojump_clock: MockClock) -> None:
    reader = StreamReader(trio.current_time())
    for _ in range(50_000):
        assert [lap.anything for lap in reader.laps(b":\n\n")] == [True]
        await trio.sleep(5)
    for _ in range(5000):
        (lap,) = reader.laps(b"event: status\ndata: " + b"x" * 300 + b"\n\n")
        assert lap.status == b"x" * 300


async def test_an_event_is_bounded(autojump_clock: MockClock) -> None:
    reader = StreamReader(trio.current_time())
    with pytest.raises(EventTooLargeError):
        list(reader.laps(b"data: " + b"x" * EVENT_LIMIT))
