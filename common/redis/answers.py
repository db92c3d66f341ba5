"""What a connection awaits of Redis: one value for each answer, in the order of asking."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from common.redis.errors import RedisConnectionError, RedisError, StalledError
from common.redis.subscription import SHARD

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.redis.subscription import Subscription


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


class TimedReply(Reply):
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


class Acknowledgement:
    """The expected answer to SUBSCRIBE, SSUBSCRIBE or UNSUBSCRIBE of one channel: a push with its name, or an error."""

    __slots__ = ("command", "kind", "sent", "subscription", "waited_for")

    def __init__(self, command: str, subscription: Subscription, *, waited_for: bool) -> None:
        self.command = command
        self.kind = command.lower().encode()
        self.subscription = subscription
        self.waited_for = waited_for
        self.sent = math.inf


class Farewell:
    """The expected end of the answers to SUNSUBSCRIBE of one channel: the PONG behind them. See `Connection`."""

    __slots__ = ("channel", "command", "sent", "waited_for")

    def __init__(self, channel: bytes, *, waited_for: bool) -> None:
        self.channel = channel
        self.command = SHARD.unsubscribe
        self.waited_for = waited_for
        self.sent = math.inf


Expected = Reply | Acknowledgement | Farewell
