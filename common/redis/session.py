"""One connection of a link, from the end of its handshake to its own: what is asked over it, and for how long.

A `Session` is the link's, which makes it and runs it; its stream is closed when it is over. A request shares the
connection that subscribes and is for small answers; `read` has connections of its own beside it (`reads`), which end
with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from common.redis.connection import Connection
from common.redis.errors import RedisConnectionError, RedisTimeoutError, StalledError
from common.redis.reads import Reads

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from common.logs import Logger
    from common.redis.answers import Reply
    from common.redis.connection import Batch
    from common.redis.errors import RedisError
    from common.redis.opening import Opened
    from common.redis.policy import LinkPolicy
    from common.redis.subscription import Subscription
    from common.redis.url import RedisURL

_RESUBSCRIPTION_PATIENCE: Final = 30
"""Request time-outs that a resubscription may take while bytes keep coming. Silence ends it after one."""


class Session:
    """See the module. `open_another` opens a connection for reads; `on_timeout` is told what had no answer in time.

    The other callbacks are the connection's.
    """

    def __init__(
        self,
        opened: Opened,
        *,
        server: RedisURL,
        policy: LinkPolicy,
        open_another: Callable[[], Awaitable[trio.abc.Stream]],
        on_messages: Callable[[Batch, float], Awaitable[None]],
        on_active: Callable[[Subscription], None],
        on_refused: Callable[[Subscription, RedisError], None],
        on_round_trip: Callable[[float], None],
        on_timeout: Callable[[str], None],
        on_dropped: Callable[[Subscription], None] | None = None,
        rng: random.Random,
        log: Logger,
    ) -> None:
        self.server = server
        self.over = trio.Event()
        """Set when the connection has ended; why is `connection.error`."""
        self._stream = opened.stream
        self._request_timeout = policy.request_timeout
        self._on_timeout = on_timeout
        self.connection = Connection(
            opened.stream,
            opened.parser,
            request_timeout=policy.request_timeout,
            probe_interval=policy.probe_interval,
            on_messages=on_messages,
            on_active=on_active,
            on_refused=on_refused,
            on_dropped=on_dropped,
            on_round_trip=on_round_trip,
            log=log,
        )
        self.reads = Reads(
            limit=policy.read_limit,
            request_timeout=policy.request_timeout,
            open_connection=open_another,
            on_timeout=on_timeout,
            on_unavailable=self._end_without_reads,
            rng=rng,
            log=log,
        )

    async def run(self) -> None:
        """Live to the connection's end."""
        try:
            await self.connection.run()
        finally:
            self.over.set()
            await trio.aclose_forcefully(self._stream)

    async def request(self, *args: bytes | str | int, asking: bool = False) -> object:
        """See `RedisLink.request`. `asking`: of a cluster's node that the key is on its way to, in one write."""
        if asking:
            self.connection.request("ASKING", waited_for=False)
        reply = self.connection.request(*args)
        if not await self._in_time(reply):
            self._on_timeout(reply.command)
            raise RedisTimeoutError(f"no answer to {reply.command} for {self._request_timeout:g}s")
        if reply.error is not None:
            try:
                raise reply.error
            finally:
                # The error's traceback holds this frame, which must not hold it in turn.
                del reply
        return reply.value

    async def wait_unsubscribed(self) -> None:
        """Wait until every UNSUBSCRIBE before this has been answered, `request_timeout` at most. No RedisError."""
        # Answers come in order: after this one, all have come.
        if not await self._in_time(self.connection.request("PING")):
            self._on_timeout("UNSUBSCRIBE")

    async def wait_subscribed(self) -> bool:
        """Wait until every SUBSCRIBE before this has been answered; return whether the connection lives on."""
        # As above.
        last = self.connection.request("PING", waited_for=False)
        with trio.move_on_after(self._request_timeout * _RESUBSCRIPTION_PATIENCE):
            await last.wait()
        if not last.done:
            self.connection.fail(StalledError("the subscriptions are not answered", "SUBSCRIBE"))
        return self.connection.error is None

    async def _in_time(self, reply: Reply) -> bool:
        """Whether the answer came within `request_timeout`. The stall that it noticed itself counts as no answer."""
        await bounded(reply.wait, self._request_timeout)
        return reply.done and not reply.stalled

    def _end_without_reads(self, error: RedisError) -> None:
        """Being subscribed to what can't be read is no use to anybody: it is an outage, and told as one."""
        self.connection.fail(RedisConnectionError(f"no connection for reads: {error}"))


async def bounded(wait: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Wait so many seconds at most. The caller looks at what has become of it."""
    with trio.move_on_after(seconds) as scope:
        await wait()
    if scope.cancelled_caught:
        # Where it was this process that had no time, what has arrived meanwhile is read first.
        await trio.lowlevel.checkpoint()
