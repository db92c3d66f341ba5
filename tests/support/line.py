"""One wire for tests, with the ends that it reported and when; `opened` gives it a nursery as a conversation does."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio
import trio.testing

from common.web.wire import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from common.disconnect import Disconnect
    from tests.support.streams import FakeSocket

FIRST: Final = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
CLOSE: Final = b"\x88\x02\x03\xe9"
TIMEOUT: Final = 2.0
BACKLOG: Final = 1000


class Line:
    """A wire with the ends that it reported, and when; `sock` is None for a transport without a socket."""

    def __init__(self, sock: FakeSocket | None = None, stream: trio.abc.Stream | None = None) -> None:
        self.ends: list[tuple[float, Disconnect]] = []
        self.wire = Wire(
            stream or trio.testing.memory_stream_pair()[0],
            sock.as_socket() if sock else None,
            max_backlog=BACKLOG,
            write_timeout=TIMEOUT,
            on_end=lambda disconnect: self.ends.append((trio.current_time(), disconnect)),
        )


@asynccontextmanager
async def opened(sock: FakeSocket | None = None, stream: trio.abc.Stream | None = None) -> AsyncIterator[Line]:
    """An open wire in a nursery of its own, which is cancelled at the end as a conversation's is."""
    line = Line(sock, stream)
    async with trio.open_nursery() as nursery:
        line.wire.open(FIRST)
        line.wire.attach(nursery)
        yield line
        line.wire.detach()
        nursery.cancel_scope.cancel()
