"""Small receivers of what daemons post, on a real port, which is there only as long as a block."""

from __future__ import annotations

import json
from abc import abstractmethod
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import trio

from tests.support.raw import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@attrs.define
class PostReceiver:
    """Takes the body of each request, over all of its blocks; port 0 is one that the first of them chooses.

    One that is away, before it is there or in between, has a port of `free_port`, which nobody else gets meanwhile.
    """

    port: int

    @abstractmethod
    def take(self, body: bytes) -> None:
        """One body."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen for the block."""
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(self.port, host=HOST)
            self.port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, self._serve, listeners)
            yield
            nursery.cancel_scope.cancel()

    async def _serve(self, stream: trio.SocketStream) -> None:
        data = bytearray()
        try:
            async with stream:
                while not self._whole(data):
                    chunk = await stream.receive_some()
                    if not chunk:
                        return
                    data += chunk
                self.take(bytes(data).partition(b"\r\n\r\n")[2])
                await stream.send_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        except trio.BrokenResourceError:
            return

    @staticmethod
    def _whole(data: bytearray) -> bool:
        head, blank, body = bytes(data).partition(b"\r\n\r\n")
        if not blank:
            return False
        lengths = [
            line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        ]
        return len(body) >= int(lengths[0])


@attrs.define
class Receiver(PostReceiver):
    """One of alerts."""

    alerts: list[dict[str, Any]] = attrs.field(factory=list)

    @property
    def url(self) -> str:
        """What OPS_ALERT_WEBHOOK has to say."""
        return f"http://{HOST}:{self.port}/alerts"

    def take(self, body: bytes) -> None:
        """See `PostReceiver`."""
        self.alerts.append(json.loads(body))

    def told(self, kind: str) -> list[tuple[str, str, str]]:
        """What was told of a kind, in order: of which source, from what, to what."""
        return [(alert.get("source", ""), alert["from"], alert["to"]) for alert in self.alerts if alert["kind"] == kind]
