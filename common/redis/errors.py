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
    └── NoPermissionError    NOPERM
RedisUnavailable             at start: the attempts are used up
RedisRefused                 at start: the credentials are wrong
"""

from __future__ import annotations

from typing import Final

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

__all__ = [
    "AuthenticationError",
    "BusyLoadingError",
    "NoPermissionError",
    "OutageError",
    "ProtocolError",
    "RedisConnectionError",
    "RedisError",
    "RedisRefused",
    "RedisTimeoutError",
    "RedisUnavailable",
    "ReplyTooLargeError",
    "ResponseError",
    "StalledError",
    "from_reply",
]


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


class RedisUnavailable(Exception):  # noqa: N818 (a state of the world that ends the start, not a fault of ours)
    """Redis could not be reached at start, after all the attempts that were allowed."""


class RedisRefused(Exception):  # noqa: N818 (as above)
    """Redis refused our credentials at start: waiting will not mend it."""


_BY_CODE: Final[dict[str, type[RedisError]]] = {
    "NOAUTH": AuthenticationError,
    "WRONGPASS": AuthenticationError,
    "NOPERM": NoPermissionError,
    "LOADING": BusyLoadingError,
}


def from_reply(text: str) -> RedisError:
    """The exception for an error reply, chosen by its first word; its text is kept as it is."""
    return _BY_CODE.get(text.partition(" ")[0], ResponseError)(text)
