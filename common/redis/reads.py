"""Reads of large values, over connections of their own beside the one that subscribes.

Redis holds the replies on a connection that subscribes against its Pub/Sub output limit (32 MB), and a subscriber that
reads 80 MB hears nothing meanwhile. So reads go over a few ordinary connections, at most `CONNECTIONS` of them, each
opened when it is first needed and serving one read at a time: what is under way is bounded in number and in bytes, and
a connection that is given up (an answer over the limit, a silence) takes nobody else's read with it. Who comes when all
are busy waits for a turn, in order.

A `Reads` belongs to one subscribing connection of a link and ends with it: `open` connects to the address that one is
connected to, so that what is subscribed here is not read elsewhere.

Two connections have no common order, and need none: a write before the read is in it, and a write after it is notified
after it. Who asks must therefore forget what was notified so far when the read is sent, not when it is answered
(`sending`).

A server that lets us subscribe and not read (its password has changed, it has no connection left) is as good as none:
when there is no connection and none can be had for `HOPELESS`, `on_unavailable` is told.

Time. A read goes on while its bytes come; `request_timeout` without one ends it and its connection. What still is not
whole after `LONGEST` is no answer but a drip that holds others up, and ends likewise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from common.backoff import Backoff
from common.names import close_all
from common.quote import quote
from common.redis.errors import (
    ProtocolError,
    RedisConnectionError,
    RedisError,
    RedisTimeoutError,
    ReplyTooLargeError,
)
from common.redis.handshake import RECEIVE_SIZE
from common.redis.resp import PushNotification, RespParser, encode
from common.redis.transport import explain_broken

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from common.logs import Logger

CONNECTIONS: Final = 4
"""A few: an answer takes longer to be understood here than to come, so more would only hold more of them."""

LONGEST: Final = 120.0
"""Seconds that one answer may take: 8 MB at half a megabit a second."""

REOPENING: Final = Backoff(0.1, 5.0)
"""Delays after a connection that could not be opened. The reads wait for it: each would have to ask again anyway."""

HOPELESS: Final = 5.0
"""Seconds in which every attempt failed, with no connection left to read over."""


class _Lost(Exception):  # noqa: N818 - a turn of events inside this module
    """A connection ended before the first byte of an answer; the message says how."""


class _Question:
    """What is asked, and how many answers there are: the last one counts, or the first error."""

    __slots__ = ("answers", "command", "encoded")

    def __init__(self, args: tuple[bytes | str | int, ...], *, asking: bool) -> None:
        self.command = str(args[0])
        self.encoded = (encode("ASKING") if asking else b"") + encode(*args)
        self.answers = 2 if asking else 1


class Reads:
    """See the module. `limit` is the largest answer, in bytes.

    `open_connection` opens one that has shaken hands, or raises a RedisError; `on_timeout` is told the command of each
    read that was given up in a silence, `on_unavailable` why no connection can be had. `lost` ends every read that is
    under way or waits, and all that come later.
    """

    def __init__(
        self,
        *,
        limit: int,
        request_timeout: float,
        open_connection: Callable[[], Awaitable[trio.abc.Stream]],
        on_timeout: Callable[[str], None],
        on_unavailable: Callable[[RedisError], None],
        rng: random.Random,
        log: Logger,
    ) -> None:
        self._limit = limit
        self._request_timeout = request_timeout
        self._open_connection = open_connection
        self._on_timeout = on_timeout
        self._on_unavailable = on_unavailable
        self._rng = rng
        self._log = log
        self._turns = trio.Semaphore(CONNECTIONS)
        self._idle: list[trio.abc.Stream] = []
        """Connections that nobody reads from now; the one used last is used next."""
        self._in_use = 0
        self._scopes: set[trio.CancelScope] = set()
        self._closed = False
        # Opening: one attempt at a time once one has failed, so that thousands of reads don't make thousands.
        self._opening = trio.Lock()
        self._failures = 0
        self._failing_since = 0.0

    async def read(
        self, *args: bytes | str | int, sending: Callable[[], None] | None = None, asking: bool = False
    ) -> object:
        """Ask Redis and return the answer. `sending` is called when the question goes out; it may be more than once.

        `asking`: ASKING goes before it, for a cluster's node that the key is on its way to.

        Raises ReplyTooLargeError, RedisTimeoutError (see the module), RedisConnectionError (lost), or the ResponseError
        with which Redis refuses.
        """
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                if self._closed:
                    raise RedisConnectionError("no connection to Redis")
                async with self._turns:
                    return await self._read(_Question(args, asking=asking), sending)
            finally:
                self._scopes.discard(scope)
        raise RedisConnectionError("connection lost during a read")

    async def lost(self) -> None:
        """The subscribing connection is over: so is every read, and no connection is kept."""
        self._closed = True
        for scope in self._scopes:
            scope.cancel()
        idle, self._idle = self._idle, []
        await close_all(idle)

    async def _read(self, question: _Question, sending: Callable[[], None] | None) -> object:
        while True:
            stream, used = await self._obtain()
            self._in_use += 1
            whole = False
            try:
                if sending is not None:
                    sending()
                answer = await self._ask(stream, question)
                whole = True
            except _Lost as error:
                # An idle connection may have ended at any time, with nobody looking: that is no answer of Redis's.
                if not used:
                    raise RedisConnectionError(f"connection lost: {error}") from error
                continue
            finally:
                self._in_use -= 1
                # With a part of an answer still to come, nobody else can use it.
                if whole and not self._closed:
                    self._idle.append(stream)
                else:
                    await trio.aclose_forcefully(stream)
            if not isinstance(answer, RedisError):
                return answer
            try:
                raise answer
            finally:
                # Else its traceback leads to this frame, and the frame back to it.
                del answer

    async def _obtain(self) -> tuple[trio.abc.Stream, bool]:
        """A connection and whether it was used before, however long it takes: the reads that wait end with the
        subscribing connection."""
        if self._idle:
            return self._idle.pop(), True
        if not self._failures:
            try:
                return await self._open_connection(), False
            except RedisError as error:
                self._note_failure(error)
        async with self._opening:
            while True:
                if self._failures:
                    await trio.sleep(REOPENING.after_failure(self._failures, self._rng))
                if self._idle:
                    # No other may be had for long, and this one is free.
                    return self._idle.pop(), True
                try:
                    stream = await self._open_connection()
                except RedisError as error:
                    self._note_failure(error)
                else:
                    self._failures = 0
                    return stream, False

    def _note_failure(self, error: RedisError) -> None:
        if not self._failures:
            self._failing_since = trio.current_time()
        self._failures += 1
        self._log.warning("redis reads unavailable, retrying", attempt=self._failures, error=quote(str(error)))
        hopeless = trio.current_time() - self._failing_since >= HOPELESS
        if hopeless and not self._in_use and not self._idle:
            self._on_unavailable(error)

    async def _ask(self, stream: trio.abc.Stream, question: _Question) -> object:
        """One question, one answer, counted as it comes. An error that Redis answers is returned."""
        command, answers = question.command, list[object]()
        parser = RespParser(self._limit + RECEIVE_SIZE)
        received = 0
        begun = trio.current_time()
        try:
            with trio.fail_after(self._request_timeout):
                await stream.send_all(question.encoded)
            while True:
                with trio.fail_at(min(trio.current_time() + self._request_timeout, begun + LONGEST)):
                    data = await stream.receive_some(RECEIVE_SIZE)
                if not data:
                    raise _Lost("closed by Redis in the middle of a reply" if received else "closed by Redis")
                received += len(data)
                if received > self._limit:
                    raise ReplyTooLargeError(command, self._limit)
                parser.feed(data)
                # Nothing is subscribed here; Redis pushes other things too.
                answers += [value for value in parser.values() if type(value) is not PushNotification]
                if len(answers) > question.answers or (len(answers) == question.answers and parser.unfinished):
                    raise ProtocolError("more than one answer to one question")
                if len(answers) == question.answers:
                    return next((answer for answer in answers if isinstance(answer, RedisError)), answers[-1])
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise _Lost(explain_broken(error)) from error
        except trio.TooSlowError:
            self._on_timeout(command)
            drip = trio.current_time() >= begun + LONGEST
            what = "the whole" if drip else "a byte"
            seconds = LONGEST if drip else self._request_timeout
            raise RedisTimeoutError(f"not {what} of the answer to {command} for {seconds:g}s") from None
