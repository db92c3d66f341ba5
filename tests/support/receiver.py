"""A small receiver of alerts on a real port, which is there only as long as its block."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import trio

from tests.support.raw import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@attrs.define
class Receiver:
    """What it has taken, over all of its blocks."""

    port: int
    alerts: list[dict[str, Any]] = attrs.field(factory=list)

    @property
    def url(self) -> str:
        """What OPS_ALERT_WEBHOOK has to say."""
        return f"http://{HOST}:{self.port}/alerts"

    def told(self, kind: str) -> list[tuple[str, str, str]]:
        """What was told of a kind, in order: of which source, from what, to what."""
        return [(alert.get("source", ""), alert["from"], alert["to"]) for alert in self.alerts if alert["kind"] == kind]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen for the block."""
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(self.port, host=HOST)
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
                self.alerts.append(json.loads(bytes(data).partition(b"\r\n\r\n")[2]))
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
