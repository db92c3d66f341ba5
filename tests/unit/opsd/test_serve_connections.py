"""opsd's HTTP server in memory (opsd/serve.py, opsd/http1.py): answers, time-outs, places and the end of it."""

from __future__ import annotations

import gc
import json
import socket
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from common.web.accepted import Accepted
from opsd import serve
from opsd.http1 import HEAD_TIMEOUT, IDLE_TIMEOUT
from opsd.serve import FINISH, GRACE, HttpServer
from tests.support.logbook import Logbook
from tests.support.remains import unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.types import Receive, Scope, Send
    from trio.testing import MockClock

GET = b"GET %b HTTP/1.1\r\nHost: opsd\r\n\r\n"
SHAKE = (
    b"GET /live HTTP/1.1\r\nHost: opsd\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2l4dGVlbiBieXRlcyBvaw==\r\n\r\n"
)


class Kernel:
    """A socket that has addresses and takes nothing at once, so that all goes the stream's way."""

    family = socket.AF_INET

    def __init__(self) -> None:
        self.gone = False

    def setsockopt(self, *_: int) -> None:
        """See `socket.socket`."""

    def fileno(self) -> int:
        return 7

    def send(self, _data: memoryview) -> int:
        raise BlockingIOError

    def getpeername(self) -> tuple[str, int]:
        if self.gone:
            raise OSError("not connected")
        return ("192.0.2.1", 5000)

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 9003)


@attrs.define
class Bench:
    """A server, its application's calls, and clients."""

    logbook: Logbook = attrs.field(factory=Logbook)
    stop: trio.Event = attrs.field(factory=trio.Event)
    closing: trio.Event = attrs.field(factory=trio.Event)
    ended_at: float | None = None
    hangs: list[str] = attrs.field(factory=list)
    """What became of the requests for `/hang`."""
    _serve: Callable[[Accepted], Awaitable[None]] | None = None
    _nursery: trio.Nursery | None = None

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers with the path; `/hang` never, `/bug` with a bug, a WebSocket with what it hears."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
            return
        if scope["path"] == "/bug":
            raise LookupError("a bug")
        if scope["path"] == "/hang":
            self.hangs.append("begun")
            try:
                await trio.sleep_forever()
            finally:
                self.hangs.append(f"ended at {trio.current_time():g}")
        body = str(scope["path"]).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    async def accept(
        self, _listener: object, serve: Callable[[Accepted], Awaitable[None]], nursery: trio.Nursery, _log: object
    ) -> None:
        """In the place of `common.web.listener.accept`."""
        self._serve, self._nursery = serve, nursery
        await trio.sleep_forever()

    async def run(self) -> None:
        await HttpServer(self.app, self.logbook.log).run([cast("socket.socket", None)], self.stop, self.closing)
        self.ended_at = trio.current_time()

    def arrive(self, address: str = "192.0.2.1", *, gone: bool = False) -> Client:
        """A client that has connected."""
        assert self._serve is not None
        assert self._nursery is not None
        kernel = Kernel()
        kernel.gone = gone
        theirs, ours = memory_stream_pair()
        self._nursery.start_soon(self._serve, Accepted(ours, cast("socket.socket", kernel), ip_address(address)))
        return Client(theirs)


class Client:
    """The other end of a connection."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    async def ask(self, data: bytes) -> bytes:
        """Send, and read what comes of it at once."""
        await self.stream.send_all(data)
        return await self.hear()

    async def hear(self) -> bytes:
        """What has come when nothing more happens; empty at the end."""
        await wait_all_tasks_blocked()
        heard = b""
        with trio.move_on_after(0.001):
            while data := bytes(await self.stream.receive_some()):
                heard += data
        return heard

    async def wait_end(self) -> float:
        """When the server has ended the connection, having said nothing more."""
        assert await self.stream.receive_some() == b""
        return trio.current_time()


@asynccontextmanager
async def open_server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A server that serves until the block ends, and then is told to."""
    bench = Bench()
    monkeypatch.setattr(serve, "accept", bench.accept)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run)
        await wait_all_tasks_blocked()
        yield bench
        bench.stop.set()


