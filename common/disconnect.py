"""Why a conversation ended, as a value.

One `Disconnect` is shared by the close frame, the log line and the metric's label, so that the three never disagree; it
also says whose fault the end is and where a hangup belongs, so that a new reason is one entry here. The table is SPEC
1's. Pure, and imports nothing.
"""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen
class Disconnect:
    """An end: `reason` is the metric label and log field, and is in the close frame with `close_code`, if that is sent.

    A hangup frame may go before it if `hangup` (SPEC 1, `HANGUP`).

    `error` tells whether the end is one that operators look for, and not the ordinary end of a visit; `breach` that the
    client broke a rule: it may not heed the close frame either, so our side of the connection is ended with it; `fault`
    that it is the service's own: it is in every rate of errors; `lasting` that coming back is in vain until an operator
    has mended something: a hangup is sent by default even to clients that take it as the end for good.
    """

    reason: str
    close_code: int | None
    hangup: bool
    error: bool = True
    breach: bool = False
    fault: bool = False
    lasting: bool = False


DRAIN: Final = Disconnect("drain", 1001, hangup=True, error=False)
PONG_TIMEOUT: Final = Disconnect("pong_timeout", 1008, hangup=True)
SLOW_CONSUMER: Final = Disconnect("slow_consumer", None, hangup=False)
WRITE_ERROR: Final = Disconnect("write_error", None, hangup=False)
REDIS_UNAVAILABLE: Final = Disconnect("redis_unavailable", 1013, hangup=True, fault=True)
REFUSED_BY_REDIS: Final = Disconnect("refused_by_redis", 1011, hangup=True, fault=True, lasting=True)
RUN_TOO_BIG: Final = Disconnect("run_too_big", 1009, hangup=True)
TOO_FAST: Final = Disconnect("too_fast", 1008, hangup=True, breach=True)
MESSAGE_TOO_BIG: Final = Disconnect("message_too_big", 1009, hangup=False, breach=True)
PROTOCOL_ERROR: Final = Disconnect("protocol_error", 1002, hangup=False, breach=True)
INVALID_TEXT: Final = Disconnect("protocol_error", 1007, hangup=False, breach=True)
INTERNAL_ERROR: Final = Disconnect("internal_error", 1011, hangup=True, fault=True)
CLIENT_CLOSED: Final = Disconnect("client_closed", None, hangup=False, error=False)
CLIENT_GONE: Final = Disconnect("client_gone", None, hangup=False, error=False)

ALL: Final = tuple(value for value in tuple(globals().values()) if isinstance(value, Disconnect))
"""Every end there is, in the order of the table."""

REASONS: Final = tuple(dict.fromkeys(end.reason for end in ALL))
"""Of every end: two may share one."""

FAULTS: Final = frozenset(end.reason for end in ALL if end.fault)
"""Of the ends that are the service's own fault."""

HANGUPS: Final = tuple(end.reason for end in ALL if end.hangup)
"""Of the ends at which a hangup may be sent."""

LASTING_HANGUPS: Final = tuple(end.reason for end in ALL if end.hangup and end.lasting)
"""Of those at which every daemon sends it unless it is told otherwise."""
