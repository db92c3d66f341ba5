"""HTTP/1.1 to a source that may be hostile: httpx's transport, of h11 on a stream of our own.

What a source sends is taken in laps: after `LAP` events of the protocol, or a read that found as much as it asked for,
everybody else has a turn of `REST` seconds, so that no source holds up a request whatever it sends. Interim answers
(1xx) are counted, and chunks have a budget (`opsd.sources.budget`). The library's own transport handles 64 KB a turn,
which are eleven thousand chunks of one byte, and as many interim answers as a source cares to send.

A connection serves one request. It belongs to the answer's body and is closed with it, or at once when there is none.
Deadlines are the caller's: the `timeout` of a request has no effect here.
"""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import h11
import httpx
import trio

from common.names import Names, certified, connect
from opsd.sources.budget import Budget, OverspentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

READ_SIZE: Final = 16 << 10
"""Bytes read at a time."""

LAP: Final = 32
"""Events of the protocol, reads included, between two rests."""

REST: Final = 0.001
"""Seconds that the others have for themselves."""

MOST_INTERIM: Final = 8
"""Interim answers to one request."""

MOST_CONNECTIONS: Final = 16
"""At a time, to one source."""

LARGEST_HEAD: Final = 16 << 10

STALE_AFTER: Final = 0.5
"""Seconds that a source's name may take to resolve before its last address will do: it is asked every second."""


class SourceTransport(httpx.AsyncBaseTransport):
    """See the module. `socket` is the path of the Unix socket that leads to the source, if it is not TCP."""

    def __init__(self, socket: str | None = None) -> None:
        self._socket = socket
        self._places = trio.Semaphore(MOST_CONNECTIONS)
        self._names = Names(stale_after=STALE_AFTER)
        self._tls: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.AsyncBaseTransport`. Raises httpx's ConnectError, ReadError, WriteError, RemoteProtocolError."""
        await self._places.acquire()
        exchange = None
        try:
            exchange = HttpExchange(await self._open(request.url))
            with _errors():
                await exchange.send(request)
                answer = await exchange.receive_head()
        except BaseException:
            self._places.release()
            if exchange is not None:
                await trio.aclose_forcefully(exchange.stream)
            raise
        return httpx.Response(
            answer.status_code, headers=answer.headers.raw_items(), stream=_Body(exchange, self._places)
        )

    async def _open(self, url: httpx.URL) -> trio.abc.Stream:
        secure = url.scheme == "https"
        try:
            if self._socket is not None:
                return await trio.open_unix_socket(self._socket)
            port = url.port or (443 if secure else 80)
            stream = await connect(await self._names.resolve(url.host, port), port)
        except (OSError, ValueError) as error:
            raise httpx.ConnectError(str(error) or type(error).__name__) from error
        return await self._secured(stream, url.host) if secure else stream

    async def _secured(self, stream: trio.SocketStream, host: str) -> trio.abc.Stream:
        if self._tls is None:
            # Loading the certificates of all authorities takes longer than all that a plain connection needs.
            self._tls = ssl.create_default_context()
        secured = trio.SSLStream(stream, self._tls, server_hostname=certified(host), https_compatible=True)
        try:
            await secured.do_handshake()
        except trio.BrokenResourceError as error:
            await trio.aclose_forcefully(stream)
            raise httpx.ConnectError(f"TLS: {error.__cause__ or 'the connection was closed'}") from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secured


class HttpExchange:
    """One request and its answer on a connection of their own."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.rests = 0
        """Turns that were left to others so far."""
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_HEAD)
        self._budget = Budget("chunks", trio.current_time())
        self._lap = 0

    async def send(self, request: httpx.Request) -> None:
        """Send the request, whose body is at hand."""
        head = h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
        body = request.read() if isinstance(request.stream, httpx.SyncByteStream) else await request.aread()
        data = self._http.send(head) + (self._http.send(h11.Data(data=body)) if body else b"")
        await self.stream.send_all(data + self._http.send(h11.EndOfMessage()))

    async def receive_head(self) -> h11.Response:
        """The answer itself, after the interim ones."""
        for _ in range(MOST_INTERIM + 1):
            event = await self._next()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise h11.RemoteProtocolError("no answer")
        raise h11.RemoteProtocolError(f"more than {MOST_INTERIM} interim answers")

    async def receive_chunk(self) -> bytes | None:
        """The next piece of the body; None at its end."""
        event = await self._next()
        if isinstance(event, h11.EndOfMessage):
            return None
        if not isinstance(event, h11.Data):
            raise h11.RemoteProtocolError("no body")
        self._budget.spend(trio.current_time(), len(event.data))
        return bytes(event.data)

    async def _next(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        while True:
            self._lap += 1
            if self._lap > LAP:
                await self._rest()
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            data = bytes(await self.stream.receive_some(READ_SIZE))
            self._http.receive_data(data)
            if len(data) >= READ_SIZE:
                await self._rest()

    async def _rest(self) -> None:
        self._lap = 0
        self.rests += 1
        await trio.sleep(REST)


class _Body(httpx.AsyncByteStream):
    def __init__(self, exchange: HttpExchange, places: trio.Semaphore) -> None:
        self._exchange = exchange
        self._places: trio.Semaphore | None = places

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _errors():
            while (chunk := await self._exchange.receive_chunk()) is not None:
                yield chunk

    async def aclose(self) -> None:
        """See `httpx.AsyncByteStream`."""
        if self._places is not None:
            self._places.release()
            self._places = None
            await trio.aclose_forcefully(self._exchange.stream)


@contextmanager
def _errors() -> Iterator[None]:
    """httpx's exceptions, which the callers know, for those of what is below."""
    try:
        yield
    except (h11.LocalProtocolError, h11.RemoteProtocolError) as error:
        # What stands behind a colon is quoted from what came.
        raise httpx.RemoteProtocolError(str(error).partition(": ")[0]) from error
    except OverspentError as error:
        raise httpx.RemoteProtocolError(str(error)) from error
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise httpx.ReadError(str(error.__cause__ or "the connection was closed")) from error
