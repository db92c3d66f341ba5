"""The link to Redis: one connection at a time, kept alive for as long as `run` runs.

A process has one link per database, whatever the number of its clients. `run` connects, shakes hands, subscribes to
everything that somebody wants, and says that it is online; when the connection ends it starts again, with jittered
delays. An attempt has succeeded, and the count of failures starts anew, only when every subscription has been answered.
The delays go on growing until a connection has lasted `CALM`: Redis that comes and goes is not asked all the time.

Subscriptions outlive connections: `subscribe` works at any time, and takes effect when Redis can be reached. Requests
and reads don't: there is an answer of the server that is connected now, or an exception. A request shares the
subscribing connection and is for small answers; `read` has connections of its own beside it (`reads`).

The server's role is asked for every `role_interval`. What becomes of a link that finds itself on a replica is for
`LinkPolicy.replica` to say; whatever it is, a new attempt resolves the name anew.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.backoff import Backoff
from common.histogram import Histogram
from common.quote import quote
from common.redis.connection import Batch, Connection
from common.redis.errors import (
    AuthenticationError,
    BusyLoadingError,
    OutageError,
    RedisConnectionError,
    RedisError,
    RedisRefused,
    RedisTimeoutError,
    RedisUnavailable,
    StalledError,
)
from common.redis.handler import LinkHandler, LinkListener
from common.redis.handshake import PRIMARY, ROLE_QUESTION, role_of
from common.redis.opening import Opener
from common.redis.policy import LinkPolicy, Replica
from common.redis.reads import Reads
from common.redis.subscription import Subscription
from common.redis.transport import address

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Iterator

    from common.logs import Logger
    from common.redis.connection import Reply
    from common.redis.url import RedisURL
    from common.secret import Secret

__all__ = [
    "Batch",
    "Link",
    "LinkHandler",
    "LinkListener",
    "LinkPolicy",
    "LinkState",
    "RedisRefused",
    "RedisUnavailable",
    "Replica",
    "Subscription",
]

CALM: Final = 10.0
"""Seconds online after which the delays start anew."""

_RESUBSCRIPTION_PATIENCE: Final = 30
"""Request time-outs that a resubscription may take while bytes keep coming. Silence ends it after one."""


@attrs.frozen
class LinkState:
    """What a link is doing, for diagnostics. `since` is a `trio.current_time`; `url` has no secret in it.

    `state` is one of `idle` (not started), `connecting`, `waiting` (for the next attempt), `online`, `stopped`;
    `attempt` counts the attempts of this outage.
    """

    state: str
    attempt: int
    since: float
    url: str
    subscriptions: int


class Link:
    """See the module. The counters only grow: `reconnects` counts every time the link came online, the first included;
    `timeouts` every request, subscription or probe that had no answer in time; `round_trips` holds the
    seconds that each answered probe took, also those of a busy connection, which is asked for its role.

    `password` is used when `url` has none, and is read again at every attempt. `connect` replaces the opening of every
    socket; it may raise OSError.
    """

    def __init__(
        self,
        url: RedisURL,
        password: Secret | None,
        client_name: str,
        policy: LinkPolicy,
        handler: LinkHandler,
        log: Logger,
        rng: random.Random,
        connect: Callable[[], Awaitable[trio.abc.Stream]] | None = None,
    ) -> None:
        self.reconnects = 0
        self.timeouts = 0
        self.round_trips = Histogram()
        self._url = url
        self._client_name = client_name
        self._policy = policy
        self._backoff = Backoff(policy.retry_base, policy.retry_max)
        self._handler = handler
        self._listener = handler if isinstance(handler, LinkListener) else None
        self._log = log
        self._rng = rng
        self._opener = Opener(
            url,
            password,
            connect,
            within=policy.connect_timeout,
            reply_limit=policy.reply_limit,
            on_timeout=lambda command: self._note_timeout(command, policy.connect_timeout),
        )
        self._subscriptions: dict[bytes, Subscription] = {}
        self._connection: Connection | None = None
        """The one that subscriptions are sent on: it has shaken hands, and has not been noticed to end."""
        self._reads: Reads | None = None
        """Those of that connection."""
        self._online = trio.Event()
        self._role: str | None = None
        """What the server was when it last said so; kept over reconnects, for that is where a change is seen."""
        self._replica_told = False
        self._delays = 0
        """How many delays there have been since the link was last calm."""
        self._last_byte: float | None = None
        """When the connection that was online last heard of Redis; None until there was one."""
        self.obstacle: str | None = None
        """Why there is nothing to wait for, from an outage's first failed attempt until an attempt has succeeded."""
        self._state = "idle"
        self._since = 0.0
        self._attempt = 0

    def __repr__(self) -> str:
        return f"<Link {self._url.masked()} {self._state}, {len(self._subscriptions)} subscriptions>"

    @property
    def online(self) -> bool:
        """Whether Redis answers and every subscription that was made before has been answered."""
        return self._online.is_set() and self._connection is not None and self._connection.error is None

    @property
    def db(self) -> int:
        """The database that requests are about."""
        return self._url.db

    async def wait_online(self) -> None:
        """Wait until it is online. Without a deadline of its own."""
        await self._online.wait()

    def describe(self) -> LinkState:
        """What it is doing now."""
        return LinkState(self._state, self._attempt, self._since, self._url.masked(), len(self._subscriptions))

    # -- subscriptions and requests -----------------------------------------------------------------------------------

    def subscribe(self, channel: bytes) -> Subscription:
        """Listen to `channel` from now until `unsubscribe`, over reconnects. A second call returns the same."""
        subscription = self._subscriptions.get(channel)
        if subscription is None:
            subscription = self._subscriptions[channel] = Subscription(channel)
            if self._connection is not None:
                self._connection.subscribe(subscription)
        return subscription

    def unsubscribe(self, channel: bytes) -> None:
        """Stop listening, at once; Redis is told, and its answer not waited for. Without effect if not subscribed."""
        subscription = self._subscriptions.pop(channel, None)
        if subscription is not None:
            self._give_back(subscription)

    async def unsubscribe_all(self) -> None:
        """Give back every subscription, and wait for Redis to say so, `request_timeout` at most. No RedisError."""
        subscriptions = list(self._subscriptions.values())
        self._subscriptions.clear()
        for subscription in subscriptions:
            self._give_back(subscription, waited_for=True)
        if self._connection is not None:
            # Answers come in order: after this one, all have come.
            last = self._connection.request("PING")
            if not await self._in_time(last):
                self._note_timeout("UNSUBSCRIBE")

    def _give_back(self, subscription: Subscription, *, waited_for: bool = False) -> None:
        if self._connection is not None:
            self._connection.unsubscribe(subscription, waited_for=waited_for)
        subscription.close()

    async def wait_active(self, subscription: Subscription) -> None:
        """Wait until `subscription` is active, `request_timeout` at most; not at all if it is.

        Raises the error with which Redis refused it, OutageError (at once, while attempts to connect fail),
        RedisTimeoutError (Redis does not answer, or there is no connection), and RedisConnectionError when it was
        unsubscribed meanwhile.
        """
        if self.obstacle is not None and self._connection is None and not subscription.closed:
            raise OutageError(self.obstacle)
        asked = self._connection is not None
        if not subscription.active:
            await self._bounded(subscription.wait_settled)
        if subscription.active:
            return
        if subscription.refused is not None:
            # One refusal may have many waiters: each raises an exception of its own.
            raise type(subscription.refused)(*subscription.refused.args) from subscription.refused
        if subscription.closed:
            raise RedisConnectionError("unsubscribed while waiting for Redis")
        if not asked:
            raise RedisTimeoutError("no connection to Redis")
        self._note_timeout("SUBSCRIBE")
        raise RedisTimeoutError(f"no answer to SUBSCRIBE for {self._policy.request_timeout:g}s")

    async def request(self, *args: bytes | str | int) -> object:
        """Ask Redis, on the connection that lives now, and return the answer, `request_timeout` later at most.

        Raises RedisConnectionError (not online, or lost meanwhile), RedisTimeoutError, or the ResponseError with which
        Redis refuses.
        """
        connection = self._connection
        if connection is None or not self.online:
            raise RedisConnectionError("no connection to Redis")
        reply = connection.request(*args)
        if not await self._in_time(reply):
            self._note_timeout(reply.command)
            raise RedisTimeoutError(f"no answer to {reply.command} for {self._policy.request_timeout:g}s")
        if reply.error is not None:
            try:
                raise reply.error
            finally:
                # The error's traceback holds this frame, which must not hold it in turn.
                del reply
        return reply.value

    async def read(self, *args: bytes | str | int, sending: Callable[[], None] | None = None) -> object:
        """Ask the server that is connected now for something that may be large, and return the answer (see `reads`).

        `sending` is called when the question goes out: every write that was notified before is in the answer. Raises
        ReplyTooLargeError (more than `read_limit` bytes), RedisConnectionError (not online, or lost meanwhile),
        RedisTimeoutError (not a byte for `request_timeout`), or the ResponseError with which Redis refuses.
        """
        if self._reads is None or not self.online:
            raise RedisConnectionError("no connection to Redis")
        return await self._reads.read(*args, sending=sending)

    async def _in_time(self, reply: Reply) -> bool:
        """Whether the answer came within `request_timeout`. The stall that it noticed itself counts as no answer."""
        await self._bounded(reply.wait)
        return reply.done and not reply.stalled

    async def _bounded(self, wait: Callable[[], Awaitable[None]]) -> None:
        """Wait `request_timeout` at most. The caller looks at what has become of it."""
        with trio.move_on_after(self._policy.request_timeout) as scope:
            await wait()
        if scope.cancelled_caught:
            # Where it was this process that had no time, what has arrived meanwhile is read first.
            await trio.lowlevel.checkpoint()

    def _read_unavailable(self, error: RedisError) -> None:
        """Being subscribed to what can't be read is no use to anybody: it is an outage, and told as one."""
        if self._connection is not None:
            self._connection.fail(RedisConnectionError(f"no connection for reads: {error}"))

    def _note_timeout(self, command: str, seconds: float | None = None) -> None:
        self.timeouts += 1
        self._log.warning("redis request timed out", command=command, seconds=seconds or self._policy.request_timeout)

    # -- the life of the link -----------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the link alive until cancelled; `started()` when it is online for the first time.

        Before that, raises `RedisUnavailable` after `max_retries` failed attempts and `RedisRefused` when the
        credentials are wrong. Afterwards both are an outage like any other.
        """
        failures = 0
        try:
            while True:
                self._enter("connecting", failures + 1)
                log = self._log.info if failures == 0 else self._log.debug
                log("redis connecting", attempt=failures + 1, address=address(self._url))
                try:
                    await self._session(task_status)
                except RedisError as error:
                    if self._online.is_set():
                        failures = 0
                        self._lose(error)
                        delay = self._delay_after_loss()
                    elif isinstance(error, BusyLoadingError) and self._policy.wait_for_loading:
                        self.obstacle = "redis is loading its data"
                        delay = self._delay_after_failure()
                        self._log.info("redis is loading, waiting", backoff=round(delay, 3))
                    else:
                        failures += 1
                        self.obstacle = "redis is unavailable"
                        self._give_up_at_start(failures, error)
                        delay = self._delay_after_failure()
                        self._log.warning(
                            "redis unavailable, retrying",
                            attempt=failures,
                            backoff=round(delay, 3),
                            error=quote(str(error)),
                        )
                        if failures == self._policy.max_retries:
                            self._log.error("redis unavailable, clients ended", attempts=failures)
                            with self._barrier("on_exhausted"):
                                self._handler.on_exhausted()
                self._enter("waiting", failures + 1)
                await trio.sleep(delay)
        finally:
            self._enter("stopped", 0)
            self._online = trio.Event()

    def _delay_after_loss(self) -> float:
        """Short after a calm; after less the growth goes on, as if the connection had never been there."""
        if trio.current_time() - self._since >= CALM:
            self._delays = 0
        self._delays += 1
        if self._delays == 1:
            return self._backoff.first(self._rng)
        return self._backoff.after_failure(self._delays - 1, self._rng)

    def _delay_after_failure(self) -> float:
        self._delays = max(self._delays, 1) + 1
        return self._backoff.after_failure(self._delays - 1, self._rng)

    async def _session(self, task_status: trio.TaskStatus[None]) -> None:
        """One connection from its opening to its end. Always raises: the RedisError that says why."""
        opened = await self._opener.open(self._client_name)

        async def open_another() -> trio.abc.Stream:
            return (await self._opener.open(f"{self._client_name}-reads", opened.address)).stream

        reads = Reads(
            limit=self._policy.read_limit,
            request_timeout=self._policy.request_timeout,
            open_connection=open_another,
            on_timeout=self._note_timeout,
            on_unavailable=self._read_unavailable,
            rng=self._rng,
            log=self._log,
        )
        try:
            self._note_role(opened.role)
            connection = Connection(
                opened.stream,
                opened.parser,
                request_timeout=self._policy.request_timeout,
                probe_interval=self._policy.probe_interval,
                on_messages=self._handler.on_messages,
                on_active=self._acknowledged,
                on_refused=self._refused,
                on_round_trip=self.round_trips.observe,
                log=self._log,
            )
            self._connection = connection
            self._reads = reads
            for subscription in self._subscriptions.values():
                connection.subscribe(subscription)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._come_online, connection, task_status)
                nursery.start_soon(self._watch_role, connection)
                ended = await connection.run()
                nursery.cancel_scope.cancel()
            if isinstance(ended, StalledError) and not (self._online.is_set() and ended.waited_for):
                self._note_timeout(ended.command)
            raise ended
        finally:
            self._disconnect()
            await reads.lost()
            await trio.aclose_forcefully(opened.stream)

    def _disconnect(self) -> None:
        """Take leave of the connection, if there was one: all subscriptions wait for the next."""
        if self._connection is None:
            return
        last_byte = self._connection.last_byte
        self._connection = None
        self._reads = None
        if self._online.is_set():
            self._last_byte = last_byte
        for subscription in self._subscriptions.values():
            subscription.rearm(last_byte)

    async def _come_online(self, connection: Connection, task_status: trio.TaskStatus[None]) -> None:
        """Wait until everything that was subscribed has been answered, then say so."""
        if self._subscriptions:
            # Answers come in order: after this one, all have come.
            last = connection.request("PING", waited_for=False)
            with trio.move_on_after(self._policy.request_timeout * _RESUBSCRIPTION_PATIENCE):
                await last.wait()
            if not last.done:
                connection.fail(StalledError("the subscriptions are not answered", "SUBSCRIBE"))
            if connection.error is not None:
                return
        gap = None if self._last_byte is None else trio.current_time() - self._last_byte
        self.reconnects += 1
        self._log.info(
            "redis online",
            attempt=self._attempt,
            subscriptions=len(self._subscriptions),
            outage=None if gap is None else round(gap, 3),
        )
        self._enter("online", self._attempt)
        first = self._last_byte is None
        self._last_byte = connection.last_byte
        self.obstacle = None
        self._online.set()
        if self._listener is not None:
            with self._barrier("on_online"):
                self._listener.on_online(gap)
        if first:
            task_status.started()

    async def _watch_role(self, connection: Connection) -> None:
        """Ask for the server's role again and again, whatever else goes on, and act when it is another one."""
        while self._policy.role_interval < math.inf:
            await trio.sleep(self._policy.role_interval)
            reply = connection.probe(*ROLE_QUESTION)
            await reply.wait()
            try:
                self._note_role(role_of(reply.value))
            except RedisConnectionError as error:
                connection.fail(error)

    def _note_role(self, role: str | None) -> None:
        """The server has said what it is. Raises RedisConnectionError where that can't be put up with."""
        if role is None:
            # A proxy that does not tell, or a connection that ends.
            return
        before, self._role = self._role, role
        where = address(self._url)
        if role == PRIMARY:
            if self._replica_told:
                self._log.info("redis is a primary again", address=where)
            self._replica_told = False
            return
        if self._policy.replica is Replica.REFUSE:
            raise RedisConnectionError(f"a replica, and a primary is needed: {where}")
        if self._policy.replica is Replica.LEAVE and before == PRIMARY:
            raise RedisConnectionError(f"the primary has become a replica: {where}")
        if not self._replica_told:
            self._log.warning("redis is a replica", address=where, warning="what it says may be late")
        self._replica_told = True

    def _lose(self, error: RedisError) -> None:
        self._log.warning(
            "redis stream interrupted", error=quote(str(error)), online=round(trio.current_time() - self._since, 3)
        )
        self._online = trio.Event()
        if self._listener is not None:
            with self._barrier("on_lost"):
                self._listener.on_lost()

    def _give_up_at_start(self, failures: int, error: RedisError) -> None:
        """Before the link was ever online, some failures are the end of it."""
        if self._last_byte is not None:
            return
        if isinstance(error, AuthenticationError):
            raise RedisRefused(str(error)) from error
        if failures == self._policy.max_retries:
            attempts = "1 attempt" if failures == 1 else f"{failures} attempts"
            raise RedisUnavailable(f"Redis is unavailable after {attempts}: {error}") from error

    def _acknowledged(self, subscription: Subscription) -> None:
        since = subscription.heard_until
        with self._barrier("on_active"):
            self._handler.on_active(subscription.channel, None if since is None else trio.current_time() - since)

    def _refused(self, subscription: Subscription, error: RedisError) -> None:
        with self._barrier("on_refused"):
            self._handler.on_refused(subscription.channel, error)

    def _enter(self, state: str, attempt: int) -> None:
        self._state = state
        self._attempt = attempt
        self._since = trio.current_time()

    @contextmanager
    def _barrier(self, what: str) -> Iterator[None]:
        """A handler that raises is a bug of its own; the link lives on."""
        try:
            yield
        except Exception:  # noqa: BLE001 - the barrier: see above
            self._log.exception("redis handler failed", handler=what)
