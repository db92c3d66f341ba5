"""The terminal client over real sockets, against a small trio-websocket server, and as a process."""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

import common.watch.client
from common.backoff import Backoff
from common.watch.client import INIT, PONG, watch
from common.watch.show import Note
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
QUICK = Backoff(0.01, 0.05)


@attrs.define
class Recorder:
    """A show that remembers, and that can be waited for."""

    frames: list[Mapping[str, object]] = attrs.field(factory=list)
    notices: list[tuple[Note, str]] = attrs.field(factory=list)
    _changed: trio.Event = attrs.field(factory=trio.Event)

    def frame(self, frame: Mapping[str, object]) -> None:
        self.frames.append(frame)
        self._changed.set()

    def notice(self, note: Note, text: str) -> None:
        self.notices.append((note, text))
        self._changed.set()

    def texts(self, note: Note) -> list[str]:
        return [text for kind, text in self.notices if kind is note]

    async def wait_for(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(PATIENCE):
            while not condition():
                self._changed = trio.Event()
                await self._changed.wait()


@attrs.define
class Server:
    """Meets connection after connection with the next step, the last one repeated."""

    steps: list[Callable[[WebSocketRequest], Awaitable[None]]]
    port: int = 0
    paths: list[str] = attrs.field(factory=list)
    times: list[float] = attrs.field(factory=list)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def handle(self, request: WebSocketRequest) -> None:
        step = self.steps[min(len(self.paths), len(self.steps) - 1)]
        self.paths.append(request.path)
        self.times.append(trio.current_time())
        await step(request)


@asynccontextmanager
async def serving(*steps: Callable[[WebSocketRequest], Awaitable[None]]) -> AsyncIterator[Server]:
    server = Server(list(steps))
    async with trio.open_nursery() as nursery:
        running = await nursery.start(serve_websocket, server.handle, "127.0.0.1", 0, None)
        server.port = running.port
        yield server
        nursery.cancel_scope.cancel()


def playing(script: Callable[[WebSocketConnection], Awaitable[None]]) -> Callable[[WebSocketRequest], Awaitable[None]]:
    async def step(request: WebSocketRequest) -> None:
        # A client may leave before it was told everything, or let in: when its time is up.
        with suppress(ConnectionClosed):
            await script(await request.accept())

    return step


async def stay_on(connection: WebSocketConnection) -> None:
    while True:
        try:
            await connection.get_message()
        except ConnectionClosed:
            return


stay_open = playing(stay_on)


def refusing(status: int, body: bytes, *headers: tuple[bytes, bytes]) -> Callable[[WebSocketRequest], Awaitable[None]]:
    async def step(request: WebSocketRequest) -> None:
        await request.reject(status, extra_headers=list(headers), body=body)

    return step


@asynccontextmanager
async def watching(url: str, silence: float = 30.0, path: str = "batch;;a;;_base:wepp") -> AsyncIterator[Recorder]:
    show = Recorder()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(watch, url, path, show, silence=silence, delays=QUICK, rng=random.Random(1)))
        yield show
        nursery.cancel_scope.cancel()


async def test_it_connects_says_init_and_answers_a_ping_at_once() -> None:
    received: list[str | bytes] = []

    async def script(connection: WebSocketConnection) -> None:
        received.append(await connection.get_message())
        await connection.send_message('{"type":"ping"}')
        received.append(await connection.get_message())
        await connection.send_message('{"type":"status","data":"after the pong"}')
        await stay_on(connection)

    async with serving(playing(script)) as server, watching(server.url) as show:
        await show.wait_for(lambda: show.frames)
        assert received == [INIT, PONG]
        assert show.frames == [{"type": "status", "data": "after the pong"}]
        assert server.paths == ["/batch%3B%3Ba%3B%3B_base%3Awepp?gap=1"]


async def test_a_thousand_frames_arrive_in_order() -> None:
    async def script(connection: WebSocketConnection) -> None:
        for number in range(1000):
            await connection.send_message(f'{{"type":"status","data":"{number}"}}')
        await stay_on(connection)

    async with serving(playing(script)) as server, watching(server.url) as show:
        await show.wait_for(lambda: len(show.frames) == 1000)
        assert [frame["data"] for frame in show.frames] == [str(number) for number in range(1000)]


async def test_hangup_and_close_code_are_told_in_words_and_it_reconnects() -> None:
    async def script(connection: WebSocketConnection) -> None:
        await connection.send_message('{"type":"hangup"}')
        await connection.aclose(1001, "drain")

    async with serving(playing(script), stay_open) as server, watching(server.url) as show:
        await show.wait_for(lambda: "connected again" in show.texts(Note.CONNECTED))
        assert show.texts(Note.RETRYING)[0].startswith(
            "hangup: the server is going away (a restart or a shutdown): drain [1001]; next attempt in "
        )
        assert show.texts(Note.GAP)[0].startswith("we were away for ")


