"""opsd's application with fakes behind it, asked without a port."""

from __future__ import annotations

import gzip
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import trio

from common.config import load
from common.secret import Secret
from opsd.api.parts import Parts
from opsd.app import make_app
from opsd.auth import Guard
from opsd.board import Board, SnapshotError, WorkerSnapshot
from opsd.endpoints import ENDPOINTS
from opsd.pages import PageFile
from opsd.settings import OpsSettings
from opsd.tmux.script import Window
from opsd.tmux.status import TmuxStatus
from tests.support.logbook import Logbook
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping, Sequence

    from opsd.viewers import Count

HOST = "localhost:9003"
CHANGE = {"X-Ops-Request": "1"}
LIVE = "/api/dev/status/live"
SNAPSHOT = gzip.compress(b'{"tasks":[]}')


class FakeBoard(Board):
    """A board without sources, and with the snapshots of one."""

    def __init__(self) -> None:
        super().__init__([], region="us-east-1", own_routes=len(ENDPOINTS), log=Logbook().log)
        self.ended = 0
        self.broken = False

    async def snapshot(self, worker: str) -> WorkerSnapshot:
        if self.broken:
            raise RuntimeError("a bug")
        if worker == "statusd-2":
            raise SnapshotError(429, "statusd: a moment ago", 7)
        if worker != "statusd-1":
            raise SnapshotError(404, "no such worker")
        return WorkerSnapshot("statusd-1.json", SNAPSHOT)

    def request_ended(self) -> None:
        super().request_ended()
        self.ended += 1

    def publish(self) -> None:
        """Make a new version."""
        self._publish(trio.current_time())

    @property
    def in_flight(self) -> int:
        return self._in_flight


@attrs.define
class FakeHistory:
    """Remembers what it was asked."""

    error: Exception | None = None
    asked: list[tuple[int, int]] = attrs.field(factory=list)
    working: bool = True
    hangs: bool = False

    async def query(self, minutes: int, points: int) -> list[dict[str, object]]:
        self.asked.append((minutes, points))
        if self.hangs:
            await trio.sleep_forever()
        if self.error is not None:
            raise self.error
        return [{"time": "2026-01-15T00:00:00.000Z", "connections": 1}]


@attrs.define
class FakeTmux:
    """Does what it is told, or fails."""

    error: Exception | None = None
    done: list[object] = attrs.field(factory=list)

    async def status(self) -> TmuxStatus:
        return TmuxStatus(True, "", (), "run-status", "tmux attach -t run-status")

    async def start(self, windows: Sequence[Window]) -> TmuxStatus:
        return await self._do([window.name for window in windows])

    async def stop(self) -> TmuxStatus:
        return await self._do("stop")

    async def _do(self, what: object) -> TmuxStatus:
        if self.error is not None:
            raise self.error
        self.done.append(what)
        return await self.status()


@attrs.define
class FakeViewers:
    """Counts as it is told; hangs if it is told nothing of a name."""

    counts: dict[tuple[str, str], Count] = attrs.field(factory=dict)

    async def count(self, daemon: str, name: str) -> Count:
        if (daemon, name) not in self.counts:
            await trio.sleep_forever()
        return self.counts[daemon, name]


class Opsd:
    """An application and what is behind it."""

    def __init__(self, token: str | None = None, windows: Sequence[str] = ("statusd",), **variables: str) -> None:
        environ = {f"OPS_{name.upper()}": value for name, value in variables.items()}
        self.logbook = Logbook()
        self.board = FakeBoard()
        self.history = FakeHistory()
        self.viewers = FakeViewers()
        self.tmux = FakeTmux()
        self.closing = trio.Event()
        secret = None if token is None else Secret.literal(token, "OPS_TOKEN")
        settings = load(OpsSettings, environ).settings
        self.parts = Parts(
            settings=settings,
            board=self.board,
            history=self.history,
            viewers=self.viewers,
            tmux=self.tmux,
            windows=tuple(Window(name, (name,), {}) for name in windows),
            guard=Guard(secret, wall=lambda: 1e9, clock=trio.current_time, trusted=settings.trusted_proxies),
            pages={
                "index.html": PageFile(b"<p>", "text/html; charset=utf-8", '"1"'),
                "a/b.js": PageFile(b";", "text/javascript", '"2"'),
            },
            closing=self.closing,
        )
        self.app = make_app(self.parts, self.logbook.log)

    async def ask(
        self, path: str, method: str = "GET", *, remote: str = "127.0.0.1", cookies: str = "", **options: Any
    ) -> httpx.Response:
        """One request."""
        transport = httpx.ASGITransport(self.app, client=(remote, 1))
        headers = {"Host": HOST, **({"Cookie": cookies} if cookies else {}), **options.pop("headers", {})}
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
            return await client.request(method, path, headers=headers, **options)


class Conversation:
    """One WebSocket, spoken to as ASGI."""

    def __init__(self) -> None:
        self.to_app, self._from_client = trio.open_memory_channel[dict[str, Any]](10)
        self._to_client, self.from_app = trio.open_memory_channel[dict[str, Any]](0)

    async def run(self, opsd: Opsd, headers: dict[str, str], path: str = LIVE) -> None:
        scope = {
            "type": "websocket",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
        }
        await self.to_app.send({"type": "websocket.connect"})
        async with self._to_client:
            await opsd.app(scope, self._from_client.receive, self._send)

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await self._to_client.send(dict(message))

    async def next(self) -> dict[str, Any]:
        with trio.fail_after(PATIENCE):
            return await self.from_app.receive()


@asynccontextmanager
async def converse(opsd: Opsd, path: str = LIVE, **headers: str) -> AsyncIterator[Conversation]:
    """A WebSocket that ends with the block."""
    conversation = Conversation()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conversation.run, opsd, {"Host": HOST, **headers}, path)
        yield conversation
        nursery.cancel_scope.cancel()
