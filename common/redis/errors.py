"""What can go wrong between us and Redis. redis-py's exceptions where one fits, so that nobody has to learn two sets.

redis.exceptions.RedisError
├── ConnectionError          no connection, or it ended (here: RedisConnectionError, beside Python's own of that name)
│   ├── ProtocolError        the bytes are not what Redis says to such requests: the connection is over
│   ├── AuthenticationError  NOAUTH, WRONGPASS
│   └── BusyLoadingError     LOADING
├── ReplyTooLargeError       one answer was over the limit, and its reading given up; asking again is in vain
├── TimeoutError             one request had no answer in time (here: RedisTimeoutError)
│   ├── OutageError          nobody has answered since the outage's first failed attempt: no need to wait
│   └── StalledError         nothing at all came while answers were due: the connection is over
└── ResponseError            Redis answered this one request with an error (WRONGTYPE, ...)
    ├── NoPermissionError    NOPERM
    ├── ReadOnlyError        READONLY: a replica does not write
    ├── TryAgainError        TRYAGAIN: a cluster's slot is being moved
    ├── ClusterDownError     CLUSTERDOWN: a cluster that can't serve the slot, or a node that is in the minority
    │   └── MasterDownError  MASTERDOWN: a replica without its primary
    └── RedirectionError     another node of the cluster has to be asked
        ├── MovedError       MOVED: for this slot always
        └── AskError         ASK: for this question only
RedisUnavailable             at start: the attempts are used up
RedisRefused                 at start: the credentials are wrong
"""

from __future__ import annotations

import re
from typing import Final

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

__all__ = [
    "AskError",
    "AuthenticationError",
    "BusyLoadingError",
    "ClusterDownError",
    "MasterDownError",
    "MovedError",
    "NoPermissionError",
    "OutageError",
    "ProtocolError",
    "ReadOnlyError",
    "RedirectionError",
    "RedisConnectionError",
    "RedisError",
    "RedisRefused",
    "RedisTimeoutError",
    "RedisUnavailable",
    "ReplyTooLargeError",
    "ResponseError",
    "StalledError",
    "TryAgainError",
    "from_reply",
]

_REDIRECTION: Final = re.compile(r"[A-Z]+ ([0-9]{1,5}) (\S*):([0-9]{1,5})")
_SLOTS: Final = 16384
_PORTS: Final = 65536


class ProtocolError(RedisConnectionError):
    """The other side does not keep to RESP3, or answers out of turn. Nothing more can be made of its bytes."""


class ReplyTooLargeError(RedisError):
    """The answer to one read has more than `limit` bytes; nothing of it was kept, and nobody else's is concerned."""

    def __init__(self, command: str, limit: int) -> None:
        super().__init__(f"the answer to {command} is larger than {limit} bytes")
        self.limit = limit


class OutageError(RedisTimeoutError):
    """There is no connection and an attempt has failed already: waiting is in vain. The message is fit for clients."""


class StalledError(RedisTimeoutError):
    """No byte came, or none could be written, while Redis owed an answer.

    `command` is the oldest one without an answer; `waited_for` says that a caller with a clock of its own asked it.
    """

    def __init__(self, message: str, command: str, *, waited_for: bool = False) -> None:
        super().__init__(message)
        self.command = command
        self.waited_for = waited_for


class RedirectionError(ResponseError):
    """A node of a cluster names another one: `slot` is what for, and `host` and `port` say where.

    `host` is "" where it is the host of the node that answered, and None where the node does not know it (`?`); IPv6
    comes without brackets. Raises ValueError for a text that is no redirection.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        found = _REDIRECTION.fullmatch(text)
        if found is None or int(found[1]) >= _SLOTS or not 0 < int(found[3]) < _PORTS:
            raise ValueError("not a redirection")
        self.slot = int(found[1])
        self.host = node_host(found[2])
        self.port = int(found[3])


class MovedError(RedirectionError):
    """The slot belongs to the other node now."""


class AskError(RedirectionError):
    """The slot is on its way to the other node, and what was asked about is there already: `ASKING`, then the same."""


class RedisUnavailable(Exception):  # noqa: N818 (a state of the world that ends the start, not a fault of ours)
    """Redis could not be reached at start, after all the attempts that were allowed."""


class RedisRefused(Exception):  # noqa: N818 (as above)
    """Redis refused our credentials at start: waiting will not mend it."""


def node_host(text: str) -> str | None:
    """A host as a node of a cluster says it, as `RedirectionError.host` has it."""
    return None if text == "?" else text.removeprefix("[").removesuffix("]")


_BY_CODE: Final[dict[str, type[RedisError]]] = {
    "NOAUTH": AuthenticationError,
    "WRONGPASS": AuthenticationError,
    "NOPERM": NoPermissionError,
    "LOADING": BusyLoadingError,
    "READONLY": ReadOnlyError,
    "TRYAGAIN": TryAgainError,
    "CLUSTERDOWN": ClusterDownError,
    "MASTERDOWN": MasterDownError,
}

_REDIRECTIONS: Final[dict[str, type[RedirectionError]]] = {"MOVED": MovedError, "ASK": AskError}


def from_reply(text: str) -> RedisError:
    """The exception for an error reply, chosen by its first word; its text is kept as it is."""
    code = text.partition(" ")[0]
    redirection = _REDIRECTIONS.get(code)
    if redirection is not None:
        try:
            return redirection(text)
        except ValueError:
            # Whoever asked is refused, as by any other error.
            return ResponseError(text)
    return _BY_CODE.get(code, ResponseError)(text)
