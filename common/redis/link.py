"""The link to Redis: one connection at a time, kept alive for as long as `run` runs.

A process has one link per database, whatever the number of its clients. `run` connects, shakes hands, subscribes to
everything that somebody wants, and says that it is online; when the connection ends it starts again, with jittered
delays (`attempts`). An attempt has succeeded, and the count of failures starts anew, only when every subscription has
been answered.

Subscriptions outlive connections: `subscribe` works at any time, and takes effect when Redis can be reached. Requests
and reads don't: there is an answer of the server that is connected now, or an exception (`session`).

A new attempt resolves the server's name anew, also after one that found itself on a replica (`role`).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import trio

from common.histogram import Histogram
from common.quote import quote
from common.redis.attempts import Attempts
from common.redis.errors import (
    OutageError,
    RedisConnectionError,
    RedisError,
    RedisRefused,
    RedisTimeoutError,
    RedisUnavailable,
    StalledError,
)
from common.redis.handler import LinkHandler
from common.redis.opening import Opener
from common.redis.policy import LinkPolicy, Replica
from common.redis.role import RoleWatch
from common.redis.session import Session, bounded
from common.redis.state import LinkState, NodeState
from common.redis.subscription import Subscription
from common.redis.transport import address

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from common.logs import Logger
    from common.redis.opening import Connect, Opened
    from common.redis.url import RedisURL
    from common.secret import Secret

__all__ = ["Link", "LinkHandler", "LinkPolicy", "RedisRefused", "RedisUnavailable", "Replica"]


class Link:
    """See the module. The counters only grow: `reconnects` counts every time the link came online, the first included;
    `timeouts` every request, subscription or probe that had no answer in time; `round_trips` holds the
    seconds that each answered probe took, also those of a busy connection, which is asked for its role.

    `password` is used when `url` has none, and is read again at every attempt. `connect` replaces the opening of every
    socket.
    """

    def __init__(
        self,
        *,
        url: RedisURL,
        password: Secret | None = None,
        client_name: str,
        policy: LinkPolicy,
        handler: LinkHandler,
        log: Logger,
        rng: random.Random,
        connect: Connect | None = None,
    ) -> None:
        self.reconnects = 0
        self.timeouts = 0
        self.role_changes = 0
        self.redirections = 0
        self.round_trips = Histogram()
        self._url = url
        self._client_name = client_name
        self._policy = policy
        self._handler = handler
        self._log = log
        self._rng = rng
        self._opener = Opener(
            url=url,
            password=password,
            connect=connect,
            within=policy.connect_timeout,
            reply_limit=policy.reply_limit,
            on_timeout=lambda command: self._note_timeout(command, policy.connect_timeout),
        )
        self._attempts = Attempts(policy=policy, on_exhausted=self._exhausted, log=log, rng=rng)
        self._role = RoleWatch(policy=policy, where=address(url), log=log)
        self._subscriptions: dict[bytes, Subscription] = {}
        self._session: Session | None = None
        """Of the connection that subscriptions are sent on: it has shaken hands, and has not been noticed to end."""
        self._online = trio.Event()
        self._last_byte: float | None = None
        """When the connection that was online last heard of Redis; None until there was one."""
        self._state = "idle"
        self._since = 0.0
        self._attempt = 0

    def __repr__(self) -> str:
        return f"<Link {self._url.masked()} {self._state}, {len(self._subscriptions)} subscriptions>"

    @property
    def online(self) -> bool:
        """Whether Redis answers and every subscription that was made before has been answered."""
        return self._online.is_set() and self._session is not None and self._session.connection.error is None

    @property
    def obstacle(self) -> str | None:
        """Why there is nothing to wait for, from an outage's first failed attempt until an attempt has succeeded."""
        return self._attempts.obstacle

    @property
    def db(self) -> int:
        """The database that requests are about."""
        return self._url.db

    async def wait_online(self) -> None:
        """Wait until it is online. Without a deadline of its own."""
        await self._online.wait()

    def describe(self) -> LinkState:
        """What it is doing now."""
        subscriptions = len(self._subscriptions)
        nodes = []
        if self._session is not None:
            state = "online" if self.online else "connecting"
            nodes.append(NodeState(address(self._url), self._role.role, "", state, subscriptions))
        return LinkState(self._state, self._attempt, self._since, self._url.masked(), subscriptions, tuple(nodes))

    # -- subscriptions and requests -----------------------------------------------------------------------------------

    def subscribe(self, channel: bytes) -> Subscription:
        """Listen to `channel` from now until `unsubscribe`, over reconnects. A second call returns the same."""
        subscription = self._subscriptions.get(channel)
        if subscription is None:
            subscription = self._subscriptions[channel] = Subscription(channel)
            if self._session is not None:
                self._session.connection.subscribe(subscription)
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
        if self._session is not None:
            await self._session.wait_unsubscribed()

    def _give_back(self, subscription: Subscription, *, waited_for: bool = False) -> None:
        if self._session is not None:
            self._session.connection.unsubscribe(subscription, waited_for=waited_for)
        subscription.close()

    async def wait_active(self, subscription: Subscription) -> None:
        """Wait until `subscription` is active, `request_timeout` at most; not at all if it is.

        Raises the error with which Redis refused it, OutageError (at once, while attempts to connect fail),
        RedisTimeoutError (Redis does not answer, or there is no connection), and RedisConnectionError when it was
        unsubscribed meanwhile.
        """
        if self.obstacle is not None and self._session is None and not subscription.closed:
            raise OutageError(self.obstacle)
        asked = self._session is not None
        if not subscription.active:
            await bounded(subscription.wait_settled, self._policy.request_timeout)
        subscription.check()
        if subscription.active:
            return
        if not asked:
            raise RedisTimeoutError("no connection to Redis")
        self._note_timeout("SUBSCRIBE")
        raise RedisTimeoutError(f"no answer to SUBSCRIBE for {self._policy.request_timeout:g}s")

    async def request(self, *args: bytes | str | int, key: bytes | str | None = None) -> object:
        """Ask Redis, on the connection that lives now, and return the answer, `request_timeout` later at most.

        `key` is without meaning here. Raises RedisConnectionError (not online, or lost meanwhile), RedisTimeoutError,
        or the ResponseError with which Redis refuses.
        """
        del key
        if self._session is None or not self.online:
            raise RedisConnectionError("no connection to Redis")
        return await self._session.request(*args)

    async def read(self, *args: bytes | str | int, sending: Callable[[], None] | None = None) -> object:
        """Ask the server that is connected now for something that may be large, and return the answer (see `reads`).

        `sending` is called when the question goes out: every write that was notified before is in the answer. Raises
        ReplyTooLargeError (more than `read_limit` bytes), RedisConnectionError (not online, or lost meanwhile),
        RedisTimeoutError (not a byte for `request_timeout`), or the ResponseError with which Redis refuses.
        """
        if self._session is None or not self.online:
            raise RedisConnectionError("no connection to Redis")
        return await self._session.reads.read(*args, sending=sending)

    def _note_timeout(self, command: str, seconds: float | None = None) -> None:
        self.timeouts += 1
        self._log.warning("redis request timed out", command=command, seconds=seconds or self._policy.request_timeout)

    # -- the life of the link -----------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the link alive until cancelled; `started()` when it is online for the first time.

        Before that, raises `RedisUnavailable` after `max_retries` failed attempts and `RedisRefused` when the
        credentials are wrong. Afterwards both are an outage like any other.
        """
        try:
            while True:
                number = self._attempts.number
                self._enter("connecting", number)
                log = self._log.info if number == 1 else self._log.debug
                log("redis connecting", attempt=number, address=address(self._url))
                try:
                    await self._connect(task_status)
                except RedisError as error:
                    delay = self._ended(error)
                self._enter("waiting", self._attempts.number)
                await trio.sleep(delay)
        finally:
            self._enter("stopped", 0)
            self._online = trio.Event()

    async def _connect(self, task_status: trio.TaskStatus[None]) -> NoReturn:
        """One connection from its opening to its end. Raises the RedisError that says why it ended."""
        opened = await self._opener.open(self._client_name)
        try:
            self._role.note(opened.role)
            raise await self._serve(self._make_session(opened), task_status)
        finally:
            await trio.aclose_forcefully(opened.stream)

    def _make_session(self, opened: Opened) -> Session:
        async def open_another() -> trio.abc.Stream:
            return (await self._opener.open(f"{self._client_name}-reads", opened.address)).stream

        return Session(
            opened,
            policy=self._policy,
            open_another=open_another,
            on_messages=self._handler.on_messages,
            on_active=self._acknowledged,
            on_refused=self._refused,
            on_round_trip=self.round_trips.observe,
            on_timeout=self._note_timeout,
            rng=self._rng,
            log=self._log,
        )

    async def _serve(self, session: Session, task_status: trio.TaskStatus[None]) -> RedisError:
        """Subscribe to everything over a connection that has shaken hands, and live with it; return what ended it."""
        connection = session.connection
        self._session = session
        try:
            for subscription in self._subscriptions.values():
                connection.subscribe(subscription)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._come_online, session, task_status)
                nursery.start_soon(self._role.run, connection)
                ended = await connection.run()
                nursery.cancel_scope.cancel()
        finally:
            # All subscriptions wait for the next connection.
            self._session = None
            if self._online.is_set():
                self._last_byte = connection.last_byte
            for subscription in self._subscriptions.values():
                subscription.rearm(connection.last_byte)
            await session.reads.lost()
        if isinstance(ended, StalledError) and not (self._online.is_set() and ended.waited_for):
            self._note_timeout(ended.command)
        return ended

    async def _come_online(self, session: Session, task_status: trio.TaskStatus[None]) -> None:
        """Wait until everything that was subscribed has been answered, then say so."""
        if self._subscriptions and not await session.wait_subscribed():
            return
        first = self._last_byte is None
        gap = None if self._last_byte is None else trio.current_time() - self._last_byte
        self.reconnects += 1
        self._log.info(
            "redis online",
            attempt=self._attempt,
            subscriptions=len(self._subscriptions),
            outage=None if gap is None else round(gap, 3),
        )
        self._enter("online", self._attempt)
        self._last_byte = session.connection.last_byte
        self._attempts.succeeded()
        self._online.set()
        with self._barrier("on_online"):
            self._handler.on_online(gap)
        if first:
            task_status.started()

    def _ended(self, error: RedisError) -> float:
        """A connection or an attempt has ended: say so, and return the seconds until the next attempt."""
        if not self._online.is_set():
            return self._attempts.failed(error, at_start=self._last_byte is None)
        online = trio.current_time() - self._since
        self._log.warning("redis stream interrupted", error=quote(str(error)), online=round(online, 3))
        self._online = trio.Event()
        with self._barrier("on_lost"):
            self._handler.on_lost()
        return self._attempts.lost(online)

    def _exhausted(self) -> None:
        with self._barrier("on_exhausted"):
            self._handler.on_exhausted()

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
