"""A worker's answers as values (common/workers/questions.py): none is taken for another's, nonsense for none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from common.telemetry.fields import GarbageError
from common.workers.questions import CLIENTS, READY, SNAPSHOT, change_of, status_of
from tests.support.opsd_telemetry import worker

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_change_is_its_version_and_the_status_of_that_worker() -> None:
    version, status = change_of(3).read([7, {"id": "3", **worker(connections=5)}])
    assert (version, status.id, status.connections) == (7, "3", 5)


@pytest.mark.parametrize(
    ("read", "value", "reason"),
    [
        (change_of(3).read, [7], "a change of no version"),
        (change_of(3).read, ["7", {}], "a change of no version"),
        (change_of(3).read, [7, {"id": "4", **worker()}], "a status of another worker"),
        (status_of(3).read, {"id": "4", **worker()}, "a status of another worker"),
        (status_of(3).read, [], "worker is no object"),
        (SNAPSHOT.read, "text", "no bytes"),
        (READY.read, "yes", "ready is neither"),
        (CLIENTS.read, -1, "clients is no count"),
    ],
)
def test_what_is_no_answer_is_refused(read: Callable[[object], object], value: object, reason: str) -> None:
    with pytest.raises(GarbageError, match=reason):
        read(value)
