"""Hypercorn's way with one connection, for HTTP/1.1 and WebSockets and nothing else.

Hypercorn takes a client that says so for one of HTTP/2, whose answers it keeps in memory for as long as the client
wishes. `OneConnection` makes the HTTP/1 protocol itself and never another: the preface of HTTP/2 is a head that is
refused (505), and `Upgrade: h2c`, like any upgrade that a server doesn't know, is passed over (RFC 9110, 7.8).

It also keeps the time: a new connection has `HEAD_TIMEOUT` for its first head, and each later head as long from its
first byte, of which there may be none for `IDLE_TIMEOUT`.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, cast

import h11
import trio
from hypercorn.events import Closed, RawData
from hypercorn.protocol.events import Data
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from opsd.heads import Heads

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypercorn.config import Config
    from hypercorn.events import Event
    from hypercorn.protocol import ProtocolWrapper
    from hypercorn.protocol.events import Event as StreamEvent
    from hypercorn.trio.worker_context import WorkerContext
    from hypercorn.typing import AppWrapper

    from opsd.bounded_stream import BoundedStream

HEAD_TIMEOUT: Final = 10.0
"""Seconds that a request's head may take, from its first byte; a connection's first, from the connection."""

IDLE_TIMEOUT: Final = 30.0
"""Seconds between two requests of a connection."""

CLOSE_TIMEOUT: Final = 2.0
"""Seconds that taking leave of a client that was too slow may take."""

_CLOSE_FRAME: Final = 0x88
"""The first byte of a close frame that a server sends."""


class HTTP1(H11Protocol):
    """Hypercorn's protocol, with heads as `opsd.heads` takes them, and refusals that say why."""

    connection: Heads

    def __init__(self, *args: object, said_goodbye: Callable[[], None]) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.connection = Heads()
        self._said_goodbye = said_goodbye
        self._goodbye = False
        """A close frame was sent: nothing that the client still says has a meaning."""

    async def handle(self, event: Event) -> None:
        """See `H11Protocol`."""
        if self._goodbye and isinstance(event, RawData) and event.data:
            # Hypercorn would go on to collect the pieces of the message that was too large.
            return
        await super().handle(event)

    async def stream_send(self, event: StreamEvent) -> None:
        """See `H11Protocol`."""
        await super().stream_send(event)
        if isinstance(event, Data) and event.data[:1] == bytes([_CLOSE_FRAME]):
            self._goodbye = True
            self._said_goodbye()

    async def _check_protocol(self, event: h11.Request) -> None:
        """There is only one."""

    async def _send_error_response(self, status_code: int) -> None:
        found = getattr(self.connection, "complaint", None)
        # h11's own words quote what it could not read.
        reason = found.reason if found is not None else HTTPStatus(status_code).phrase.lower()
        body = json.dumps({"error": reason}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *(found.headers if found is not None else ()),
        ]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


class OneConnection(TCPServer):
    """See the module. `said_goodbye` is called when a close frame was sent, `ended` when nothing more will be said."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        stream: BoundedStream,
        *,
        ended: Callable[[], None],
        said_goodbye: Callable[[], None],
    ) -> None:
        # It takes any stream that has a `socket`; its annotation names the ones that Hypercorn makes.
        super().__init__(app, config, context, ConnectionState({}), cast("trio.SSLStream[trio.SocketStream]", stream))
        self._bounded = stream
        self._ended = ended
        self._said_goodbye = said_goodbye
        self._waiting: trio.CancelScope | None = None
        """The wait for the end of a head; None while a request is served."""
        self._served = False

    async def run(self) -> None:
        """Serve until one side ends it. Raises what Hypercorn does."""
        sock = self._bounded.socket
        try:
            client = parse_socket_addr(sock.family, sock.getpeername())
            server = parse_socket_addr(sock.family, sock.getsockname())
            async with TaskGroup() as task_group:
                self._task_group = task_group
                http = HTTP1(
                    self.app,
                    self.config,
                    self.context,
                    task_group,
                    ConnectionState({}),
                    False,
                    client,
                    server,
                    self.protocol_send,
                    said_goodbye=self._said_goodbye,
                )
                self.protocol = cast("ProtocolWrapper", http)
                await self.idle_task.restart(task_group, self._idle_timeout)
                await self._read_data()
        except OSError:
            # The client had left before it was asked who it is.
            return
        finally:
            try:
                await self._close()
            finally:
                self._let_go()

    def _let_go(self) -> None:
        """Hypercorn's objects hold each other: a connection that has ended would wait for the collector."""
        for held in (self, self.idle_task, getattr(self, "protocol", None)):
            if held is not None:
                vars(held).clear()

    async def protocol_send(self, event: Event) -> None:
        """See `TCPServer`."""
        if isinstance(event, Closed):
            self._ended()
        await super().protocol_send(event)

    async def _read_data(self) -> None:
        while True:
            try:
                data = await self._bounded.receive_some()
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                break
            if data and self._waiting is not None:
                # Further bytes of the same head make it no later.
                self._waiting.deadline = min(self._waiting.deadline, trio.current_time() + HEAD_TIMEOUT)
            await self.protocol.handle(RawData(bytes(data)))
            if not data:
                break
        await self.protocol.handle(Closed())

    async def _idle_timeout(self) -> None:
        seconds = IDLE_TIMEOUT if self._served else HEAD_TIMEOUT
        self._served = True
        scope = self._waiting = trio.CancelScope(deadline=trio.current_time() + seconds)
        try:
            with scope:
                await self.context.terminated.wait()
        finally:
            # The next wait may have begun before this one notices that it is over.
            if self._waiting is scope:
                self._waiting = None
        with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
            await self._initiate_server_close()
