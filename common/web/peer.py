"""One client's conversation, from its 101 to its goodbye (SPEC 1).

A `Peer` is owned by the task that serves its socket. `converse` opens a nursery for the reader and, when needed, the
wire's flusher; the nursery's cancel scope is what ends the conversation, be it for the pong timeout, a drain or a write
that failed. Whoever wants to end it calls `end`, which returns at once; the first reason stands. `say_goodbye` then
sends what the reason calls for, and waits for the client's answer only so long.

A conversation that is over leaves no reference cycle: thousands come and go, and none may wait for the collector.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Final, cast

import attrs
import trio

from common.disconnect import (
    CLIENT_CLOSED,
    CLIENT_GONE,
    INTERNAL_ERROR,
    INVALID_TEXT,
    MESSAGE_TOO_BIG,
    PROTOCOL_ERROR,
    TOO_FAST,
    Disconnect,
)
from common.web.frames import CLOSE, CONTROL, HANGUP, PING, PING_OPCODE, PONG_OPCODE, close_frame, control_frame
from common.web.parser import PONG, Breach, FrameParser, is_close, is_pong
from common.web.stream import READ_SIZE
from common.web.turns import USUAL_PAUSE, USUAL_SIZE, Allowance, slices, usual_limit, usual_until
from common.web.wire import Wire

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from wsproto.frame_protocol import Frame

    from common.web.turns import Turns

BREACH_TIMEOUT: Final = 1.0
"""Seconds in which a client that broke a rule may take its close frame and end; WRITE_TIMEOUT where that is shorter."""

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


class _End:
    """Why a conversation ends, and the scope that is cancelled then.

    Apart from the peer, so that the wire, which has to end a conversation, does not hold the peer that holds it.
    """

    __slots__ = ("disconnect", "scope")

    def __init__(self) -> None:
        self.disconnect: Disconnect | None = None
        self.scope: trio.CancelScope | None = None

    def __call__(self, disconnect: Disconnect) -> None:
        if self.disconnect is None:
            self.disconnect = disconnect
            if self.scope is not None:
                self.scope.cancel()


class Peer:
    """One conversation over `stream`; `sock` is the socket under it, if there is one.

    `turns` are the process's: who sends much is heard in turn. `observe` is called with this peer and the kind of each
    client message: `init`, `pong`, `other`, `malformed`, `binary`, `control`.
    """

    __slots__ = (
        "__weakref__",
        "_allowance",
        "_end",
        "_fragments",
        "_observe",
        "_opened",
        "_parser",
        "_policy",
        "_seen_at",
        "_size",
        "_spent",
        "_stream",
        "_text",
        "_turns",
        "_unheard",
        "_usual_until",
        "breach",
        "error",
        "fields",
        "opened_at",
        "talked_nonsense",
        "wants_gap",
        "wire",
    )

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        sock: socket.socket | None,
        policy: PeerPolicy,
        turns: Turns,
        observe: Callable[[Peer, str], None],
        *,
        wants_gap: bool = False,
    ) -> None:
        self._stream = stream
        self._policy = policy
        self._turns = turns
        self._observe = observe
        self._end = _End()
        self._opened = False
        # There is a parser only while there is something to parse: idle clients are many (the bench's row `memory`).
        self._parser: FrameParser | None = None
        # Whether a breach has left the parser without a place in what the client sends.
        self._spent = False
        # See `usual_until`.
        self._usual_until = -math.inf
        # What was read and not heard: it waits for its turn, or the conversation has ended.
        self._unheard = b""
        # None while it is full.
        self._allowance: Allowance | None = None
        self._text = bytearray()
        self._size = 0
        self._fragments = 0
        self.wants_gap = wants_gap
        self.talked_nonsense = False
        """Whether a malformed message was logged already; once per connection is enough."""
        self.wire = Wire(
            stream, sock, max_backlog=policy.max_backlog, write_timeout=policy.write_timeout, on_end=self._end
        )
        self.breach = ""
        """What the client did against the protocol, in words."""
        self.error: BaseException | None = None
        """The bug that ended it, for the log."""
        self.fields: Mapping[str, str] = {}
        """What the log says of it: whom it listens to, and from where."""
        self._seen_at = self.opened_at = trio.current_time()

    @property
    def last_seen(self) -> float:
        """When the client last gave a sign of life. What waits for its turn is one: its pongs may be among it."""
        return trio.current_time() if self._unheard else self._seen_at

    @property
    def disconnect(self) -> Disconnect | None:
        """Why the conversation ended; None while it goes on."""
        return self._end.disconnect

    @property
    def opened(self) -> bool:
        """Whether the 101 went out."""
        return self._opened

    def ping(self) -> None:
        """Send one heartbeat ping."""
        # Its answer is usual, however often we ask.
        self._usual_until -= USUAL_PAUSE
        self.wire.send_nowait(PING)

    def end(self, disconnect: Disconnect) -> None:
        """End the conversation for this reason, unless it has ended already. Returns at once."""
        self._end(disconnect)

    async def converse(self, response: bytes, trailing: bytes) -> None:
        """Send `response` (the 101), then read until the conversation ends; `trailing` came behind the request head."""
        self._opened = True
        self._seen_at = self.opened_at = trio.current_time()
        self.wire.open(response)
        try:
            async with trio.open_nursery() as nursery:
                self._end.scope = nursery.cancel_scope
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
            self._end.scope = None

    async def say_goodbye(self) -> None:
        """Send the hangup and close frame that the reason calls for; wait for the client's within WRITE_TIMEOUT.

        After a breach our side is shut down behind the close frame: a client that waits for the connection's end, as
        most do, ends it at once, and the wait is over. It has `BREACH_TIMEOUT` for it.
        """
        disconnect = self.disconnect
        if disconnect is None or not self._opened or self.wire.finished:
            return
        if disconnect.hangup and disconnect.reason in self._policy.hangup:
            self.wire.send_nowait(HANGUP)
        closing = disconnect.close_code is not None and not self.wire.closing
        if disconnect.close_code is not None:
            self.wire.close_nowait(close_frame(disconnect.close_code, disconnect.reason))
        if not self.wire.backlog_bytes and not closing:
            return
        timeout = self._policy.write_timeout
        with trio.move_on_after(min(BREACH_TIMEOUT, timeout) if disconnect.breach else timeout):
            await self.wire.drain()
            if not closing or self.wire.finished:
                return
            try:
                if disconnect.breach:
                    await self._stream.send_eof()
                await self._wait_closed()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    async def _read(self, data: bytes) -> None:
        """Hear `data` and what follows it until the conversation ends."""
        while True:
            if data:
                now = trio.current_time()
                usual = usual_until(data, self._usual_until, now)
                self._usual_until = usual_limit(now) if usual is None else usual
                # A goodbye needs no turn: there is one, and thousands may come in one instant.
                if usual is not None or is_close(data):
                    self._hear(data)
                    if self._allowance is not None and self._allowance.is_full(now):
                        self._allowance = None
                else:
                    await self._hear_in_turn(data)
                if self.disconnect is not None:
                    return
            try:
                data = bytes(await self._stream.receive_some(READ_SIZE))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                self.end(CLIENT_GONE)
                return

    async def _hear_in_turn(self, data: bytes) -> None:
        """Hear what is more than usual, a slice a turn, as far as the client's allowance goes."""
        self._unheard = data
        for piece in slices(data):
            await self._turns.wait()
            # Somebody may have ended it meanwhile.
            if self.disconnect is None:
                self._unheard = self._unheard[len(piece) :]
                self._hear_slice(piece)
            if self.disconnect is not None:
                return

    def _hear_slice(self, piece: bytes) -> None:
        now = self._seen_at = trio.current_time()
        frames = self._hear(piece)
        self._turns.give_back(frames)
        self._allowance = self._allowance or Allowance(now)
        if not self._allowance.spend(frames, len(piece), now):
            self.end(TOO_FAST)

    def _hear(self, data: bytes) -> int:
        """Take in `data`, as far as the conversation goes on; return how many frames ended in it."""
        if self._parser is None:
            if is_pong(data):
                self._seen_at = trio.current_time()
                self._observe(self, "pong")
                return 1
            self._parser = FrameParser()
        parser = self._parser
        parser.feed(data)
        frames, pongs, answers = 0, 0, b""
        alive = False
        try:
            while self.disconnect is None and (frame := parser.next()) is not None:
                alive = True
                # A large one comes in parts, and is one: its bytes are counted apart.
                frames += frame.frame_finished
                if not frame.opcode & CONTROL:
                    self._handle_data(frame)
                elif frame.opcode != CLOSE:
                    self._observe(self, "control")
                    if frame.opcode == PING_OPCODE:
                        answers += control_frame(PONG_OPCODE, _payload(frame))
                        pongs += 1
                else:
                    # The answers to what came before it go first.
                    self._answer(answers, pongs)
                    answers, pongs = b"", 0
                    self.wire.close_nowait(control_frame(CLOSE, _payload(frame)))
                    self.end(CLIENT_CLOSED)
        except Breach as breach:
            self.breach = str(breach)
            self._spent = True
            self.end(INVALID_TEXT if breach.bad_text else PROTOCOL_ERROR)
        self._answer(answers, pongs)
        if alive:
            self._seen_at = trio.current_time()
        if self.disconnect is None and parser.between_messages:
            self._parser = None
        return frames

    def _answer(self, pongs: bytes, number: int) -> None:
        """One write for all pings of a slice: each write costs as much as the parsing of a frame."""
        if pongs:
            self.wire.send_nowait(pongs, number)

    def _handle_data(self, frame: Frame) -> None:
        text = frame.payload if isinstance(frame.payload, str) else None
        data = _payload(frame) if text is None else text.encode()
        self._size += len(data)
        self._fragments += frame.frame_finished
        if self._size > self._policy.max_message_size or self._fragments > MAX_FRAGMENTS:
            self.end(MESSAGE_TOO_BIG)
            return
        if text is not None:
            self._text += data
        if frame.message_finished:
            self._observe(self, "binary" if text is None else classify(self._text.decode()))
            self._text.clear()
            self._size = self._fragments = 0

    async def _wait_closed(self) -> None:
        """Take in what the client still sends, in turn if it is much, until its close frame or the end of its bytes.

        Closing with unread bytes would reset the connection, and the reset may overtake our close frame.
        """
        # It may have come along with what ended the conversation.
        data, self._unheard = self._unheard, b""
        while not await self._closes(data):
            data = bytes(await self._stream.receive_some(READ_SIZE))
            if not data:
                return

    async def _closes(self, data: bytes) -> bool:
        """Whether the client's close frame is in what was fed before, or in `data`."""
        usual = len(data) <= USUAL_SIZE
        if self._spent:
            if not usual:
                await self._turns.wait()
            return is_close(data)
        parser = self._parser = self._parser or FrameParser()
        try:
            for piece in slices(data) if data else (b"",):
                if not usual:
                    await self._turns.wait()
                parser.feed(piece)
                while (frame := parser.next()) is not None:
                    if frame.opcode == CLOSE:
                        return True
        except Breach:
            # It is not heard any more: only the end of its bytes counts.
            self._spent = True
        return False


def _payload(frame: Frame) -> bytes:
    """The payload of a frame that is no text."""
    return cast("bytes", frame.payload)


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
