"""Every value that a label of the daemons' series can have (SPEC 4).

A series that first appears with its first event starts at 1, and `increase()` of that first event is 0. So each of
these values is served from the start, at 0. A value that is counted and missing here is served too, once it is counted;
a test holds the tables against the code that counts.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from common import disconnect

DISCONNECTS: Final = disconnect.REASONS
"""Of `disconnects_total`."""

REJECTIONS: Final = (
    "bad_path",
    "bad_upgrade",
    "bad_version",
    "draining",
    "head_too_large",
    "internal_error",
    "malformed",
    "method",
    "no_upgrade",
    "not_found",
    "origin",
    "redis_unavailable",
    "timeout",
    "too_many_connections",
    "too_many_connections_per_address",
)
"""Of `handshakes_rejected_total`."""

CLIENT_MESSAGES: Final = ("init", "pong", "other", "malformed", "binary", "control")
"""Of `client_messages_total`."""

DROPPED: Final = ("too_big",)
"""Of `messages_dropped_total`."""

ReadFailure = Literal["too_big", "refused", "unavailable", "error"]
READ_FAILURES: Final[tuple[ReadFailure, ...]] = get_args(ReadFailure)
"""Of `hgetall_failures_total`."""

Notifications = Literal["on", "off", "unknown"]
NOTIFICATIONS: Final[tuple[Notifications, ...]] = get_args(Notifications)
"""Of `notifications`: what Redis said when it was last asked."""

SNAPSHOTS: Final = ("taken", "refused", "failed")
"""What became of a snapshot that was asked for (`common.admin.quota`)."""
