"""What a daemon asks of Redis, be it one server, a group that sentinels watch, or a cluster; and who makes it.

Hub, topics and opsd's history know `RedisLink` and none of its makers. A link is made once for each process and lives
as long: `run` has its tasks, and everything else may be called before, while and after it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from common.redis.cluster import ClusterLink
from common.redis.link import Link
from common.redis.sentinels import Sentinels

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from common.histogram import Histogram
    from common.logs import Logger
    from common.redis.handler import LinkHandler
    from common.redis.opening import Connect
    from common.redis.policy import Channels, LinkPolicy
    from common.redis.state import LinkState
    from common.redis.subscription import Subscription
    from common.redis.url import RedisURL
    from common.secret import Secret


class RedisLink(Protocol):
    """Redis as a daemon sees it. The counters only grow."""

    @property
    def reconnects(self) -> int:
        """How often it came online, the first time included."""

    @property
    def timeouts(self) -> int:
        """Requests, subscriptions and probes that had no answer in time."""

    @property
    def round_trips(self) -> Histogram:
        """The seconds that each answered probe took."""

    @property
    def role_changes(self) -> int:
        """How often a server that was followed was found in another role, or another one was named in its place."""

    @property
    def redirections(self) -> int:
        """MOVED and ASK of a cluster's nodes."""

    @property
    def online(self) -> bool:
        """Whether Redis answers and every subscription that was made before has been answered."""

    @property
    def obstacle(self) -> str | None:
        """Why there is nothing to wait for, from an outage's first failed attempt until an attempt has succeeded."""

    @property
    def db(self) -> int:
        """The database that requests are about."""

    async def wait_online(self) -> None:
        """Wait until it is online. Without a deadline of its own."""

    def describe(self) -> LinkState:
        """What it is doing now."""

    def subscribe(self, channel: bytes) -> Subscription:
        """Listen to `channel` from now until `unsubscribe`, over reconnects. A second call returns the same."""

    def unsubscribe(self, channel: bytes) -> None:
        """Stop listening, at once; Redis is told, and its answer not waited for. Without effect if not subscribed."""

    async def unsubscribe_all(self) -> None:
        """Give back every subscription, and wait for Redis to say so, `request_timeout` at most. No RedisError."""

    async def wait_active(self, subscription: Subscription) -> None:
        """Wait until `subscription` is active, `request_timeout` at most; raises the RedisError of why it is not."""

    async def request(self, *args: bytes | str | int, key: bytes | str | None = None) -> object:
        """Ask for something small and return the answer; `key` decides which node of a cluster, None is any.

        Raises RedisConnectionError (not online, or lost meanwhile), RedisTimeoutError, or the ResponseError with which
        Redis refuses.
        """

    async def request_everywhere(self, *args: bytes | str | int) -> dict[str, object]:
        """Ask every primary, of which only a cluster has several; return the answers by the nodes' addresses.

        Raises as `request` does, for the first that has no answer.
        """

    async def read(self, *args: bytes | str | int, sending: Callable[[], None] | None = None) -> object:
        """Ask for something that may be large, of the key that is the first argument, and return the answer.

        `sending` is called when the question goes out: every write that was notified before is in the answer. Raises
        as `request` does, and ReplyTooLargeError for more than the policy's `read_limit`.
        """

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep it alive until cancelled; `started()` when it is online for the first time.

        Before that, raises `RedisUnavailable` after `max_retries` failed attempts and `RedisRefused` when the
        credentials are wrong. Afterwards both are an outage like any other.
        """


def make_link(
    *,
    url: RedisURL,
    password: Secret | None = None,
    sentinel_password: Secret | None = None,
    client_name: str,
    policy: LinkPolicy,
    handler: LinkHandler,
    log: Logger,
    rng: random.Random,
    channels: Channels,
    connect: Connect | None = None,
) -> RedisLink:
    """The link that `url` asks for, not yet running.

    `channels` is what is subscribed to. The passwords are used where `url` has none, and are read again at every
    attempt. `connect` replaces the opening of every socket. Raises ValueError for what is not supported.
    """
    if url.topology == "cluster":
        return ClusterLink(
            url=url,
            password=password,
            client_name=client_name,
            policy=policy,
            handler=handler,
            log=log,
            rng=rng,
            channels=channels,
            connect=connect,
        )
    endpoint = None
    if url.topology == "sentinel":
        endpoint = Sentinels(
            url=url,
            password=sentinel_password,
            client_name=client_name,
            policy=policy,
            connect=connect,
            rng=rng,
            log=log,
        )
    return Link(
        url=url,
        password=password,
        client_name=client_name,
        policy=policy,
        handler=handler,
        log=log,
        rng=rng,
        connect=connect,
        endpoint=endpoint,
    )