async def test_a_connection_that_breaks_is_made_again() -> None:
    async def tear(connection: WebSocketConnection) -> None:
        await connection.get_message()
        await connection._stream.aclose()

    async with serving(playing(tear), stay_open) as server, watching(server.url) as show:
        await show.wait_for(lambda: "connected again" in show.texts(Note.CONNECTED))
        assert "the connection broke without a goodbye, or we read too slowly [1006]" in show.texts(Note.RETRYING)[0]


async def test_a_gap_is_shown() -> None:
    async def script(connection: WebSocketConnection) -> None:
        await connection.send_message('{"type":"gap","seconds":1.2}')
        await stay_on(connection)

    async with serving(playing(script)) as server, watching(server.url) as show:
        await show.wait_for(lambda: show.texts(Note.GAP))
        assert show.texts(Note.GAP) == ["Redis was away for 1.2 s: lines may be missing"]


async def test_a_server_without_a_sign_of_life_is_left_and_tried_again() -> None:
    async with serving(stay_open) as server, watching(server.url, silence=0.2) as show:
        await show.wait_for(lambda: "connected again" in show.texts(Note.CONNECTED))
        assert "no sign of life from the server for 0.2 s" in show.texts(Note.RETRYING)[0]


@pytest.mark.parametrize(
    ("status", "body"), [(400, b"bad run id"), (403, b"this origin is not allowed"), (404, b"no such page")]
)
async def test_a_refusal_that_cannot_get_better_ends_it(status: int, body: bytes) -> None:
    async with serving(refusing(status, body + b"\n")) as server:
        show = Recorder()
        with trio.fail_after(PATIENCE):
            assert await watch(server.url, "r:c", show, delays=QUICK) == 1
        assert show.notices == [(Note.REFUSED, f"the server refused with {status}: {body.decode()}")]
        assert len(server.paths) == 1


async def test_a_503_is_tried_again_no_sooner_than_it_asks() -> None:
    busy = refusing(503, b"too many connections\n", (b"Retry-After", b"1"))
    async with serving(busy, stay_open) as server, watching(server.url) as show:
        await show.wait_for(lambda: show.texts(Note.CONNECTED))
        assert show.texts(Note.RETRYING)[0].startswith("the server refused with 503: too many connections; next")
        assert server.times[1] - server.times[0] >= 1


async def test_when_it_is_cancelled_it_says_goodbye() -> None:
    goodbyes: list[int] = []
    over = trio.Event()

    async def script(connection: WebSocketConnection) -> None:
        await stay_on(connection)
        if connection.closed is not None:
            goodbyes.append(connection.closed.code)
        over.set()

    async with serving(playing(script)) as server:
        async with watching(server.url) as show:
            await show.wait_for(lambda: show.texts(Note.CONNECTED))
        with trio.fail_after(PATIENCE):
            await over.wait()
    assert goodbyes == [1000]


@asynccontextmanager
async def raw_server(answer: bytes, *, then_close: bool) -> AsyncIterator[str]:
    """A TCP server that reads the handshake, answers `answer`, and goes or stays."""

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(answer)
            if not then_close:
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("then_close", [True, False], ids=["closed", "open"])
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Switching", b"-ERR unknown command\r\n"])
async def test_whatever_answers_that_is_no_websocket_server_never_hangs_it(
    answer: bytes, then_close: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common.watch.client, "OPEN_TIMEOUT", 0.2)
    async with raw_server(answer, then_close=then_close) as url, watching(url) as show:
        await show.wait_for(lambda: len(show.texts(Note.RETRYING)) >= 2)
        assert not show.texts(Note.CONNECTED)


async def test_nobody_there_is_told_with_the_reason() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with watching(f"ws://127.0.0.1:{unused.getsockname()[1]}") as show:
            await show.wait_for(lambda: len(show.texts(Note.RETRYING)) >= 3)
    assert show.texts(Note.RETRYING)[0].startswith("no connection: Connection refused; next attempt in ")


# As a process.


@asynccontextmanager
async def client_process(
    url: str, *arguments: str, stdout: int = subprocess.PIPE, daemon: str = "statusd", path: str = "r:c"
) -> AsyncIterator[trio.Process]:
    environ = os.environ | {"PYTHONUNBUFFERED": "", "PYTHONWARNINGS": "error"}
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", daemon, "watch", *arguments, url, path],
        cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        with trio.move_on_after(PATIENCE, shield=True):
            await process.wait()


def lines(*texts: str) -> Callable[[WebSocketRequest], Awaitable[None]]:
    async def script(connection: WebSocketConnection) -> None:
        for text in texts:
            await connection.send_message(f'{{"type":"status","data":"{text}"}}')
        await stay_on(connection)

    return playing(script)


