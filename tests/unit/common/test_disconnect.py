"""Every end there is, row by row as the contract's table has it."""

from __future__ import annotations

from typing import Final

import attrs
import pytest
from wsproto.frame_protocol import CloseReason

from common import disconnect
from common.disconnect import Disconnect

TABLE: Final = [
    ("DRAIN", "drain", 1001, True),
    ("PONG_TIMEOUT", "pong_timeout", 1008, True),
    ("SLOW_CONSUMER", "slow_consumer", None, False),
    ("WRITE_ERROR", "write_error", None, False),
    ("REDIS_UNAVAILABLE", "redis_unavailable", 1013, True),
    ("REFUSED_BY_REDIS", "refused_by_redis", 1011, True),
    ("RUN_TOO_BIG", "run_too_big", 1009, True),
    ("TOO_FAST", "too_fast", 1008, True),
    ("MESSAGE_TOO_BIG", "message_too_big", 1009, False),
    ("PROTOCOL_ERROR", "protocol_error", 1002, False),
    ("INVALID_TEXT", "protocol_error", 1007, False),
    ("INTERNAL_ERROR", "internal_error", 1011, True),
    ("CLIENT_CLOSED", "client_closed", None, False),
    ("CLIENT_GONE", "client_gone", None, False),
]

ORDINARY: Final = {"drain", "client_closed", "client_gone"}
"""Ends that are no errors: nobody is called for them."""

FAULTS: Final = {"redis_unavailable", "refused_by_redis", "internal_error"}
"""Ends that are the service's own fault."""

LASTING: Final = {"refused_by_redis"}
"""Ends after which to come back is in vain."""

BREACHES: Final = {"protocol_error", "message_too_big", "too_fast"}
"""Ends that are the client's own doing."""


@pytest.mark.parametrize(("name", "reason", "close_code", "hangup"), TABLE)
def test_an_end_says_its_reason_code_and_hangup(name: str, reason: str, close_code: int | None, hangup: bool) -> None:
    end = getattr(disconnect, name)
    assert end == Disconnect(
        reason,
        close_code,
        hangup,
        error=reason not in ORDINARY,
        breach=reason in BREACHES,
        fault=reason in FAULTS,
        lasting=reason in LASTING,
    )


def test_the_table_is_all_there_is() -> None:
    assert [getattr(disconnect, name) for name, *_ in TABLE] == list(disconnect.ALL)
    assert tuple(dict.fromkeys(reason for _, reason, *_ in TABLE)) == disconnect.REASONS
    assert set(disconnect.HANGUPS) == {reason for _, reason, _, hangup in TABLE if hangup}
    assert set(disconnect.LASTING_HANGUPS) == LASTING
    assert disconnect.FAULTS == FAULTS


def test_every_code_may_be_sent() -> None:
    # 1005, 1006 and 1015 are for reports and never for the wire.
    for end in disconnect.ALL:
        if end.close_code is not None:
            assert CloseReason(end.close_code) not in {
                CloseReason.NO_STATUS_RCVD,
                CloseReason.ABNORMAL_CLOSURE,
                CloseReason.TLS_HANDSHAKE_FAILED,
            }


def test_a_hangup_is_sent_only_where_a_close_frame_follows() -> None:
    assert all(end.close_code is not None for end in disconnect.ALL if end.hangup)


def test_an_end_is_a_value() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        disconnect.DRAIN.reason = "other"  # type: ignore[misc] # what must not be possible
    assert {disconnect.DRAIN: 1}[Disconnect("drain", 1001, hangup=True, error=False)] == 1
