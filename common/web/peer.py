"""One client's conversation, from its 101 to its goodbye (SPEC 1).

A `Peer` is owned by the task that serves its socket. `converse` opens a nursery for the reader and, when needed, the
wire's flusher; the nursery's cancel scope is what ends the conversation, be it for the pong timeout, a drain or a write
that failed. Whoever wants to end it calls `end`, which returns at once; the first reason stands. `say_goodbye` then
sends what the reason calls for, and waits for the client's answer only so long.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import attrs
import trio
from wsproto.connection import SERVER, Connection, ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason

from common.web.boundary import PONG, Boundary, is_pong
from common.web.disconnect import (
    CLIENT_CLOSED,
    CLIENT_GONE,
    INTERNAL_ERROR,
    INVALID_TEXT,
    MESSAGE_TOO_BIG,
    PROTOCOL_ERROR,
    Disconnect,
)
from common.web.frames import HANGUP, PING
from common.web.stream import READ_SIZE
from common.web.wire import Wire

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

MAX_FRAGMENTS: Final = 1024
"""Frames of one message; empty ones cost work too, and no byte limit would ever count them."""

_PONG: Final = PONG.decode()


@attrs.frozen
class PeerPolicy:
    """The limits that all conversations of a daemon share: bytes, seconds, and the reasons that send a hangup."""

    max_backlog: int
    max_message_size: int
    write_timeout: float
    hangup: frozenset[str]


class Peer:
    """One conversation over `stream`; `sock` is the socket under it, if there is one.

    `observe` is called with this peer and the kind of each client message: `init`, `pong`, `other`, `malformed`,
    `binary`, `control`.
    """

    __slots__ = (
        "__weakref__",
        "_boundary",
        "_fragments",
        "_observe",
        "_opened",
        "_policy",
        "_scope",
        "_size",
        "_stream",
        "_text",
        "_ws",
        "breach",
        "disconnect",
        "error",
        "fields",
        "last_seen",
        "opened_at",
        "talked_nonsense",
        "wants_gap",
        "wire",
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        sock: socket.socket | None,
        policy: PeerPolicy,
        observe: Callable[[Peer, str], None],
        *,
        wants_gap: bool = False,
    ) -> None:
        self._stream = stream
        self._policy = policy
        self._observe = observe
        self._scope: trio.CancelScope | None = None
        self._opened = False
        # There is a parser only while there is something to parse: idle clients are many (the bench's row `memory`).
        self._ws: Connection | None = None
        self._boundary = Boundary()
        self._text = bytearray()
        self._size = 0
        self._fragments = 0
        self.wants_gap = wants_gap
        self.talked_nonsense = False
        """Whether a malformed message was logged already; once per connection is enough."""
        self.wire = Wire(
            stream, sock, max_backlog=policy.max_backlog, write_timeout=policy.write_timeout, on_end=self.end
        )
        self.disconnect: Disconnect | None = None
        """Why the conversation ended; None while it goes on."""
        self.breach = ""
        """What the client did against the protocol, in wsproto's words."""
        self.error: BaseException | None = None
        """The bug that ended it, for the log."""
        self.fields: Mapping[str, str] = {}
        """What the log says of it: whom it listens to, and from where."""
        self.last_seen = self.opened_at = trio.current_time()

    @property
    def opened(self) -> bool:
        """Whether the 101 went out."""
        return self._opened

    def ping(self) -> None:
        """Send one heartbeat ping."""
        self.wire.send_nowait(PING)

    def end(self, disconnect: Disconnect) -> None:
        """End the conversation for this reason, unless it has ended already. Returns at once."""
        if self.disconnect is None:
            self.disconnect = disconnect
            if self._scope is not None:
                self._scope.cancel()

    async def converse(self, response: bytes, trailing: bytes) -> None:
        """Send `response` (the 101), then read until the conversation ends; `trailing` came behind the request head."""
        self._opened = True
        self.last_seen = self.opened_at = trio.current_time()
        self.wire.open(response)
        try:
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                if self.disconnect is not None:
                    nursery.cancel_scope.cancel()
                self.wire.attach(nursery)
                try:
                    await self._read(trailing)
                finally:
                    # Frames may still come, but this nursery takes no task more.
                    self.wire.detach()
                    nursery.cancel_scope.cancel()
        except* Exception as errors:  # noqa: BLE001 - see below
            # The barrier: a bug here ends this conversation only, and is logged. `Cancelled` passes.
            self.error = errors
            self.end(INTERNAL_ERROR)
        finally:
            self._scope = None

    async def say_goodbye(self) -> None:
        """Send the hangup and close frame that the reason calls for; wait for the client's within WRITE_TIMEOUT."""
        disconnect, ws = self.disconnect, self._ws or Connection(SERVER)
        if disconnect is None or not self._opened or self.wire.finished:
            return
        if disconnect.hangup and disconnect.reason in self._policy.hangup:
            self.wire.send_nowait(HANGUP)
        if disconnect.close_code is not None and ws.state is ConnectionState.OPEN:
            self.wire.close_nowait(ws.send(CloseConnection(disconnect.close_code)))
        if not self.wire.backlog_bytes and ws.state is not ConnectionState.LOCAL_CLOSING:
            return
        with trio.move_on_after(self._policy.write_timeout):
            await self.wire.drain()
            if ws.state is ConnectionState.LOCAL_CLOSING:
                await self._wait_closed(ws, broken=disconnect.reason == PROTOCOL_ERROR.reason)

    async def _read(self, data: bytes) -> None:
        """Hear `data` and what follows it until the conversation ends."""
        while True:
            if is_pong(data) and self._boundary.between_messages:
                self.last_seen = trio.current_time()
                self._observe(self, "pong")
            elif data:
                self._parse(data)
                if self.disconnect is not None:
                    return
            try:
                data = bytes(await self._stream.receive_some(READ_SIZE))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                self.end(CLIENT_GONE)
                return

    def _parse(self, data: bytes) -> None:
        ws = self._ws = self._ws or Connection(SERVER)
        self._boundary.feed(data)
        ws.receive_data(data)
        for event in ws.events():
            self.last_seen = trio.current_time()
            self._handle(ws, event)
            if self.disconnect is not None:
                return
        if self._boundary.between_messages:
            self._ws = None

    def _handle(self, ws: Connection, event: Event) -> None:
        match event:
            case TextMessage() | BytesMessage():
                self._handle_data(event)
            case Ping():
                self._observe(self, "control")
                self.wire.send_nowait(ws.send(event.response()))
            case Pong():
                self._observe(self, "control")
            case CloseConnection() if ws.state is ConnectionState.REMOTE_CLOSING:
                self.wire.close_nowait(ws.send(event.response()))
                self.end(CLIENT_CLOSED)
            case CloseConnection():
                # wsproto reports a breach of the protocol as a close that the client never sent.
                self.breach = event.reason or ""
                self.end(INVALID_TEXT if event.code == CloseReason.INVALID_FRAME_PAYLOAD_DATA else PROTOCOL_ERROR)

    def _handle_data(self, event: TextMessage | BytesMessage) -> None:
        data = event.data.encode() if isinstance(event, TextMessage) else event.data
        self._size += len(data)
        self._fragments += event.frame_finished
        if self._size > self._policy.max_message_size or self._fragments > MAX_FRAGMENTS:
            self.end(MESSAGE_TOO_BIG)
            return
        if isinstance(event, TextMessage):
            self._text += data
        if event.message_finished:
            self._observe(self, classify(self._text.decode()) if isinstance(event, TextMessage) else "binary")
            self._text.clear()
            self._size = self._fragments = 0

    async def _wait_closed(self, ws: Connection, *, broken: bool) -> None:
        """Read until the client's close frame or the end of its bytes.

        Closing with unread bytes would reset the connection, and the reset may overtake our close frame. After a breach
        of the protocol the parser is spent and only the end of the bytes counts.
        """
        try:
            # It may have come along with what ended the conversation.
            while broken or not any(isinstance(event, CloseConnection) for event in ws.events()):
                data = await self._stream.receive_some(READ_SIZE)
                if not data:
                    return
                if not broken:
                    ws.receive_data(bytes(data))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


def classify(text: str) -> str:
    """The kind of a client's text message: `pong`, `init`, `other`, or `malformed` if it is no JSON object."""
    if text == _PONG:
        return "pong"
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return "malformed"
    if not isinstance(message, dict):
        return "malformed"
    kind = message.get("type")
    return kind if isinstance(kind, str) and kind in {"pong", "init"} else "other"
