"""Whose fault the end of a connection is."""

from __future__ import annotations

import h11
import pytest
import trio

from opsd.serve import is_clients_end


@pytest.mark.parametrize(
    ("error", "clients"),
    [
        (h11.RemoteProtocolError("nonsense"), True),
        (ExceptionGroup("", [h11.RemoteProtocolError("nonsense"), h11.LocalProtocolError("too late")]), True),
        (ExceptionGroup("", [h11.RemoteProtocolError("nonsense"), KeyError("a bug")]), False),
        (KeyError("a bug"), False),
        (trio.BusyResourceError("two at once"), False),
    ],
)
def test_only_what_a_client_can_cause_is_no_bug(error: Exception, *, clients: bool) -> None:
    assert is_clients_end(error) is clients
