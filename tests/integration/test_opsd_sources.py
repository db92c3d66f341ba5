"""Sources over real sockets: TCP and Unix, pushes, floods and silence left behind."""

from __future__ import annotations

import gc
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from common.config import load
from opsd.settings import OpsSettings
from opsd.sources.configured import make_sources
from tests.support.opsd_board import open_board
from tests.support.opsd_telemetry import encoded, event, telemetry, worker
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from opsd.board import Board

pytestmark = pytest.mark.integration

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


@attrs.define(eq=False)
class Server:
    """A telemetry server as bad as `how` says: `well`, `hangs`, `floods`, `drops`, `nonsense`."""

    how: str = "well"
    document: dict[str, object] = attrs.field(factory=telemetry)
    pushed: trio.Event = attrs.field(factory=trio.Event)
    answers: bool = True
    """Whether it says its status when it is asked; its events come in any case."""

    def push(self, document: dict[str, object]) -> None:
        """Something has changed."""
        self.document = document
        self.pushed.set()
        self.pushed = trio.Event()

    async def handle(self, stream: trio.SocketStream) -> None:
        """Serve one connection."""
        try:
            async with stream:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += (chunk := await stream.receive_some())
                    if not chunk:
                        return
                await self._answer(stream, head)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def _answer(self, stream: trio.SocketStream, head: bytes) -> None:
        if self.how == "hangs":
            await trio.sleep_forever()
        elif self.how == "nonsense":
            await stream.send_all(b"\x00\x01 nonsense\r\n\r\n" * 100)
        elif self.how == "drops":
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        elif self.how == "floods":
            await stream.send_all(STREAM_HEAD)
            while True:
                await stream.send_all(b"x" * 65536)
        elif b"/events" in head:
            await stream.send_all(STREAM_HEAD)
            while True:
                pushed = self.pushed
                await stream.send_all(event(self.document))
                await pushed.wait()
        elif not self.answers:
            await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        else:
            body = encoded(self.document)
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


@asynccontextmanager
async def watched(path: Path) -> AsyncIterator[tuple[Board, Server, Server]]:
    """A board with two daemons, `tcp` and `unix`."""
    first, second = Server(), Server()
    unix = trio.socket.socket(trio.socket.AF_UNIX)
    await unix.bind(str(path))
    unix.listen()
    async with trio.open_nursery() as nursery:
        tcp = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = tcp[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, first.handle, tcp)
        nursery.start_soon(trio.serve_listeners, second.handle, [trio.SocketListener(unix)])
        targets = f"tcp=http://127.0.0.1:{port},unix=unix:{path}"
        loaded = load(OpsSettings, {"OPS_TARGETS": targets, "OPS_WORKERS_TIMEOUT": "3s"})
        async with open_board(make_sources(loaded.settings, Random())) as (board, _):
            await until(board, ())
            yield board, first, second
        nursery.cancel_scope.cancel()


async def until(board: Board, unavailable: tuple[str, ...]) -> None:
    with trio.fail_after(PATIENCE):
        version = 0
        while board.status.meta.unavailable != unavailable:
            version = await board.wait_newer(version)


async def until_counted(board: Board, count: int) -> None:
    """Wait until the board counts so many connections."""
    with trio.fail_after(PATIENCE):
        while board.status.vector.sessions.websocket_connections != count:
            await board.wait_newer(board.version)


def connections(count: int) -> dict[str, object]:
    return telemetry({"1": worker(connections=count)})


async def test_each_push_is_on_the_board_without_a_question(tmp_path: Path) -> None:
    async with watched(tmp_path / "s") as (board, first, second):
        assert board.status.vector.sessions.active_workers == 2
        first.answers = second.answers = False
        first.push(connections(100))
        second.push(connections(0))
        await until_counted(board, 100)
        for count in range(1, 21):
            second.push(connections(count))
            await until_counted(board, 100 + count)
        for count in range(1, 21):
            first.push(connections(100 + count))
            await until_counted(board, 120 + count)


@pytest.mark.sensitive
@pytest.mark.parametrize("how", ["hangs", "nonsense", "drops", "floods"])
async def test_a_bad_server_is_left_alone_and_believed_again_when_it_is_well(tmp_path: Path, how: str) -> None:
    async with watched(tmp_path / "s") as (board, first, second):
        first.how = how
        first.push(connections(1000))
        # The stream that is open goes on to be good; a new one is what is bad.
        first.document = {"workers": []}
        first.pushed.set()
        await until(board, ("tcp",))
        assert board.status.vector.sessions.active_workers == 1
        second.push(connections(7))
        await until_counted(board, 7)
        assert board.status.meta.unavailable == ("tcp",), "it was waited for"
        first.how, first.document, first.pushed = "well", connections(5), trio.Event()
        await until(board, ())
        assert board.status.vector.sessions.websocket_connections == 12
    # An iteration that was left half way would be told of here.
    gc.collect()
