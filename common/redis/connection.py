"""One live connection to Redis, after the handshake: replies to whoever asked, messages to whoever listens.

`run` owns three tasks and ends with the connection. The reader parses what comes and dispatches it; the writer sends
what was queued, everything at once, so that thousands of subscriptions are one write; the watchdog decides whether the
other side still lives. The first error ends all three, and is what `run` returns.

Every answer is expected in the order of asking. RESP3 keeps that order for pushes too: a notification that precedes a
reply on the wire is handed on before the reply is.

Time. The wait for the next message has no bound: a quiet channel is healthy. A link that was quiet for
`probe_interval` is probed with PING. The connection is dead when an answer is due and not one byte came for
`request_timeout`; any byte is life, so replies that queue behind a long burst are not a stall. Nor is it one when we
were too busy to look: what has already arrived is read before the verdict, and time that this process spent elsewhere
is not held against Redis.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final

import trio

from common.quote import quote
from common.redis.errors import (
    ProtocolError,
    RedisConnectionError,
    RedisError,
    StalledError,
)
from common.redis.handshake import RECEIVE_SIZE
from common.redis.resp import PushNotification, encode
from common.redis.transport import explain_broken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from common.logs import Logger
    from common.redis.resp import RespParser
    from common.redis.subscription import Subscription

Batch = dict[bytes, list[bytes]]
"""The messages of one read: channel -> payloads, in the order in which Redis sent them."""

_PIECE: Final = 65536
"""Bytes written at a time. Each piece that the socket takes is progress."""


class Reply:
    """The answer to one request, now or later: `value`, or the `error` that Redis gave instead or that ended the wait.

    `stalled`: there is no answer because the connection ended in a silence.
    """

    __slots__ = ("_done", "command", "error", "sent", "stalled", "value", "waited_for")

    def __init__(self, command: str, *, waited_for: bool) -> None:
        self.command = command
        self.waited_for = waited_for
        self.sent = math.inf
        self.value: object = None
        self.error: RedisError | None = None
        self.stalled = False
        self._done = trio.Event()

    @property
    def done(self) -> bool:
        """Whether the answer is in, or will never come."""
        return self._done.is_set()

    async def wait(self) -> None:
        """Wait until `done`. Being cancelled here is harmless: the answer is still taken in its turn."""
        await self._done.wait()

    def resolve(self, value: object) -> None:
        """The answer of Redis, an error included."""
        if isinstance(value, RedisError):
            self.error = value
        else:
            self.value = value
        self._done.set()

    def fail(self, error: RedisError) -> None:
        """The connection ended: each waiter gets an exception of its own to raise."""
        self.error = RedisConnectionError(f"connection lost: {error}")
        self.stalled = isinstance(error, StalledError)
        self._done.set()


class _Probe(Reply):
    """The answer to a question that is asked for nothing but the time it takes; `observe` is told the seconds."""

    __slots__ = ("_asked", "_observe")

    def __init__(self, command: str, observe: Callable[[float], None]) -> None:
        super().__init__(command, waited_for=False)
        # Not `sent`: an answer may be read before the writer has had the time to note that.
        self._asked = trio.current_time()
        self._observe = observe

    def resolve(self, value: object) -> None:
        """See `Reply`."""
        self._observe(trio.current_time() - self._asked)
        super().resolve(value)


class _Ack:
    """The expected answer to SUBSCRIBE or UNSUBSCRIBE of one channel: a push with its name, or an error."""

    __slots__ = ("command", "kind", "sent", "subscription", "waited_for")

    def __init__(self, command: str, subscription: Subscription, *, waited_for: bool) -> None:
        self.command = command
        self.kind = command.lower().encode()
        self.subscription = subscription
        self.waited_for = waited_for
        self.sent = math.inf


class Connection:
    """See the module. `last_byte` is the time (`trio.current_time`) of the last byte read, `error` why it ended.

    `on_messages` is awaited in the reader's task with each batch and the time at which its bytes were read; nothing
    else is read meanwhile. `on_active` is told of each subscription that Redis has acknowledged, before any of its
    messages; `on_refused` of each that it has not; its owner may set these three anew. `on_round_trip` is told of the
    seconds that each probe took.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        parser: RespParser,
        *,
        request_timeout: float,
        probe_interval: float,
        on_messages: Callable[[Batch, float], Awaitable[None]],
        on_active: Callable[[Subscription], None],
        on_refused: Callable[[Subscription, RedisError], None],
        on_round_trip: Callable[[float], None],
        log: Logger,
    ) -> None:
        self.last_byte = trio.current_time()
        self.error: RedisError | None = None
        self._stream = stream
        self._parser = parser
        self._request_timeout = request_timeout
        self._probe_interval = probe_interval
        self.on_messages = on_messages
        self.on_active = on_active
        self.on_refused = on_refused
        self._on_round_trip = on_round_trip
        self._log = log
        self._scope = trio.CancelScope()
        self._active: dict[bytes, Subscription] = {}
        self._expected: deque[Reply | _Ack] = deque()
        # The writer: commands that wait, and what stands behind them until it is on the wire.
        self._outgoing: list[bytes] = []
        self._unsent: list[Reply | _Ack] = []
        self._something_to_write = trio.Event()
        self._writing_since = math.inf
        # The watchdog: when it will look, and the time before which silence does not count.
        self._look_at = math.inf
        self._look_earlier = trio.Event()
        self._excused = -math.inf
        self._dispatching = False

    def __repr__(self) -> str:
        state = "live" if self.error is None else f"ended: {self.error}"
        return f"<Connection {state}, {len(self._active)} active, {len(self._expected)} expected>"

    async def run(self) -> RedisError:
        """Live until something ends it, and return what did. The stream is the caller's to close."""
        closed = RedisConnectionError("link closed")
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    for part in (self._read, self._write, self._watch):
                        nursery.start_soon(self._run_part, part)
        finally:
            self.fail(closed)
            ended = self.error or closed
            for expected in self._expected:
                if isinstance(expected, Reply):
                    expected.fail(ended)
            self._expected.clear()
            self._active.clear()
        return ended

    def fail(self, error: RedisError) -> None:
        """End the connection. The first error is the one that counts; requests without an answer fail with it.

        What was read before is still handed on: half of a topic's clients must not miss what the others got.
        """
        if self.error is None:
            self.error = error
        if not self._dispatching:
            self._scope.cancel()

    def request(self, *args: bytes | str | int, waited_for: bool = True) -> Reply:
        """Queue one ordinary request. `waited_for`: its caller has a clock, and reports a time-out itself."""
        name = args[0]
        reply = Reply(name.decode(errors="replace") if isinstance(name, bytes) else str(name), waited_for=waited_for)
        if self.error is None:
            self._queue(encode(*args), reply)
        else:
            reply.fail(self.error)
        return reply

    def probe(self, *args: bytes | str | int) -> Reply:
        """Queue a question whose answer is small and soon there, and measure how long it takes."""
        reply = _Probe(str(args[0]), self._on_round_trip)
        if self.error is None:
            self._queue(encode(*args), reply)
        else:
            reply.fail(self.error)
        return reply

    def subscribe(self, subscription: Subscription) -> None:
        """Queue SUBSCRIBE; the subscription is told what becomes of it. Without effect on an ended connection."""
        self._queue(encode("SUBSCRIBE", subscription.channel), _Ack("SUBSCRIBE", subscription, waited_for=True))

    def unsubscribe(self, subscription: Subscription, *, waited_for: bool = False) -> None:
        """Queue UNSUBSCRIBE for one that is closed. From this moment its channel hands on nothing more."""
        channel = subscription.channel
        if self._active.get(channel) is subscription:
            del self._active[channel]
        if subscription.refused is None:
            self._queue(encode("UNSUBSCRIBE", channel), _Ack("UNSUBSCRIBE", subscription, waited_for=waited_for))

    def _queue(self, command: bytes, expected: Reply | _Ack) -> None:
        if self.error is not None:
            return
        self._outgoing.append(command)
        self._unsent.append(expected)
        self._expected.append(expected)
        self._something_to_write.set()

    async def _run_part(self, part: Callable[[], Awaitable[None]]) -> None:
        """The one place where an error becomes the connection's end. A bug ends it too, and leaves a traceback."""
        try:
            await part()
        except RedisError as error:
            self.fail(error)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.fail(RedisConnectionError(explain_broken(error)))
        except Exception:  # noqa: BLE001 - the barrier: a bug costs one connection, not the daemon
            self._log.exception("redis connection failed by a bug")
            self.fail(RedisConnectionError("internal error"))

    # -- the reader ---------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            data = await self._stream.receive_some(RECEIVE_SIZE)
            if not data:
                where = " in the middle of a reply" if self._parser.unfinished else ""
                raise RedisConnectionError(f"closed by Redis{where}")
            self.last_byte = trio.current_time()
            self._parser.feed(data)
            self._dispatching = True
            try:
                await self._dispatch(self.last_byte)
            finally:
                self._dispatching = False
            if self.error is not None:
                self._scope.cancel()

    async def _dispatch(self, read_at: float) -> None:
        """Hand on everything that one read completed."""
        active = self._active
        batch: Batch = {}
        try:
            for value in self._parser.values():
                if (
                    type(value) is PushNotification
                    and len(value) == 3
                    and value[0] == b"message"
                    and type(value[1]) is bytes
                    and type(value[2]) is bytes
                ):
                    _, channel, payload = value
                    if channel in batch:
                        batch[channel].append(payload)
                    elif channel in active:
                        batch[channel] = [payload]
                    continue
                if batch:
                    # What came before a reply is handed on before it: the reply may already contain it.
                    ready, batch = batch, {}
                    await self._deliver(ready, read_at)
                if type(value) is PushNotification:
                    self._take_push(value)
                else:
                    self._take_reply(value)
        except ProtocolError:
            # Broken bytes do not take back the messages that came whole before them.
            if batch:
                await self._deliver(batch, read_at)
            raise
        if batch:
            await self._deliver(batch, read_at)

    async def _deliver(self, batch: Batch, read_at: float) -> None:
        try:
            await self.on_messages(batch, read_at)
        except Exception:  # noqa: BLE001 - the barrier: a handler's bug must not end the link
            self._log.exception("redis message handler failed", channels=len(batch))

    def _take_reply(self, value: object) -> None:
        if not self._expected:
            raise ProtocolError("an answer to nothing that was asked")
        expected = self._expected.popleft()
        if isinstance(expected, Reply):
            expected.resolve(value)
            return
        if not isinstance(value, RedisError):
            raise ProtocolError(f"a plain reply to {expected.command}")
        if expected.kind == b"unsubscribe":
            self._log.debug(
                "redis refused to unsubscribe", channel=quote(expected.subscription.channel), error=quote(str(value))
            )
        elif not expected.subscription.closed:
            expected.subscription.refuse(value)
            self.on_refused(expected.subscription, value)

    def _take_push(self, push: list[object]) -> None:
        kind = push[0] if push else None
        if kind == b"message":
            raise ProtocolError("a message that is not two byte strings")
        if kind not in (b"subscribe", b"unsubscribe"):
            self._log.debug("redis push ignored", kind=quote(kind if isinstance(kind, bytes) else repr(kind)))
            return
        expected = self._expected[0] if self._expected else None
        if not isinstance(expected, _Ack) or expected.kind != kind or push[1:2] != [expected.subscription.channel]:
            raise ProtocolError("an acknowledgement out of turn")
        self._expected.popleft()
        subscription = expected.subscription
        if kind == b"subscribe" and not subscription.closed:
            self._active[subscription.channel] = subscription
            subscription.activate()
            self.on_active(subscription)

    # -- the writer ---------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            await self._something_to_write.wait()
            self._something_to_write = trio.Event()
            data = memoryview(b"".join(self._outgoing))
            batch = self._unsent
            self._outgoing = []
            self._unsent = []
            for start in range(0, len(data), _PIECE):
                self._writing_since = trio.current_time()
                self._look_at_most_at(self._writing_since + self._request_timeout)
                await self._stream.send_all(data[start : start + _PIECE])
            self._writing_since = math.inf
            now = trio.current_time()
            for expected in batch:
                expected.sent = now
            self._look_at_most_at(now + self._request_timeout)

    # -- the watchdog -------------------------------------------------------------------------------------------------

    def _due(self) -> float:
        """When silence becomes a reason to act: to probe, or to give up."""
        writing = max(self._writing_since, self._excused) + self._request_timeout
        if not self._expected:
            return min(writing, self.last_byte + self._probe_interval)
        return min(writing, max(self._expected[0].sent, self.last_byte, self._excused) + self._request_timeout)

    def _look_at_most_at(self, time: float) -> None:
        if time < self._look_at:
            self._look_earlier.set()

    async def _watch(self) -> None:
        while True:
            due = self._due()
            if due == math.inf:
                # Only what is not on the wire yet is awaited: it can't be due before this.
                due = trio.current_time() + self._request_timeout
            self._look_at = due
            self._look_earlier = trio.Event()
            with trio.move_on_at(due):
                await self._look_earlier.wait()
            if trio.current_time() < due:
                continue
            late = trio.current_time() - due
            if self._expected:
                # If bytes are there, the reader is scheduled by now, and this lets it run.
                await trio.lowlevel.checkpoint()
            now = trio.current_time()
            if now < self._due():
                continue
            if not self._expected:
                self.probe("PING")
            elif self._dispatching or late > self._request_timeout / 2:
                # It was us who stood still. Whether Redis did can only be known from here on.
                self._excused = now
            else:
                raise self._stalled()

    def _stalled(self) -> StalledError:
        """The error for a silence that lasted; its command is the one that has waited longest."""
        oldest = self._expected[0]
        blocked = self._writing_since + self._request_timeout <= trio.current_time()
        what = "nothing could be written" if blocked else f"no answer to {oldest.command}"
        return StalledError(f"{what} for {self._request_timeout:g}s", oldest.command, waited_for=oldest.waited_for)
