"""From one server to the next without a gap: a successor is made ready beside the connection that lives, and the old
connection is still read when the successor has taken over, until it closes.

Why both are read: during a planned failover there are two primaries for some seconds. Who publishes over a connection
of his own goes on at the old one until that closes it; who asks where to publish is at the new one at once. Neither is
lost, and none comes twice, for under sentinels the old one closes its connections when it becomes the new one's
replica. One that is a replica already, and repeats what the new one says, is listened to with `repeats`.

A `Succession` belongs to a link, and does nothing while the server that is followed is the right one.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from common.backoff import Backoff
from common.quote import quote
from common.redis.errors import RedisConnectionError, RedisError
from common.redis.handshake import REPLICA, ROLE_QUESTION, role_of
from common.redis.repeats import Repeats
from common.redis.transport import address

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Iterable

    from common.logs import Logger
    from common.redis.connection import Batch
    from common.redis.endpoint import RedisEndpoint
    from common.redis.opening import Opened
    from common.redis.policy import LinkPolicy
    from common.redis.role import RoleWatch
    from common.redis.session import Session
    from common.redis.subscription import Subscription
    from common.redis.url import RedisURL

_RETRY: Final = Backoff(0.5, 5.0)
"""Delays after a successor that was no use; the old connection is kept meanwhile."""


class Succession:
    """See the module. `open_server` connects to a server; `begin` makes a session of that and runs it; `take_over`
    makes it the link's. `on_messages` is the handler's.
    """

    def __init__(
        self,
        *,
        endpoint: RedisEndpoint,
        role: RoleWatch,
        policy: LinkPolicy,
        open_server: Callable[[RedisURL], Awaitable[Opened]],
        begin: Callable[[RedisURL, Opened], Session],
        take_over: Callable[[Session, str | None], None],
        on_messages: Callable[[Batch, float], Awaitable[None]],
        rng: random.Random,
        log: Logger,
    ) -> None:
        self.ducks: list[Session] = []
        """The sessions of former servers that are still read."""
        self.successor: Session | None = None
        """What is being made ready: it is subscribed to whatever the link subscribes to."""
        self._endpoint = endpoint
        self._role = role
        self._policy = policy
        self._open_server = open_server
        self._begin = begin
        self._take_over = take_over
        self._on_messages = on_messages
        self._rng = rng
        self._log = log
        self._turn = trio.Lock()
        self._current: Session | None = None
        self._repeats: Repeats | None = None
        """Given while one of the sessions is of a server that repeats what another says."""

    async def find(self, session: Session, subscriptions: Iterable[Subscription]) -> None:
        """Wait until another server than `session`'s is to be followed, and return when it has taken over.

        It is cancelled when `session` ends: then there is an outage, and whoever is named is connected to as usual.
        """
        self._current = session
        failures = 0
        told = None
        try:
            while True:
                await self._wait_reason(session)
                server = None
                try:
                    server = await self._endpoint.locate()
                    await self._change(session, server, subscriptions)
                except RedisError as error:
                    failures += 1
                    if str(error) != told:
                        told = str(error)
                        self._log.warning("redis successor unusable, the connection is kept", error=quote(told))
                else:
                    return
                with trio.move_on_after(_RETRY.after_failure(failures, self._rng)):
                    await self._endpoint.wait_elsewhere(server)
        finally:
            if self._current is session:
                self._current = None

    async def read_out(self, session: Session) -> None:
        """Read what the former server still says, until it closes, `LinkPolicy.duck` seconds at most."""
        began = trio.current_time()
        try:
            with trio.move_on_after(self._policy.duck):
                await (session.over.wait() if self._repeats is not None else self._wait_repeating(session))
        finally:
            self.ducks.remove(session)
            session.connection.fail(RedisConnectionError("another server is followed"))
            self._settle()
        self._log.info(
            "redis former server let go",
            address=address(session.server),
            seconds=round(trio.current_time() - began, 3),
            reason=quote(str(session.connection.error)),
        )

    async def _wait_repeating(self, session: Session) -> None:
        """Wait until the former server has closed, or says that it is a replica now: it begins to repeat."""
        while not session.over.is_set():
            with trio.move_on_after(self._policy.role_interval):
                await session.over.wait()
            reply = session.connection.probe(*ROLE_QUESTION)
            await reply.wait()
            if role_of(reply.value) == REPLICA:
                return

    async def _hand_on(self, side: int, batch: Batch, read_at: float) -> None:
        """Messages of one of several sessions: one batch at a time, for a topic has one order for all its clients."""
        if side:
            # What has come from the former server was published before: it is read first.
            await trio.lowlevel.checkpoint()
        async with self._turn:
            if self._repeats is not None:
                batch = self._repeats.untold(side, batch)
            if batch:
                await self._on_messages(batch, read_at)

    def _settle(self) -> None:
        """Where one session is left its messages take the short way again."""
        if not self.ducks and self.successor is None:
            self._repeats = None
            if self._current is not None:
                self._current.connection.on_messages = self._on_messages

    async def _wait_reason(self, session: Session) -> None:
        """Wait until another server is named, or the one that is followed is no primary any more."""
        async with trio.open_nursery() as nursery:

            async def first(wait: Callable[[], Awaitable[None]]) -> None:
                await wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(first, self._role.demoted.wait)
            nursery.start_soon(first, lambda: self._endpoint.wait_elsewhere(session.server))

    async def _change(self, session: Session, server: RedisURL, subscriptions: Iterable[Subscription]) -> None:
        """One attempt to follow `server`. Raises the RedisError of why nothing has changed."""
        with self._endpoint.unless_moved(server):
            opened = await self._open_server(server)
        try:
            _demand_primary(opened.role, server)
            await self._endpoint.confirm(server)
            demoted = self._role.demoted.is_set() and await self._still_demoted(session)
        except BaseException:
            await trio.aclose_forcefully(opened.stream)
            raise
        for duck in self.ducks:
            # Its server is followed again, and would say everything twice; or repetitions are to be told from news,
            # which only works between two.
            if demoted or duck.server == server:
                duck.connection.fail(RedisConnectionError("the server after it is left too"))
        self._repeats = Repeats() if demoted else None
        successor = self.successor = self._begin(server, opened)
        refused: dict[Subscription, RedisError] = {}
        to_link = successor.connection.on_active, successor.connection.on_refused
        # Until it takes over it is nobody's business what it has to say about a channel.
        successor.connection.on_active, successor.connection.on_refused = _ignore, refused.__setitem__
        session.connection.on_messages = partial(self._hand_on, 0)
        successor.connection.on_messages = partial(self._hand_on, 1)
        try:
            for subscription in subscriptions:
                successor.connection.subscribe(subscription)
            await _wait_subscribed(successor)
        except BaseException:
            self.successor = None
            successor.connection.fail(RedisConnectionError("no successor"))
            self._settle()
            raise
        self.successor, self._current = None, successor
        successor.connection.on_active, successor.connection.on_refused = to_link
        session.connection.on_active, session.connection.on_refused = _ignore, _ignore
        if self._policy.duck:
            self.ducks.append(session)
        else:
            session.connection.fail(RedisConnectionError("another server is followed"))
            self._settle()
        self._take_over(successor, opened.role)
        for subscription, error in refused.items():
            if not subscription.closed:
                subscription.lose(error)
                successor.connection.on_refused(subscription, error)

    async def _still_demoted(self, session: Session) -> bool:
        """Ask the server that is followed once more, lest it is left for itself. Raises RedisConnectionError."""
        reply = session.connection.probe(*ROLE_QUESTION)
        await reply.wait()
        self._role.note(role_of(reply.value))
        if not self._role.demoted.is_set():
            raise RedisConnectionError(f"a primary again: {address(session.server)}")
        return True


def _ignore(*_: object) -> None:
    """What another connection says of a channel is decisive."""


def _demand_primary(role: str | None, server: RedisURL) -> None:
    if role == REPLICA:
        raise RedisConnectionError(f"a replica, and a primary is needed: {address(server)}")


async def _wait_subscribed(successor: Session) -> None:
    if not await successor.wait_subscribed():
        raise RedisConnectionError(f"it ended at once: {successor.connection.error}")
