"""How many workers there should be, and whether all are ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from common.telemetry.parse import parse_status
from opsd.crew import Crew
from tests.support.opsd_telemetry import encoded, telemetry, worker

if TYPE_CHECKING:
    from common.telemetry.values import DaemonStatus


def status(*pids: int, unready: int = 0) -> DaemonStatus:
    """So many workers by their processes, the last of which are not ready."""
    workers = {
        str(number): worker(pid=pid, ready=number <= len(pids) - unready) for number, pid in enumerate(pids, start=1)
    }
    return parse_status(encoded(telemetry(workers)))


@pytest.mark.parametrize(
    ("looks", "state"),
    [
        ([], "none"),
        ([status()], "none"),
        ([status(1)], "ready"),
        ([status(1, unready=1)], "0 of 1 ready"),
        ([status(1, 2), status(1, 2, unready=1)], "1 of 2 ready"),
        # One that has died is missed, and its successor is as good.
        ([status(1, 2), status(2)], "1 of 2 ready"),
        ([status(1, 2), status(2), status(2, 3)], "ready"),
        ([status(1, 2), status(2), status(2, 3), status(3, 4)], "ready"),
        ([status(1, 2), status(2), status(2, 3, unready=1)], "1 of 2 ready"),
        # Started anew with fewer of them, under our eyes or while it was away.
        ([status(1, 2), status(3)], "ready"),
        ([status(1, 2), None, status(1)], "ready"),
        ([status(1, 2), None], "none"),
    ],
)
def test_the_state(looks: list[DaemonStatus | None], state: str) -> None:
    crew = Crew()
    for look in looks:
        crew.look(look)
    assert crew.state == state
    assert crew.complete == (state == "ready")


def test_workers_from_outside_are_ready_unless_they_say_that_they_are_not() -> None:
    crew = Crew()
    for document, state in (
        ({"connected": 4}, "ready"),
        ({"connected": 0}, "none"),
        ({"connected": 2, "workers": {"a": {}, "b": {}}}, "ready"),
        ({"connected": 2, "workers": {"a": {}, "b": {"ready": False}}}, "1 of 2 ready"),
    ):
        crew.look(parse_status(encoded(document), outside=True))
        assert crew.state == state
