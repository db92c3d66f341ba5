"""An outside worker telemetry API (OPS_WORKERS_URL) that is as well or as ill as a test wants it, on a real port."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import trio

from tests.support.opsd_telemetry import encoded, telemetry, worker
from tests.support.raw import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MOODS: Final = ("well", "hangs", "fails", "nonsense", "drops")


@attrs.define(eq=False)
class Outside:
    """Its address, and how it is: one of `MOODS`."""

    port: int
    mood: str = "well"

    @property
    def url(self) -> str:
        """What OPS_WORKERS_URL has to say."""
        return f"http://{HOST}:{self.port}"

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer one request, or not."""
        try:
            async with stream:
                await stream.receive_some()
                if self.mood == "hangs":
                    await trio.sleep_forever()
                await stream.send_all(self._answer())
        except trio.BrokenResourceError:
            return

    def _answer(self) -> bytes:
        if self.mood == "fails":
            return b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
        if self.mood == "nonsense":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1e400, \xff"
        body = encoded(telemetry({"a": worker()}))
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        return head + (body[: len(body) // 2] if self.mood == "drops" else body)


@asynccontextmanager
async def open_outside() -> AsyncIterator[Outside]:
    """One that ends with the block; it has one worker."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=HOST)
        outside = Outside(listener.socket.getsockname()[1])
        nursery.start_soon(trio.serve_listeners, outside.serve, [listener])
        yield outside
        nursery.cancel_scope.cancel()
