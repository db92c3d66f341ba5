"""Why a conversation ended, as a value.

One `Disconnect` is shared by the close frame, the log line and the metric's label, so that the three never disagree.
The table is SPEC 1's.
"""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen
class Disconnect:
    """An end: `reason` is the metric label and log field, and is in the close frame with `close_code`, if that is sent.

    A hangup frame may go before it if `hangup` (SPEC 1, `HANGUP`).

    `error` tells whether the end is one that operators look for, and not the ordinary end of a visit; `breach` that the
    client broke a rule: it may not heed the close frame either, so our side of the connection is ended with it.
    """

    reason: str
    close_code: int | None
    hangup: bool
    error: bool = True
    breach: bool = False


DRAIN: Final = Disconnect("drain", 1001, hangup=True, error=False)
PONG_TIMEOUT: Final = Disconnect("pong_timeout", 1008, hangup=True)
SLOW_CONSUMER: Final = Disconnect("slow_consumer", None, hangup=False)
WRITE_ERROR: Final = Disconnect("write_error", None, hangup=False)
REDIS_UNAVAILABLE: Final = Disconnect("redis_unavailable", 1013, hangup=True)
REFUSED_BY_REDIS: Final = Disconnect("refused_by_redis", 1011, hangup=True)
RUN_TOO_BIG: Final = Disconnect("run_too_big", 1009, hangup=True)
TOO_FAST: Final = Disconnect("too_fast", 1008, hangup=True, breach=True)
MESSAGE_TOO_BIG: Final = Disconnect("message_too_big", 1009, hangup=False, breach=True)
PROTOCOL_ERROR: Final = Disconnect("protocol_error", 1002, hangup=False, breach=True)
INVALID_TEXT: Final = Disconnect("protocol_error", 1007, hangup=False, breach=True)
INTERNAL_ERROR: Final = Disconnect("internal_error", 1011, hangup=True)
CLIENT_CLOSED: Final = Disconnect("client_closed", None, hangup=False, error=False)
CLIENT_GONE: Final = Disconnect("client_gone", None, hangup=False, error=False)

ALL: Final = (
    DRAIN,
    PONG_TIMEOUT,
    SLOW_CONSUMER,
    WRITE_ERROR,
    REDIS_UNAVAILABLE,
    REFUSED_BY_REDIS,
    RUN_TOO_BIG,
    TOO_FAST,
    MESSAGE_TOO_BIG,
    PROTOCOL_ERROR,
    INVALID_TEXT,
    INTERNAL_ERROR,
    CLIENT_CLOSED,
    CLIENT_GONE,
)
"""Every end there is."""
