"""One live connection to Redis, after the handshake: replies to whoever asked, messages to whoever listens.

`run` owns three tasks and ends with the connection. The reader parses what comes and dispatches it; the writer sends
what was queued, everything at once, so that thousands of subscriptions are one write; the watchdog decides whether the
other side still lives. The first error ends all three, and is what `run` returns.

Every answer is expected in the order of asking. RESP3 keeps that order for pushes too: a notification that precedes a
reply on the wire is handed on before the reply is.

A shard channel's subscription may also be ended by the server, when the slot leaves it: a `sunsubscribe` to which no
command of ours led. It looks like the answer to our own SUNSUBSCRIBE, which on a node that has lost the slot is
answered with MOVED instead. So no answer to that is counted on: a PING goes behind it, and its PONG is the answer.

Time. The wait for the next message has no bound: a quiet channel is healthy. A link that was quiet for
`probe_interval` is probed with PING. The connection is dead when an answer is due and not one byte came for
`request_timeout`; any byte is life, so replies that queue behind a long burst are not a stall. Nor is it one when we
were too busy to look: what has already arrived is read before the verdict, and time that this process spent elsewhere
is not held against Redis.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final, TypeGuard

import trio

from common.quote import quote
from common.redis.answers import Acknowledgement, Farewell, Reply, TimedReply
from common.redis.errors import (
    ProtocolError,
    RedisConnectionError,
    RedisError,
    StalledError,
)
from common.redis.handshake import RECEIVE_SIZE
from common.redis.resp import PushNotification, encode
from common.redis.subscription import SHARD
from common.redis.transport import explain_broken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from common.logs import Logger
    from common.redis.answers import Expected
    from common.redis.resp import RespParser
    from common.redis.subscription import Subscription, SubscriptionKind

Batch = dict[bytes, list[bytes]]
"""The messages of one read: channel -> payloads, in the order in which Redis sent them."""

_PIECE: Final = 65536
"""Bytes written at a time. Each piece that the socket takes is progress."""


class Connection:
    """See the module. `last_byte` is the time (`trio.current_time`) of the last byte read, `heard_before` that of the
    read before; `error` why it ended.

    `on_messages` is awaited in the reader's task with each batch and the time at which its bytes were read; nothing
    else is read meanwhile. `on_active` is told of each subscription that Redis has acknowledged, before any of its
    messages; `on_refused` of each that it has not; its owner may set these three anew. `on_dropped` is told of each
    that Redis has ended by itself, after all of its messages; `on_round_trip` of the seconds that each probe took.

    A channel is heard in one kind at a time.
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
        on_dropped: Callable[[Subscription], None] | None = None,
        log: Logger,
    ) -> None:
        self.last_byte = self.heard_before = trio.current_time()
        self.error: RedisError | None = None
        self._stream = stream
        self._parser = parser
        self._request_timeout = request_timeout
        self._probe_interval = probe_interval
        self.on_messages = on_messages
        self.on_active = on_active
        self.on_refused = on_refused
        self._on_dropped = on_dropped
        self._on_round_trip = on_round_trip
        self._log = log
        self._scope = trio.CancelScope()
        self._active: dict[bytes, Subscription] = {}
        self._active_shard: dict[bytes, Subscription] = {}
        self._expected: deque[Expected] = deque()
        # The writer: commands that wait, and what stands behind them until it is on the wire.
        self._outgoing: list[bytes] = []
        self._unsent: list[Expected] = []
        self._something_to_write = trio.Event()
        self._writing_since = math.inf
        # The watchdog: when it will look, and the time before which silence does not count.
        self._look_at = math.inf
        self._look_earlier = trio.Event()
        self._excused = -math.inf
        self._dispatching = False

    def __repr__(self) -> str:
        state = "live" if self.error is None else f"ended: {self.error}"
        active = len(self._active) + len(self._active_shard)
        return f"<Connection {state}, {active} active, {len(self._expected)} expected>"

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
            self._active_shard.clear()
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
        reply = TimedReply(str(args[0]), self._on_round_trip)
        if self.error is None:
            self._queue(encode(*args), reply)
        else:
            reply.fail(self.error)
        return reply

    def subscribe(self, subscription: Subscription) -> None:
        """Queue SUBSCRIBE, or what its kind has for it; the subscription is told what becomes of it.

        Without effect on an ended connection.
        """
        command = subscription.kind.subscribe
        self._queue(encode(command, subscription.channel), Acknowledgement(command, subscription, waited_for=True))

    def unsubscribe(self, subscription: Subscription, *, waited_for: bool = False) -> None:
        """Queue UNSUBSCRIBE, or what its kind has for it, for one that is closed.

        From this moment its channel hands on nothing more.
        """
        channel, kind = subscription.channel, subscription.kind
        active = self._active_of(kind)
        if active.get(channel) is subscription:
            del active[channel]
        if subscription.refused is not None:
            return
        command = encode(kind.unsubscribe, channel)
        if kind is SHARD:
            self._queue(command + encode("PING"), Farewell(channel, waited_for=waited_for))
        else:
            self._queue(command, Acknowledgement(kind.unsubscribe, subscription, waited_for=waited_for))

    def hears(self, channel: bytes) -> bool:
        """Whether messages of `channel` are handed on."""
        return channel in self._active or channel in self._active_shard

    def _active_of(self, kind: SubscriptionKind) -> dict[bytes, Subscription]:
        return self._active_shard if kind is SHARD else self._active

    def _queue(self, command: bytes, expected: Expected) -> None:
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
            self.heard_before, self.last_byte = self.last_byte, trio.current_time()
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
                if self._active_shard and _is_shard_message(value):
                    _, channel, payload = value
                    if channel in self._active_shard:
                        batch.setdefault(channel, []).append(payload)
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
        expected = self._expected[0]
        if isinstance(expected, Farewell) and isinstance(value, RedisError):
            # The answer to SUNSUBSCRIBE; the one to the PING follows.
            self._log.debug("redis refused to unsubscribe", channel=quote(expected.channel), error=quote(str(value)))
            return
        self._expected.popleft()
        if isinstance(expected, Farewell):
            return
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
        if kind == b"sunsubscribe":
            self._take_end(push[1] if len(push) > 1 else None)
            return
        if kind not in (b"subscribe", b"ssubscribe", b"unsubscribe"):
            # Among them messages of shard channels that nobody hears any more.
            self._log.debug("redis push ignored", kind=quote(kind if isinstance(kind, bytes) else repr(kind)))
            return
        expected = self._expected[0] if self._expected else None
        if (
            not isinstance(expected, Acknowledgement)
            or expected.kind != kind
            or push[1:2] != [expected.subscription.channel]
        ):
            raise ProtocolError("an acknowledgement out of turn")
        self._expected.popleft()
        subscription = expected.subscription
        if kind == subscription.kind.active and not subscription.closed:
            self._active_of(subscription.kind)[subscription.channel] = subscription
            subscription.activate()
            self.on_active(subscription)

    def _take_end(self, channel: object) -> None:
        """A shard channel is over on this node. Where that was our own wish, it is not active any more."""
        subscription = self._active_shard.pop(channel, None) if isinstance(channel, bytes) else None
        if subscription is not None and self._on_dropped is not None:
            self._on_dropped(subscription)

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


def _is_shard_message(value: object) -> TypeGuard[tuple[bytes, bytes, bytes]]:
    return (
        type(value) is PushNotification
        and len(value) == 3
        and value[0] == b"smessage"
        and type(value[1]) is bytes
        and type(value[2]) is bytes
    )
