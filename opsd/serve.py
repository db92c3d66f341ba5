"""The HTTP server: Hypercorn's protocols on connections of our own.

`HttpServer.run` owns a task per connection and ends with them. Hypercorn speaks HTTP and WebSocket, but its worker runs
all connections in one nursery without a barrier, shields its writes, and lets the idle timer and the pings of a client
that has left run to their next beat: one client that meets a bug would end them all, one that takes nothing could hold
up even the end, and a few hundred short visits would take all places. Here each connection has its barrier, each write
its deadline, and a connection ends with its client.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from common.quote import quote
from common.web.forwarded import is_trusted, share_of
from common.web.listener import accept
from opsd.bounded_stream import BoundedStream
from opsd.http1 import OneConnection
from opsd.places import Places
from opsd.tally import Tally

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from hypercorn.typing import ASGIFramework
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from common.config import IPNetwork
    from common.logs import Logger
    from common.web.accepted import Accepted
    from common.web.forwarded import IPAddress
    from opsd.places import Place

PING_INTERVAL: Final = 20.0
"""Seconds between the pings of a WebSocket, so that a dead one is noticed."""

LINGER: Final = 0.25
"""Seconds that a connection lives on when its client has left and no request runs: for a refusal to be written."""

GOODBYE: Final = 1.0
"""Seconds that a client has to take and answer the close frame of its WebSocket."""

FINISH: Final = 10.0
"""Seconds that a request may run on when its client has left: tmux may be half way through a change."""

GRACE: Final = 2.0
"""Seconds that the end waits for answers in flight and goodbyes."""

MOST_CONNECTIONS: Final = 512
LARGEST_MESSAGE: Final = 64 << 10
_ENDLESS: Final = 1 << 62


class HttpServer:
    """Serves an ASGI application on sockets that are bound already."""

    def __init__(self, app: ASGIApp, log: Logger, trusted: Sequence[IPNetwork] = ()) -> None:
        self._app = app
        self._config = _config(log)
        self._log = log
        self._trusted = trusted
        self._context = WorkerContext(None)
        self._places = Places(MOST_CONNECTIONS)
        self._refused = Tally(log, "connections refused, there is no place")
        self._displaced = Tally(log, "idle connections ended, others needed their places")

    async def run(self, listeners: Sequence[socket.socket], stop: trio.Event, closing: trio.Event) -> None:
        """Serve until `stop` is set; then set `closing` for the application, and give what runs `GRACE` seconds."""
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(self._refused.run)
                accepting.start_soon(self._displaced.run)
                for listener in listeners:
                    accepting.start_soon(accept, listener, self._serve, connections, self._log)
                await stop.wait()
                accepting.cancel_scope.cancel()
            closing.set()
            # Ends the connections that wait for a request, and the others after their answer.
            await self._context.terminated.set()
            connections.cancel_scope.deadline = trio.current_time() + GRACE

    async def _serve(self, client: Accepted) -> None:
        """The barrier of one connection, and its end."""
        try:
            await self._hold(client)
        except Exception as error:  # noqa: BLE001 - see above
            if not is_clients_end(error):
                self._log.exception("connection failed", remote=str(client.address))
        finally:
            await trio.aclose_forcefully(client.stream)

    async def _hold(self, client: Accepted) -> None:
        address = client.address
        connection = HttpConnection(self._app, client, self._config, self._context)
        place = self._places.enter(
            None if address is None else share_of(address),
            partial(self._displace, connection, address),
            proxy=is_trusted(address, self._trusted),
        )
        if place is None:
            self._refused.note(address)
            return
        try:
            await connection.run(place)
        finally:
            place.release()

    def _displace(self, connection: HttpConnection, address: IPAddress | None) -> None:
        self._displaced.note(address)
        connection.end()


class HttpConnection:
    """One client's connection: Hypercorn's protocols, the requests that run, and the end of both."""

    def __init__(self, app: ASGIApp, client: Accepted, config: Config, context: WorkerContext) -> None:
        self._app = app
        self._stream = BoundedStream(client.stream, cast("socket.socket", client.sock), self._client_left)
        wrapped = ASGIWrapper(cast("ASGIFramework", self._call))
        self._protocols = OneConnection(
            wrapped, config, context, self._stream, ended=self._client_left, said_goodbye=self._said_goodbye
        )
        self._scope = trio.CancelScope()
        self._place: Place | None = None
        self._left = False

    def end(self) -> None:
        """End it, whatever it does."""
        self._scope.cancel()

    async def run(self, place: Place) -> None:
        """Serve until one side ends it. Raises what Hypercorn does."""
        self._place = place
        try:
            with self._scope:
                await self._protocols.run()
        finally:
            await trio.aclose_forcefully(self._stream)
            # They hold this one, too: a closed connection leaves nothing to the collector.
            del self._protocols, self._stream

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, once for each request."""

        async def send_and_look(message: Message) -> None:
            await send(message)
            if message["type"] == "websocket.accept" and not self._stream.upgraded:
                # A frame came before the answer: Hypercorn answers 400, and tells the application nothing more.
                self._scope.cancel()

        assert self._place is not None  # noqa: S101 - only `run` leads here
        self._place.running += 1
        try:
            await self._app(scope, receive, send_and_look if scope["type"] == "websocket" else send)
        finally:
            self._place.running -= 1
            self._limit()

    def _client_left(self) -> None:
        self._left = True
        self._limit()

    def _said_goodbye(self) -> None:
        self._end_within(GOODBYE)

    def _limit(self) -> None:
        if self._left:
            busy = self._place is not None and self._place.running > 0
            self._end_within(FINISH if busy else LINGER)

    def _end_within(self, seconds: float) -> None:
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + seconds)


def is_clients_end(error: Exception) -> bool:
    """Whether this is how Hypercorn fails when a client breaks off or speaks nonsense at the wrong moment."""
    if isinstance(error, ExceptionGroup):
        return error.split(h11.ProtocolError)[1] is None
    return isinstance(error, h11.ProtocolError)


def _config(log: Logger) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = _logger(log)
    config.include_server_header = False
    config.keep_alive_max_requests = _ENDLESS
    config.websocket_max_message_size = LARGEST_MESSAGE
    config.websocket_ping_interval = PING_INTERVAL
    return config


def _logger(log: Logger) -> logging.Logger:
    """What Hypercorn has to say goes where everything goes."""
    logger = logging.getLogger("opsd.http")
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    logger.handlers = [_Forward(log)]
    return logger


class _Forward(logging.Handler):
    def __init__(self, log: Logger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        level = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        level("http server", detail=quote(record.getMessage()), exc_info=record.exc_info)
