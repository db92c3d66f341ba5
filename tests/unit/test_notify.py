"""What a process reads of its service manager in the environment (common/notify, common/activation)."""

from __future__ import annotations

import pytest

from common.activation import passed_descriptors, without_personal
from common.notify import manager_address, watchdog_interval

PID = 4711


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/run/systemd/notify", "/run/systemd/notify"),
        ("@abstract/name", "\0abstract/name"),
        ("vsock:2:1234", None),
        ("relative", None),
        ("", None),
    ],
)
def test_the_address_is_a_path_or_an_abstract_name(text: str, address: str | None) -> None:
    assert manager_address({"NOTIFY_SOCKET": text}) == address


def test_without_a_manager_nobody_is_told() -> None:
    assert manager_address({}) is None
    assert watchdog_interval({}, PID) is None


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID)}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID + 1)}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_PID": str(PID)}, None),
    ],
)
def test_life_is_told_twice_in_the_time_that_the_manager_waits(
    variables: dict[str, str], seconds: float | None
) -> None:
    assert watchdog_interval(variables, PID) == seconds


@pytest.mark.parametrize(
    ("variables", "descriptors"),
    [
        ({"LISTEN_FDS": "2", "LISTEN_PID": str(PID)}, [3, 4]),
        # What was meant for a parent, or for nobody, is not ours.
        ({"LISTEN_FDS": "2", "LISTEN_PID": str(PID - 1)}, []),
        ({"LISTEN_FDS": "2"}, []),
        ({"LISTEN_FDS": "0", "LISTEN_PID": str(PID)}, []),
        ({"LISTEN_FDS": "x", "LISTEN_PID": str(PID)}, []),
        ({"LISTEN_FDS": "99999", "LISTEN_PID": str(PID)}, []),
        ({}, []),
    ],
)
def test_descriptors_are_those_that_were_passed_to_this_very_process(
    variables: dict[str, str], descriptors: list[int]
) -> None:
    assert list(passed_descriptors(variables, PID)) == descriptors


def test_a_child_inherits_nothing_that_was_meant_for_its_parent() -> None:
    environ = {"LISTEN_FDS": "1", "LISTEN_PID": "1", "NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "STATUS_WORKERS": "2"}
    assert without_personal(environ) == {"STATUS_WORKERS": "2"}