async def test_requests_of_one_connection_are_answered_in_order(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_server(monkeypatch) as bench:
        client = bench.arrive()
        for path in (b"/a", b"/b"):
            answer = await client.ask(GET % path)
            assert answer.startswith(b"HTTP/1.1 200 \r\n")
            assert answer.endswith(b"\r\n\r\n" + path)
    assert bench.logbook.lines == []


async def test_a_head_that_is_refused_is_told_why_and_is_the_last(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_server(monkeypatch) as bench:
        client = bench.arrive()
        answer = await client.ask(b"GET / HTTP/1.2\r\nHost: opsd\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 505 ")
        assert json.loads(body) == {"error": "only HTTP/1.1 is spoken here"}
        await client.wait_end()
        nonsense = await bench.arrive().ask(b"\x16\x03\x01nonsense\r\n\r\n")
        assert json.loads(nonsense.partition(b"\r\n\r\n")[2]) == {"error": "bad request"}, "not in its own words"


async def test_a_first_head_has_its_time_and_so_has_silence_after_an_answer(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_server(monkeypatch) as bench:
        start = trio.current_time()
        slow, idle = bench.arrive(), bench.arrive()
        await slow.stream.send_all(b"GET / HT")
        await idle.ask(GET % b"/a")
        assert await slow.wait_end() - start == pytest.approx(HEAD_TIMEOUT)
        assert await idle.wait_end() - start == pytest.approx(IDLE_TIMEOUT, abs=0.1)


async def test_a_later_head_has_its_time_from_its_first_byte(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_server(monkeypatch) as bench:
        client = bench.arrive()
        await client.ask(GET % b"/a")
        await trio.sleep(IDLE_TIMEOUT / 2)
        begun = trio.current_time()
        await client.stream.send_all(b"GET")
        await trio.sleep(HEAD_TIMEOUT / 2)
        await client.stream.send_all(b" / HT")
        assert await client.wait_end() - begun == pytest.approx(HEAD_TIMEOUT)


async def test_a_request_whose_client_has_left_has_time_to_finish(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_server(monkeypatch) as bench:
        client = bench.arrive()
        await client.ask(GET % b"/hang")
        left = trio.current_time()
        await client.stream.aclose()
        await trio.sleep(FINISH * 2)
        begun, ended = bench.hangs
        assert begun == "begun"
        assert float(ended.rpartition(" ")[2]) <= left + FINISH + 0.1


async def test_a_client_that_has_gone_before_it_was_asked_is_no_error(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_server(monkeypatch) as bench:
        await bench.arrive(gone=True).wait_end()
    assert bench.logbook.lines == []


async def test_what_needs_a_place_takes_that_of_one_that_is_idle(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "MOST_CONNECTIONS", 1)
    async with open_server(monkeypatch) as bench:
        idle = bench.arrive()
        await idle.ask(GET % b"/a")
        await trio.sleep(5)
        busy = bench.arrive("198.51.100.1")
        await idle.wait_end()
        await busy.ask(GET % b"/hang")
        refused = bench.arrive("203.0.113.1")
        await refused.wait_end()
        assert bench.hangs == ["begun"]


async def test_a_bug_of_the_application_is_an_answer_and_a_line(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_server(monkeypatch) as bench:
        answer = await bench.arrive().ask(GET % b"/bug")
        assert answer.startswith(b"HTTP/1.1 500 ")
        [line] = bench.logbook.at_least("error")
        assert line["msg"] == "http server"
        assert "LookupError: a bug" in line["traceback"]
        assert (await bench.arrive().ask(GET % b"/a")).endswith(b"/a"), "the others are served"


async def test_a_websocket_is_heard_until_it_is_closed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_server(monkeypatch) as bench:
        client = bench.arrive()
        assert (await client.ask(SHAKE)).startswith(b"HTTP/1.1 101 ")
        assert await client.ask(b"\x81\x82\0\0\0\0hi") == b"\x81\x02hi"
        assert await client.ask(b"\x88\x82\0\0\0\0\x03\xe8") == b"\x88\x02\x03\xe8"
        await client.wait_end()
    assert bench.logbook.lines == []


async def test_the_end_waits_for_answers_but_not_for_ever(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_server(monkeypatch) as bench:
        idle, hanging = bench.arrive(), bench.arrive()
        await idle.ask(GET % b"/a")
        await hanging.ask(GET % b"/hang")
        told = trio.current_time()
        bench.stop.set()
        await idle.wait_end()
        assert bench.closing.is_set()
    assert bench.ended_at == pytest.approx(told + GRACE)
    assert bench.hangs[1:] == [f"ended at {bench.ended_at:g}"]


ENDS = {
    "answered": GET % b"/a",
    "answered twice": GET % b"/a" + GET % b"/b",
    "failed": GET % b"/bug",
    "left while it waited": GET % b"/hang",
    "left in its head": SHAKE[:40],
    "left without a word": b"",
    "refused": b"nonsense\r\n\r\n",
    "a conversation that was left": SHAKE,
    "a conversation that was closed": SHAKE + b"\x88\x82abcd" + bytes([0x03 ^ ord("a"), 0xE8 ^ ord("b")]),
    "a broken conversation": SHAKE + b"\xff\xff\xff",
}


@pytest.mark.parametrize("said", ENDS.values(), ids=ENDS.keys())
async def test_a_connection_that_has_ended_leaves_nothing_to_the_collector(
    said: bytes, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_server(monkeypatch) as bench:
        gc.collect()
        gc.disable()
        try:
            client = bench.arrive()
            await client.ask(said) if said else await wait_all_tasks_blocked()
            await client.stream.aclose()
            await trio.sleep(FINISH + IDLE_TIMEOUT)
            left = [type(found) for found in unreachable()]
        finally:
            gc.enable()
        assert [kind for kind in left if kind.__module__.startswith(("opsd", "hypercorn"))] == []
        assert all(line["msg"] == "http server" for line in bench.logbook.lines)
