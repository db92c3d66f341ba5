"""The operator's side of the admin listener in memory: requests, answers, events, and a daemon that is a script."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio
import trio.testing

from common.admin.access import Access
from common.admin.server import AdminServer
from common.admin.telemetry_source import About, UnknownWorkerError
from common.config import ListenAddress
from common.telemetry.values import AnswerFigures, Audience, DaemonStatus, Delivery, Retired, WorkerStatus
from common.web.accepted import Accepted
from common.web.path import Target
from statusd.route import route
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from common.exposition import Report
    from common.web.forwarded import IPAddress

ABOUT: Final = About("statusd", ("/{runid}:{channel}", "/health", "/health/live"), "status2")
LOOPBACK: Final = ListenAddress("127.0.0.1", 9102)
SNAPSHOT: Final = b"\x1f\x8b not really"


def worker(worker_id: str = "1", **changed: object) -> WorkerStatus:
    """A worker's status with some figures."""
    status = WorkerStatus(
        id=worker_id,
        pid=4711,
        daemon="statusd",
        start="2026-01-15T12:34:56.789012Z",
        uptime=12.345,
        rss=50_000_000,
        cpu=1.5,
        connections=3,
        topics=2,
        backlog=0,
        redis="online",
        ready=True,
        messages=100,
        errors=1,
        answers=AnswerFigures(total=10, server_errors=1, seconds=0.5, in_flight=2),
        disconnects={"client_closed": 4},
        delivery=Delivery(count=7, seconds=0.25),
    )
    return attrs.evolve(status, **changed)  # type: ignore[arg-type]


class ScriptedProbe:
    """A worker's process as the test wants it."""

    def __init__(self, worker_id: str) -> None:
        self.now = worker(worker_id)
        self.looks = 0
        self.audiences: dict[bytes, int] = {}
        self.image: bytes | Exception = b"image of " + worker_id.encode()

    def status(self, backlog: int | None = None) -> WorkerStatus:
        """See `Probe`."""
        return self.now if backlog is None else attrs.evolve(self.now, backlog=backlog)

    def mark(self) -> tuple[object, ...]:
        """See `Probe`."""
        self.looks += 1
        return (self.now.connections, self.now.messages)

    def backlog(self) -> int:
        """See `Probe`."""
        return self.now.backlog

    def clients(self, channel: bytes) -> int:
        """See `Probe`."""
        return self.audiences.get(channel, 0)

    async def snapshot(self) -> bytes:
        """See `Probe`."""
        await trio.lowlevel.checkpoint()
        if isinstance(self.image, Exception):
            raise self.image
        return self.image


class ScriptedSource:
    """A daemon whose workers the test sets (`TelemetrySource`)."""

    def __init__(self) -> None:
        self.workers: tuple[WorkerStatus, ...] = (worker(),)
        self.retired = Retired()
        self.watching = False
        self.watched = 0
        """How often watching has begun."""
        self.snapshots: dict[str, bytes | Exception] = {}
        self.audiences: dict[bytes, Audience] = {}
        self.asked = trio.Event()
        self.asked.set()
        """Unset, `status` waits for it."""
        self._changed = trio.Event()

    @property
    def about(self) -> About:
        return ABOUT

    def change(self, **changed: object) -> None:
        """Change the first worker's figures."""
        self.workers = (attrs.evolve(self.workers[0], **changed), *self.workers[1:])  # type: ignore[arg-type]
        self._changed.set()

    async def status(self) -> DaemonStatus:
        await self.asked.wait()
        return self.newest()

    def newest(self) -> DaemonStatus:
        return DaemonStatus(
            daemon=ABOUT.daemon, routes=ABOUT.routes, draining=False, workers=self.workers, retired=self.retired
        )

    def start_watching(self) -> None:
        assert not self.watching
        self.watching = True
        self.watched += 1
        self._changed = trio.Event()

    def stop_watching(self) -> None:
        assert self.watching
        self.watching = False

    async def wait_changed(self) -> None:
        await self._changed.wait()
        self._changed = trio.Event()

    async def snapshot(self, worker_id: str) -> bytes:
        await trio.lowlevel.checkpoint()
        snapshot = self.snapshots.get(worker_id, UnknownWorkerError())
        if isinstance(snapshot, Exception):
            raise snapshot
        return snapshot

    async def audience(self, channel: bytes) -> Audience:
        await trio.lowlevel.checkpoint()
        return self.audiences.get(channel, Audience(0))


@attrs.frozen
class Event:
    """One server-sent event and when it was read; a comment has no name."""

    time: float
    name: str
    data: Any


class Operator:
    """One connection to the listener, from `address` if there is one; `nursery` serves it."""

    def __init__(
        self, server: AdminServer, nursery: trio.Nursery, *, lockstep: bool = False, address: IPAddress | None = None
    ) -> None:
        self.stream: trio.abc.HalfCloseableStream
        self.stream, theirs = trio.testing.lockstep_stream_pair() if lockstep else trio.testing.memory_stream_pair()
        self._read = b""
        self.ended = trio.Event()
        """Set when the server is done with it."""

        async def serve() -> None:
            await server.serve(Accepted(theirs, None, address))
            self.ended.set()

        nursery.start_soon(serve)

    async def ask(self, path: str, headers: Iterable[tuple[str, str]] = (), *, method: str = "GET") -> None:
        """Send a request."""
        lines = [f"{method} {path} HTTP/1.1"]
        fields = [*headers]
        if not any(name.lower() == "host" for name, _ in fields):
            fields.insert(0, ("Host", "127.0.0.1:9102"))
        lines += [f"{name}: {value}" for name, value in fields]
        await self.stream.send_all("\r\n".join([*lines, "", ""]).encode())

    async def read_to_end(self) -> bytes:
        """Everything that the server sends until it ends."""
        data = self._read
        while chunk := await self.stream.receive_some():
            data += chunk
        await self.stream.aclose()
        await self.ended.wait()
        return bytes(data)

    async def head(self) -> bytes:
        """The answer's head."""
        return await self._until(b"\r\n\r\n")

    async def event(self) -> Event:
        """The next event or comment."""
        block = (await self._until(b"\n\n")).decode().rstrip("\n")
        now = trio.current_time()
        if block.startswith(":"):
            return Event(now, "", block[1:].strip())
        name, data = block.split("\n")
        return Event(now, name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))

    async def _until(self, mark: bytes) -> bytes:
        while mark not in self._read:
            chunk = await self.stream.receive_some()
            assert chunk, "the server has ended"
            self._read += chunk
        found, _, self._read = self._read.partition(mark)
        return found + mark


@attrs.frozen
class Running:
    """An admin server on a scripted daemon."""

    server: AdminServer
    source: ScriptedSource
    logbook: Logbook
    nursery: trio.Nursery

    def operator(self, *, lockstep: bool = False, address: str | None = None) -> Operator:
        """A new connection."""
        return Operator(self.server, self.nursery, lockstep=lockstep, address=ip_address(address) if address else None)


@asynccontextmanager
async def open_admin(access: Access | None = None, report: Report = ()) -> AsyncIterator[Running]:
    """A server that runs for the block; every connection must have been closed by its end or is cut off."""
    logbook, source = Logbook(), ScriptedSource()

    async def figures() -> Report:
        await trio.lowlevel.checkpoint()
        return report

    server = AdminServer(
        source=source,
        report=figures,
        channel_of=lambda name: route(Target(f"/{name}", {})).channel,
        access=access or Access(LOOPBACK, None),
        log=logbook.log.bind(component="admin"),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run, [])
        yield Running(server, source, logbook, nursery)
        nursery.cancel_scope.cancel()
