"""A daemon's telemetry as a test wants it: bodies of `/workers/status`, and a server without a network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs
import httpx
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

ROUTES = ("/{runid}:{channel}", "/health", "/health/live", "/metrics")


def worker(**changes: object) -> dict[str, object]:
    """One worker of `/workers/status`; nested objects are replaced as a whole."""
    return {
        "pid": 4711,
        "daemon": "statusd",
        "start": "2026-01-15T12:34:56.789012Z",
        "uptime": 12.5,
        "rss": 1000,
        "cpu": 1.5,
        "connections": 2,
        "topics": 1,
        "backlog": 0,
        "redis": "online",
        "ready": True,
        "messages": 0,
        "errors": 0,
        "answers": {"total": 0, "server_errors": 0, "seconds": 0.0, "in_flight": 0},
        "disconnects": {},
        "delivery": {"count": 0, "seconds": 0.0},
        **changes,
    }


def telemetry(workers: Mapping[str, dict[str, object]] | None = None, **changes: object) -> dict[str, object]:
    """A document of `/workers/status`, with one worker unless told otherwise."""
    listed = {"1": worker()} if workers is None else workers
    return {
        "connected": len(listed),
        "daemon": "statusd",
        "routes": list(ROUTES),
        "draining": False,
        "retired": {"answers": {}, "disconnects": {}, "messages": 0},
        "workers": {name: {"id": name, **fields} for name, fields in listed.items()},
        **changes,
    }


def encoded(document: object) -> bytes:
    """JSON as bytes."""
    return json.dumps(document).encode()


def event(document: object, name: str = "status") -> bytes:
    """A server-sent event."""
    return b"event: " + name.encode() + b"\ndata: " + encoded(document) + b"\n\n"


def respond(status: int, body: bytes = b"", **headers: str) -> httpx.Response:
    """An answer as the network gives it: not read yet. `_` in a header's name stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=named, stream=httpx.ByteStream(body))


class Chunks(httpx.AsyncByteStream):
    """A body that comes as the test sends it; what is never closed ends by cancellation."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[bytes](1000)
        self.closed = False
        """By the reader."""
        self.ended = False

    def send(self, chunk: bytes) -> None:
        """Let a chunk arrive."""
        self._send.send_nowait(chunk)

    def end(self) -> None:
        """Let the body end."""
        self.ended = True
        self._send.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._receive:
            yield chunk

    async def aclose(self) -> None:
        """See `httpx.AsyncByteStream`."""
        self.closed = True
        self.end()
        self._receive.close()


@attrs.define
class Telemetry(httpx.AsyncBaseTransport):
    """A scripted server. What it does is changed by setting its attributes; it counts what it is asked."""

    status: Callable[[], Awaitable[httpx.Response]] | None = None
    """How `/workers/status` is answered; None is as `document` says."""
    document: object = attrs.field(factory=telemetry)
    up: bool = True
    """Down, connections are refused."""
    pushes: bool = False
    """Whether there is an `/events`."""
    streams: list[Chunks] = attrs.field(factory=list)
    """Its streams, the newest last."""
    asked: list[tuple[float, str]] = attrs.field(factory=list)
    requests: list[httpx.Request] = attrs.field(factory=list)
    snapshot: httpx.Response | None = None
    """Every snapshot; None is 404."""
    topics: httpx.Response | None = None
    """The answer of `/topics`; None is 404."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.AsyncBaseTransport`."""
        self.asked.append((trio.current_time(), request.url.path))
        self.requests.append(request)
        await trio.lowlevel.checkpoint()
        if not self.up:
            raise httpx.ConnectError("refused")
        if request.url.path == "/events":
            if not self.pushes:
                return httpx.Response(404)
            stream = Chunks()
            self.streams.append(stream)
            return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=stream)
        if request.url.path.startswith("/workers/snapshot/"):
            return self.snapshot or httpx.Response(404)
        if request.url.path == "/topics":
            return self.topics or httpx.Response(404)
        if self.status is not None:
            return await self.status()
        return respond(200, encoded(self.document))

    def crash(self) -> None:
        """Go away, with all connections."""
        self.up = False
        for stream in self.streams:
            stream.end()

    def polls(self) -> list[float]:
        """When `/workers/status` was asked for."""
        return [at for at, path in self.asked if path == "/workers/status"]


def answering(status: int, body: bytes = b"", **headers: str) -> Callable[[], Awaitable[httpx.Response]]:
    """A script for `Telemetry.status`: always the same answer."""

    async def answer() -> httpx.Response:
        return respond(status, body, **headers)

    return answer


async def hang() -> httpx.Response:
    """A script for `Telemetry.status`: no answer, ever."""
    await trio.sleep_forever()
    raise AssertionError("slept forever")


def endless(chunk: bytes, pause: float = 0.0) -> Callable[[], Awaitable[httpx.Response]]:
    """A script for `Telemetry.status`: a body without an end."""

    class Flood(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await trio.sleep(pause)
                yield chunk

    async def answer() -> httpx.Response:
        return httpx.Response(200, stream=Flood())

    return answer