async def read_until(stream: trio.abc.ReceiveStream | None, end: bytes) -> bytes:
    assert stream is not None
    read = b""
    with trio.fail_after(PATIENCE):
        while not read.endswith(end):
            chunk = await stream.receive_some()
            assert chunk, read
            read += chunk
    return read


async def read_all(stream: trio.abc.ReceiveStream | None) -> bytes:
    assert stream is not None
    with trio.fail_after(PATIENCE):
        return b"".join([chunk async for chunk in stream])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_in_a_pipe_lines_come_as_they_are_and_ctrl_c_ends_quietly_with_0(number: signal.Signals) -> None:
    async with serving(lines("one", "\\u001b[31mtwo")) as server, client_process(server.url) as process:
        assert await read_until(process.stdout, b"two\n") == b"one\n\\u001b[31mtwo\n"
        process.send_signal(number)
        assert await read_all(process.stdout) == b""
        assert await read_all(process.stderr) == f"-- connected to {server.url}/r%3Ac?gap=1 --\n".encode()
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0


async def test_it_ends_by_itself_after_the_seconds_asked_for() -> None:
    async with serving(lines("one")) as server, client_process(server.url, "--seconds", "0.5") as process:
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0
        # Whether it gets as far as that in half a second is the machine's business.
        assert await read_all(process.stdout) in (b"one\n", b"")


async def test_a_reader_that_has_seen_enough_ends_it_quietly() -> None:
    async def script(connection: WebSocketConnection) -> None:
        while True:
            try:
                await connection.send_message('{"type":"status","data":"more"}')
                await trio.sleep(0.01)
            except ConnectionClosed:
                return

    async with serving(playing(script)) as server, client_process(server.url) as process:
        assert process.stdout is not None
        await process.stdout.receive_some()
        await process.stdout.aclose()
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0
        assert (await read_all(process.stderr)).count(b"\n") == 1


async def test_a_refused_process_exits_with_1_and_the_servers_reason_in_one_line() -> None:
    async with serving(refusing(400, b"bad run id\n")) as server, client_process(server.url) as process:
        assert await read_all(process.stderr) == b"-- the server refused with 400: bad run id --\n"
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 1


async def hang_up(connection: WebSocketConnection) -> None:
    await connection.send_message('{"type":"hangup"}')
    await connection.aclose(1011, "refused_by_redis")


@pytest.mark.parametrize(
    ("step", "arguments", "code"),
    [
        (lines("rq:2 COMPLETED g", "rq:1 STARTED f", "rq:1 COMPLETED f"), [], 0),
        (lines("rq:10 COMPLETED g", "rq:1 EXCEPTION f"), ["--job", "1"], 1),
        (playing(hang_up), [], 3),
        (refusing(404, b"no such page\n"), [], 2),
        (lines("rq:1 STARTED f"), ["--timeout", "250ms"], 124),
    ],
    ids=["done", "exception", "hangup", "refused", "time is up"],
)
async def test_a_script_learns_how_a_job_ended_from_the_exit_code(
    step: Callable[[WebSocketRequest], Awaitable[None]], arguments: list[str], code: int
) -> None:
    async with (
        serving(step) as server,
        client_process(server.url, "--until", "COMPLETED", "--json", *arguments) as process,
    ):
        with trio.fail_after(PATIENCE):
            assert await process.wait() == code


async def screen_until(text: bytes, url: str, daemon: str = "statusd", path: str = "r:c") -> bytes:
    """All that a client writes to its terminal when Ctrl-C is pressed as soon as `text` is there."""
    ours, theirs = os.openpty()
    screen = b""
    async with client_process(url, stdout=theirs, daemon=daemon, path=path) as process:
        os.close(theirs)
        os.set_blocking(ours, False)
        with trio.fail_after(PATIENCE):
            while text not in screen:
                await trio.lowlevel.wait_readable(ours)
                screen += os.read(ours, 65536)
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
        screen += read_to_hangup(ours)
    os.close(ours)
    return screen


def read_to_hangup(terminal: int) -> bytes:
    """What is left to read of a terminal that nobody has open any more."""
    rest = b""
    while True:
        try:
            rest += os.read(terminal, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # so Linux says that the other side is gone, behind all that it wrote
                raise
            return rest


async def test_on_a_terminal_ctrl_c_takes_the_bar_away_and_gives_the_cursor_back() -> None:
    async with serving(lines("42 %")) as server:
        screen = await screen_until(b"42.0 %", server.url)
    assert screen.count(b"\x1b[?25l") == screen.count(b"\x1b[?25h") == 1
    assert screen.rindex(b"\x1b[?25h") > screen.rindex(b"\x1b[?25l")
