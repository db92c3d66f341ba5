"""A real daemon's operator's listener: where it is, a connection to it, and the events that it sends."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from tests.support.raw import HOST, PATIENCE, request_head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.daemon import DaemonProcess


def address_of(daemon: DaemonProcess) -> str:
    """Where its operator's listener is."""
    (name,) = daemon.said("listening")[0]["admin"]
    assert isinstance(name, str)
    return name


async def open_stream(address: str) -> trio.SocketStream:
    """A connection to the operator's listener."""
    with trio.fail_after(PATIENCE):
        if address.startswith("unix:"):
            stream = await trio.open_unix_socket(address.removeprefix("unix:"))
        else:
            stream = await trio.open_tcp_stream(HOST, int(address.rpartition(":")[2]))
    return stream


class Events:
    """What comes on `/events`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._read = b""

    async def next(self) -> dict[str, Any]:
        """The next status."""
        while True:
            block = await self._until(b"\n\n")
            if block.startswith(b"event: status\ndata: "):
                document: dict[str, Any] = json.loads(block.removeprefix(b"event: status\ndata: "))
                return document

    async def until(self, connections: int) -> dict[str, Any]:
        """The first status with that many connections over all workers."""
        while True:
            document = await self.next()
            if sum(worker["connections"] for worker in document["workers"].values()) == connections:
                return document

    async def head(self) -> None:
        """Skip the answer's head."""
        assert (await self._until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")

    async def _until(self, mark: bytes) -> bytes:
        with trio.fail_after(PATIENCE):
            while mark not in self._read:
                chunk = await self._stream.receive_some()
                assert chunk, "the daemon has ended the events"
                self._read += chunk
        found, _, self._read = self._read.partition(mark)
        return found


@asynccontextmanager
async def open_events(daemon: DaemonProcess) -> AsyncIterator[Events]:
    """A listener's connection, its first status still to be read."""
    async with await open_stream(address_of(daemon)) as stream:
        await stream.send_all(request_head("/events", "GET", {"Host": "localhost"}))
        events = Events(stream)
        await events.head()
        yield events
