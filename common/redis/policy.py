"""What a link may do and for how long: values, without I/O."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

import attrs

from common.redis.resp import REPLY_LIMIT


class Channels(Enum):
    """What a link subscribes to: in a cluster it decides where."""

    MESSAGES = "messages"
    """Channels that somebody publishes to: any node of a cluster tells, or the one that owns a shard channel's slot."""
    KEYSPACE = "keyspace"
    """Notifications about keys, `__keyspace@0__:<key>`: told only by the nodes that have the key."""
    NONE = "none"
    """It only asks."""


class Replica(Enum):
    """What a link does on a server that is a replica. In each case it is logged once."""

    STAY = "stay"
    """Nothing: messages come there too."""
    FOLLOW = "follow"
    """Stay, and look for a primary where the name leads now; once there is one, go there without a gap."""
    LEAVE = "leave"
    """Leave a primary that has become one. Where the next attempt leads to a replica too, it is good enough to read."""
    REFUSE = "refuse"
    """Leave it, and take every attempt that leads to one as failed: something is to be written."""


@attrs.frozen(kw_only=True)
class LinkPolicy:
    """The times and limits of a link, in seconds and bytes. `max_retries` 0 is no limit."""

    request_timeout: float
    connect_timeout: float = 5.0
    """Opening a connection, from the name to the last answer of the handshake."""
    retry_base: float
    retry_max: float
    max_retries: int
    probe_interval: float = 2.0
    role_interval: float = 5.0
    reply_limit: int = REPLY_LIMIT
    read_limit: int = REPLY_LIMIT
    """The largest answer to a `read`."""
    replica: Replica = Replica.STAY
    why_primary: str = "a primary is needed"
    """Why a replica is not taken, where it is not."""
    duck: float = 0.0
    """Seconds for which a connection is still read at most once another server is followed: who has published over a
    connection of his own may go on doing so until it is closed."""
    wait_for_loading: bool = True
    """Whether a server that is loading its data is waited for, and no failed attempt (SPEC 2)."""


class LinkSettings(Protocol):
    """What a daemon's settings say about its link; in seconds."""

    @property
    def redis_request_timeout(self) -> float:
        """REDIS_REQUEST_TIMEOUT."""

    @property
    def redis_connect_timeout(self) -> float:
        """REDIS_CONNECT_TIMEOUT."""

    @property
    def redis_retry_base(self) -> float:
        """REDIS_RETRY_BASE."""

    @property
    def redis_retry_max(self) -> float:
        """REDIS_RETRY_MAX."""


def policy_of(settings: LinkSettings, *, max_retries: int) -> LinkPolicy:
    """The policy that a daemon's settings ask for; who makes a link says what is special about it."""
    return LinkPolicy(
        request_timeout=settings.redis_request_timeout,
        connect_timeout=settings.redis_connect_timeout,
        retry_base=settings.redis_retry_base,
        retry_max=settings.redis_retry_max,
        max_retries=max_retries,
    )
