"""The link to Redis: one connection at a time, kept alive for as long as `run` runs.

A process has one link per database, whatever the number of its clients. `run` connects, shakes hands, subscribes to
everything that somebody wants, and says that it is online; when the connection ends it starts again, with jittered
delays (`attempts`). An attempt has succeeded, and the count of failures starts anew, only when every subscription has
been answered.

Subscriptions outlive connections: `subscribe` works at any time, and takes effect when Redis can be reached. Requests
and reads don't: there is an answer of the server that is connected now, or an exception (`session`).

An attempt goes where the link's endpoint says: to the URL's server, its name resolved anew, also after one that found
itself on a replica (`role`); or to the primary that sentinels name, asked anew. Where another server is to be followed
while the connection lives, there is no outage: see `succession`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NoReturn

import trio

from common.histogram import Histogram
from common.quote import quote
from common.redis.attempts import Attempts
from common.redis.endpoint import OneServer
from common.redis.errors import (
    OutageError,
    RedisConnectionError,
    RedisError,
    RedisRefused,
    RedisTimeoutError,
    RedisUnavailable,
    StalledError,
)
from common.redis.handler import Guarded, LinkHandler
from common.redis.policy import LinkPolicy, Replica
from common.redis.role import RoleWatch
from common.redis.session import bounded
from common.redis.sessions import SessionMaker
from common.redis.state import LinkState, NodeState
from common.redis.subscription import Subscription
from common.redis.succession import Succession
from common.redis.transport import address

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from common.logs import Logger
    from common.redis.endpoint import RedisEndpoint
    from common.redis.opening import Connect
    from common.redis.session import Session
    from common.redis.url import RedisURL
    from common.secret import Secret

__all__ = ["Link", "LinkHandler", "LinkPolicy", "RedisRefused", "RedisUnavailable", "Replica"]


class Link:
    """See the module. The counters only grow: `reconnects` counts every time the link came online, the first included;
    `timeouts` every request, subscription or probe that had no answer in time; `round_trips` holds the
    seconds that each answered probe took, also those of a busy connection, which is asked for its role.

    `password` is used when `url` has none, and is read again at every attempt. `connect` replaces the opening of every
    socket. `endpoint` says where attempts lead, where that is not the URL's server.
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
        endpoint: RedisEndpoint | None = None,
    ) -> None:
        self.reconnects = 0
        self.timeouts = 0
        self.redirections = 0
        self.round_trips = Histogram()
        self._url = url
        self._policy = policy
        self._handler = handler = Guarded(handler, log)
        self._log = log
        self._sessions = SessionMaker(
            url=url,
            password=password,
            client_name=client_name,
            policy=policy,
            connect=connect,
            on_messages=handler.on_messages,
            on_active=self._acknowledged,
            on_refused=lambda subscription, error: handler.on_refused(subscription.channel, error),
            on_round_trip=self.round_trips.observe,
            on_timeout=self._note_timeout,
            rng=rng,
            log=log,
        )
        self._endpoint = endpoint or OneServer(url)
        self._role = RoleWatch(policy=policy, where=address(url), appoints=self._endpoint.appoints, log=log)
        self._succession = Succession(
            endpoint=self._endpoint,
            role=self._role,
            policy=policy,
            open_server=self._sessions.open,
            begin=self._sessions.begin,
            take_over=self._take_over,
            on_messages=handler.on_messages,
            rng=rng,
            log=log,
        )
        self._attempts = Attempts(
            policy=policy,
            patience=lambda: self._endpoint.patience,
            on_exhausted=handler.on_exhausted,
            log=log,
            rng=rng,
        )
        self._tried: RedisURL | None = None
        """Where the attempt led that failed last; None where there was nowhere to go."""
        self._followed: str | None = None
        """The address of the server that was followed last."""
        self._moves = 0
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

    @property
    def role_changes(self) -> int:
        """How often the server that is followed was found in another role, or another was named in its place."""
        return self._role.changes + self._moves

    async def wait_online(self) -> None:
        """Wait until it is online. Without a deadline of its own."""
        await self._online.wait()

    def describe(self) -> LinkState:
        """What it is doing now."""
        count = len(self._subscriptions)
        nodes = []
        if self._session is not None:
            state = "online" if self.online else "connecting"
            nodes.append(NodeState(address(self._session.server), self._role.role, "", state, count))
        nodes += [NodeState(address(duck.server), None, "", "leaving", count) for duck in self._succession.ducks]
        return LinkState(
            self._state,
            self._attempt,
            self._since,
            self._url.masked(),
            count,
            tuple(nodes),
            self._endpoint.remarks(),
            self._endpoint.details(),
        )

    # -- subscriptions and requests -----------------------------------------------------------------------------------

    def subscribe(self, channel: bytes) -> Subscription:
        """Listen to `channel` from now until `unsubscribe`, over reconnects. A second call returns the same."""
        subscription = self._subscriptions.get(channel)
        if subscription is None:
            subscription = self._subscriptions[channel] = Subscription(channel)
            for session in (self._session, self._succession.successor):
                if session is not None:
                    session.connection.subscribe(subscription)
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
        for session in (self._succession.successor, *self._succession.ducks):
            if session is not None:
                session.connection.unsubscribe(subscription)
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
        self._note_timeout("SUBSCRIBE", self._policy.request_timeout)
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

    async def request_everywhere(self, *args: bytes | str | int) -> dict[str, object]:
        """What `request` returns, by the server's address."""
        return {address(self._url): await self.request(*args)}

    async def read(self, *args: bytes | str | int, sending: Callable[[], None] | None = None) -> object:
        """Ask the server that is connected now for something that may be large, and return the answer (see `reads`).

        `sending` is called when the question goes out: every write that was notified before is in the answer. Raises
        ReplyTooLargeError (more than `read_limit` bytes), RedisConnectionError (not online, or lost meanwhile),
        RedisTimeoutError (not a byte for `request_timeout`), or the ResponseError with which Redis refuses.
        """
        if self._session is None or not self.online:
            raise RedisConnectionError("no connection to Redis")
        return await self._session.reads.read(*args, sending=sending)

    def _note_timeout(self, command: str, seconds: float) -> None:
        self.timeouts += 1
        self._log.warning("redis request timed out", command=command, seconds=seconds)

    # -- the life of the link -----------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the link alive until cancelled; `started()` when it is online for the first time.

        Before that, raises `RedisUnavailable` after `max_retries` failed attempts and `RedisRefused` when the
        credentials are wrong. Afterwards both are an outage like any other.
        """
        ended: RedisRefused | RedisUnavailable | None = None
        try:
            async with trio.open_nursery() as nursery:
                self._sessions.nursery = nursery
                nursery.start_soon(self._endpoint.run)
                try:
                    await self._keep(task_status)
                except (RedisRefused, RedisUnavailable) as error:
                    # Through the nursery it would be one of a group.
                    ended = error
                nursery.cancel_scope.cancel()
        finally:
            self._sessions.nursery = None
            self._enter("stopped", 0)
            self._online = trio.Event()
        if ended is not None:
            try:
                raise ended
            finally:
                # Its traceback holds this frame, which must not hold it in turn.
                del ended

    async def _keep(self, task_status: trio.TaskStatus[None]) -> NoReturn:
        """One attempt after the other."""
        while True:
            number = self._attempts.number
            self._enter("connecting", number)
            log = self._log.info if number == 1 else self._log.debug
            log("redis connecting", attempt=number, address=self._endpoint.name)
            try:
                await self._connect(task_status)
            except RedisError as error:
                delay = self._ended(error)
            self._enter("waiting", self._attempts.number)
            with trio.move_on_after(delay):
                # Sooner, where it leads elsewhere by now.
                await self._endpoint.wait_elsewhere(self._tried)

    async def _connect(self, task_status: trio.TaskStatus[None]) -> NoReturn:
        """From a new connection to the end of it, or of those that followed it. Raises the RedisError of why."""
        self._tried = None
        server = self._tried = await self._endpoint.locate()
        with self._endpoint.unless_moved(server):
            opened = await self._sessions.open(server)
        try:
            self._role.where = address(server)
            self._role.greet(opened.role)
            await self._endpoint.confirm(server)
        except BaseException:
            await trio.aclose_forcefully(opened.stream)
            raise
        session = self._sessions.begin(server, opened)
        for subscription in self._subscriptions.values():
            session.connection.subscribe(subscription)
        raise await self._serve(session, task_status)

    async def _serve(self, session: Session, task_status: trio.TaskStatus[None]) -> RedisError:
        """Live with a connection, and with those that follow it without a gap; return what ended the last."""
        self._session = session
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._come_online, session, task_status)
                await self._live(session)
                nursery.cancel_scope.cancel()
            while self._session is not session:
                session = self._session
                await self._live(session)
        finally:
            # All subscriptions wait for the next connection.
            connection = self._session.connection
            self._session = None
            if self._online.is_set():
                self._last_byte = connection.last_byte
            for subscription in self._subscriptions.values():
                subscription.rearm(connection.last_byte)
            await session.reads.lost()
        ended = connection.error or RedisConnectionError("link closed")
        if isinstance(ended, StalledError) and not (self._online.is_set() and ended.waited_for):
            self._note_timeout(ended.command, self._policy.request_timeout)
        return ended

    async def _live(self, session: Session) -> None:
        """Until the connection has ended, or another has taken over."""
        async with trio.open_nursery() as nursery:

            async def follow() -> None:
                await self._online.wait()
                await self._succession.find(session, self._subscriptions.values())
                nursery.cancel_scope.cancel()

            nursery.start_soon(follow)
            nursery.start_soon(self._role.run, session.connection)
            await session.over.wait()
            nursery.cancel_scope.cancel()

    def _take_over(self, successor: Session, role: str | None) -> None:
        """Another server is followed from now on; everything was subscribed to there before."""
        former, self._session = self._session, successor
        self._log.info(
            "redis followed elsewhere",
            before=self._followed,
            now=address(successor.server),
            subscriptions=len(self._subscriptions),
        )
        self._role.where = address(successor.server)
        self._role.note(role)
        self._note_followed(successor)
        if former is not None:
            self._sessions.spawn(partial(self._leave, former))
        self._enter("online", self._attempt)
        self._handler.on_online(0.0)

    async def _leave(self, session: Session) -> None:
        """What a former server is still there for."""
        await session.reads.lost()
        if session in self._succession.ducks:
            await self._succession.read_out(session)

    def _note_followed(self, session: Session) -> None:
        where = address(session.server)
        self._moves += self._followed not in (None, where)
        self._followed = where

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
        self._note_followed(session)
        self._attempts.succeeded()
        self._online.set()
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
        self._handler.on_lost()
        return self._attempts.lost(online)

    def _acknowledged(self, subscription: Subscription) -> None:
        since = subscription.heard_until
        self._handler.on_active(subscription.channel, None if since is None else trio.current_time() - since)

    def _enter(self, state: str, attempt: int) -> None:
        self._state = state
        self._attempt = attempt
        self._since = trio.current_time()
