"""The values of `/workers/status` and their sums (common/admin/status.py)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from common.admin.status import DaemonStatus, Retired, worker_from
from tests.support.admin import ABOUT, worker


def test_a_workers_status_survives_the_channel() -> None:
    status = worker("2", disconnects={"drain": 3, "client_closed": 1})
    assert worker_from(json.loads(json.dumps(status.document()))) == status


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        "worker",
        {},
        {"id": 1},
        {"pid": "4711"},
        {"messages": 1.5},
        {"messages": None},
        {"answers": None},
        {"answers": {"total": "1"}},
        {"answers": {"unknown": 1}},
        {"delivery": []},
        {"disconnects": []},
        {"redis": None},
        {"ready": 1},
        {"surplus": 1},
    ],
)
def test_nonsense_is_a_value_error(broken: Any) -> None:
    document: Any = {**worker().document(), **broken} if isinstance(broken, dict) and broken else broken
    with pytest.raises(ValueError, match="not a worker's status"):
        worker_from(document)


def test_what_dead_workers_counted_is_added_up_but_not_what_they_had_in_flight() -> None:
    retired = Retired().plus(worker("1")).plus(worker("2", disconnects={"drain": 1, "client_closed": 1}))
    assert retired.messages == 200
    assert retired.errors == 2
    assert (retired.answers.total, retired.answers.server_errors, retired.answers.seconds) == (20, 2, 1.0)
    assert retired.answers.in_flight == 0
    assert retired.disconnects == {"client_closed": 5, "drain": 1}
    assert (retired.delivery.count, retired.delivery.seconds) == (14, 0.5)


def test_the_body_is_one_line_for_an_event() -> None:
    body = DaemonStatus(about=ABOUT, draining=True, workers=(worker("1"), worker("2")), retired=Retired()).render()
    assert b"\n" not in body
    document = json.loads(body)
    assert document["draining"] is True
    assert list(document["workers"]) == ["1", "2"]
    assert document["connected"] == 2
