"""Who makes a link's sessions: opens the connection to a server, and lets the session of it live in the link's nursery.

A `SessionMaker` belongs to a link. What its sessions have to say goes to the link.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.redis.opening import Opener
from common.redis.session import Session

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    import trio

    from common.logs import Logger
    from common.redis.connection import Batch
    from common.redis.errors import RedisError
    from common.redis.opening import Connect, Opened
    from common.redis.policy import LinkPolicy
    from common.redis.subscription import Subscription
    from common.redis.url import RedisURL
    from common.secret import Secret


class SessionMaker:
    """See the module. `password` is used where a URL has none; `on_timeout` is told what had no answer in how many
    seconds, None being the policy's `request_timeout`. The other callbacks are those of `Connection`.
    """

    def __init__(
        self,
        *,
        url: RedisURL,
        password: Secret | None,
        client_name: str,
        policy: LinkPolicy,
        connect: Connect | None,
        on_messages: Callable[[Batch, float], Awaitable[None]],
        on_active: Callable[[Subscription], None],
        on_refused: Callable[[Subscription, RedisError], None],
        on_round_trip: Callable[[float], None],
        on_timeout: Callable[[str, float], None],
        rng: random.Random,
        log: Logger,
    ) -> None:
        self.nursery: trio.Nursery | None = None
        """The link's, while it runs."""
        self._client_name = client_name
        self._policy = policy
        self._opener = Opener(
            url=url,
            password=password,
            connect=connect,
            within=policy.connect_timeout,
            reply_limit=policy.reply_limit,
            on_timeout=lambda command: on_timeout(command, policy.connect_timeout),
        )
        self._on_messages = on_messages
        self._on_active = on_active
        self._on_refused = on_refused
        self._on_round_trip = on_round_trip
        self._on_timeout = on_timeout
        self._rng = rng
        self._log = log

    async def open(self, server: RedisURL) -> Opened:
        """Connect to a server. Raises as `Opener.open` does."""
        return await self._opener.open(self._client_name, server=server)

    def begin(self, server: RedisURL, opened: Opened) -> Session:
        """The session of a connection that has shaken hands; it lives until that ends."""

        async def open_another() -> trio.abc.Stream:
            return (await self._opener.open(f"{self._client_name}-reads", opened.address, server=server)).stream

        session = Session(
            opened,
            server=server,
            policy=self._policy,
            open_another=open_another,
            on_messages=self._on_messages,
            on_active=self._on_active,
            on_refused=self._on_refused,
            on_round_trip=self._on_round_trip,
            on_timeout=lambda command: self._on_timeout(command, self._policy.request_timeout),
            rng=self._rng,
            log=self._log,
        )
        self.spawn(session.run)
        return session

    def spawn(self, task: Callable[[], Awaitable[None]]) -> None:
        """Let a task live as long as the link runs, at most."""
        if self.nursery is None:
            raise RuntimeError("the link does not run")
        self.nursery.start_soon(task)
