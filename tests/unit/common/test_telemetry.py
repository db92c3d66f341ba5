"""What a daemon says of itself, from end to end: values, JSON, what is believed of it (common/telemetry)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from common.telemetry.fields import GarbageError
from common.telemetry.parse import MOST_WORKERS, parse_status
from common.telemetry.values import DaemonStatus, Retired, WorkerStatus
from opsd.sources.polled import STATUS_LIMIT
from opsd.windows import totals
from tests.support.admin import worker as figures
from tests.support.opsd_telemetry import encoded, telemetry, worker

if TYPE_CHECKING:
    from collections.abc import Iterator

# -- what is believed --------------------------------------------------------------------------------------------------


def test_a_status_is_read_whole() -> None:
    status = parse_status(
        encoded(
            telemetry(
                {
                    "1": worker(
                        messages=5,
                        answers={"total": 10, "server_errors": 2, "seconds": 0.5, "in_flight": 1},
                        disconnects={"client_closed": 3, "internal_error": 1},
                    ),
                    "2": worker(uptime=99, pid=5),
                },
                retired={
                    "answers": {"total": 100, "server_errors": 1, "seconds": 1.5},
                    "disconnects": {"redis_unavailable": 2, "refused_by_redis": 1},
                    "messages": 7,
                },
            )
        )
    )
    counted = totals(status)
    assert (counted.answers, counted.server_errors, counted.seconds) == (110, 3, 2.0)
    assert (counted.ended, counted.failed, counted.messages) == (7, 4, 12)
    assert status.uptime == 99.0
    assert status.connected == 2
    assert status.members() == {(4711, "2026-01-15T12:34:56.789012Z"), (5, "2026-01-15T12:34:56.789012Z")}
    assert status.workers[0].document() == {
        "id": "1",
        **worker(
            messages=5,
            answers={"total": 10, "server_errors": 2, "seconds": 0.5, "in_flight": 1},
            disconnects={"client_closed": 3, "internal_error": 1},
        ),
    }


def test_the_most_workers_that_can_be_are_read() -> None:
    counts = {"client_closed": 1, "client_gone": 2, "drain": 3, "pong_timeout": 4, "slow_consumer": 5}
    body = encoded(telemetry({str(n): worker(disconnects=counts) for n in range(MOST_WORKERS)}))
    assert len(body) <= STATUS_LIMIT
    assert len(parse_status(body).workers) == MOST_WORKERS


def leaves(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where everything of a document is."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))


WHOLE: Final = DaemonStatus(
    daemon="statusd",
    routes=("/{runid}:{channel}",),
    draining=True,
    retired=Retired().plus(figures("1")),
    workers=(figures("1"), figures("2", disconnects={"drain": 3, "client_closed": 1})),
)
"""Nothing of it is what it would be if it were missing."""


def test_what_a_daemon_says_is_what_opsd_is_told() -> None:
    assert parse_status(WHOLE.render()) == WHOLE


LACKING: Final = [path for path in leaves(json.loads(WHOLE.render())) if path[0] != "workers" or len(path) > 2]
"""Every figure: what an older daemon may not say."""

OTHERWISE_KNOWN: Final[dict[tuple[str, ...], object]] = {
    ("connected",): 2,
    **{("workers", number, "id"): number for number in ("1", "2")},
    **{("workers", number, "daemon"): "statusd" for number in ("1", "2")},
}
"""By counting, by its key, by what the daemon says of all."""


@pytest.mark.parametrize("path", LACKING, ids="-".join)
def test_an_older_daemon_lacks_a_figure_and_the_others_are_read(path: tuple[str, ...]) -> None:
    document = json.loads(WHOLE.render())
    *way, last = path
    inner = document
    for name in way:
        inner = inner[name]
    del inner[last]
    read = json.loads(parse_status(encoded(document)).render())
    inner = read
    for name in way:
        inner = inner[name]
    fallen = inner.pop(last, None)
    if path in OTHERWISE_KNOWN:
        assert fallen == OTHERWISE_KNOWN[path]
    else:
        assert not any(flat(fallen)), "what is missing is 0, and a count by reason is not there"
    assert read == document


def flat(value: object) -> Iterator[object]:
    """What is in a value, however deep."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from flat(inner)
    else:
        yield value


@pytest.mark.parametrize("new", [1, "new", None, [1, {"a": 2}], {"b": [3]}, -1.5], ids=str)
def test_a_newer_daemon_says_more_and_it_is_passed_over(new: object) -> None:
    document = json.loads(WHOLE.render())
    for path in [(), *leaves(json.loads(WHOLE.render()))]:
        inner = document
        for name in path:
            inner = inner[name]
        if isinstance(inner, dict) and path[-1:] not in {("workers",), ("disconnects",)}:
            inner["unknown"] = new
    assert parse_status(encoded(document)) == WHOLE


def test_a_reason_that_nobody_knows_is_counted_and_no_fault() -> None:
    status = parse_status(encoded(telemetry({"1": worker(disconnects={"brand_new": 2, "internal_error": 1})})))
    assert status.workers[0].disconnects == {"brand_new": 2, "internal_error": 1}
    assert (totals(status).ended, totals(status).failed) == (3, 1)


def test_an_api_from_outside_need_only_say_how_many_there_are() -> None:
    assert parse_status(b'{"connected":3}', outside=True).connected == 3


BAD_VALUES = ("NaN", "Infinity", "-Infinity", "1e400", "-1", '"1"', "null", "true", "[]", "{}", "1" * 5000, "9e18")
GARBAGE = [
    b"",
    b"{",
    b'{"workers":{"1":{"pid":1',
    b"hello",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"1",
    b"{}",
    b"[" * 100_000,
    b'{"workers":[]}',
    b'{"workers":{"1":1}}',
    b'{"workers":{},"routes":"x"}',
    b'{"workers":{},"routes":[1]}',
    b'{"workers":{},"draining":0}',
    b'{"workers":{},"retired":[]}',
    b'{"workers":{"\\ud800":{}}}',
    b'{"workers":{"1":{"redis":"\\u0000"}}}',
    encoded({"workers": {str(n): {} for n in range(2000)}}),
    encoded({"workers": {}, "x": [1] * 70_000}),
    encoded({"workers": {}, "x": [[]] * 9000}),
    encoded({"workers": {"1": {"disconnects": {str(n): 1 for n in range(200)}}}}),
    *(b'{"workers":{"1":{"rss":' + value.encode() + b"}}}" for value in BAD_VALUES),
    *(b'{"workers":{"1":{"cpu":' + value.encode() + b"}}}" for value in BAD_VALUES),
    *(b'{"workers":{"1":{"answers":{"total":' + value.encode() + b"}}}}" for value in BAD_VALUES),
]


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_not_believed_at_all(body: bytes) -> None:
    with pytest.raises(GarbageError):
        parse_status(body)


@pytest.mark.parametrize("body", [b'{"workers":{}}', b'{"connected":-1}', b'{"connected":"2"}', b'{"connected":null}'])
def test_the_outside_api_must_say_how_many_are_connected(body: bytes) -> None:
    with pytest.raises(GarbageError):
        parse_status(body, outside=True)


SPOKEN: Final = (
    '{"connected":1,"daemon":"statusd","routes":["/{runid}:{channel}"],"draining":true,'
    '"retired":{"messages":100,"errors":1,"answers":{"total":10,"server_errors":1,"seconds":0.5,"in_flight":0},'
    '"disconnects":{"client_closed":4},"delivery":{"count":7,"seconds":0.25}},'
    '"workers":{"1":{"id":"1","pid":4711,"daemon":"statusd","start":"2026-01-15T12:34:56.789012Z","uptime":12.345,'
    '"rss":50000000,"cpu":1.5,"connections":3,"topics":2,"backlog":0,"redis":"online","ready":true,"messages":100,'
    '"errors":1,"answers":{"total":10,"server_errors":1,"seconds":0.5,"in_flight":2},'
    '"disconnects":{"client_closed":4},"delivery":{"count":7,"seconds":0.25}}}}'
)
"""What versions in the field say: none of it may be called otherwise or go away; there may be more one day."""


def has(whole: object, part: object) -> bool:
    """Whether a document has everything of another."""
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(name in whole and has(whole[name], value) for name, value in part.items())
    return whole == part


def test_what_is_spoken_in_the_field_is_still_spoken_and_understood() -> None:
    status = DaemonStatus(
        daemon="statusd",
        routes=("/{runid}:{channel}",),
        draining=True,
        retired=Retired().plus(figures("1")),
        workers=(figures("1"),),
    )
    assert has(json.loads(status.render()), json.loads(SPOKEN))
    assert parse_status(SPOKEN.encode()) == status


# -- a worker and its parent -------------------------------------------------------------------------------------------


def test_a_workers_status_survives_the_channel() -> None:
    status = figures("2", disconnects={"drain": 3, "client_closed": 1})
    assert WorkerStatus.read(json.loads(json.dumps(status.document())), "worker") == status


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        "worker",
        {"id": 1},
        {"pid": "4711"},
        {"messages": 1.5},
        {"messages": None},
        {"answers": None},
        {"answers": {"total": "1"}},
        {"delivery": []},
        {"disconnects": []},
        {"redis": None},
        {"ready": 1},
    ],
)
def test_nonsense_is_no_status(broken: Any) -> None:
    document: Any = {**figures().document(), **broken} if isinstance(broken, dict) else broken
    with pytest.raises(GarbageError, match="worker"):
        WorkerStatus.read(document, "worker")


# -- sums --------------------------------------------------------------------------------------------------------------


def test_what_dead_workers_counted_is_added_up_but_not_what_they_had_in_flight() -> None:
    retired = Retired().plus(figures("1")).plus(figures("2", disconnects={"drain": 1, "client_closed": 1}))
    assert retired.messages == 200
    assert retired.errors == 2
    assert (retired.answers.total, retired.answers.server_errors, retired.answers.seconds) == (20, 2, 1.0)
    assert retired.answers.in_flight == 0
    assert retired.disconnects == {"client_closed": 5, "drain": 1}
    assert (retired.delivery.count, retired.delivery.seconds) == (14, 0.5)


def test_the_body_is_one_line_for_an_event() -> None:
    body = DaemonStatus(daemon="statusd", draining=True, workers=(figures("1"), figures("2"))).render()
    assert b"\n" not in body
    document = json.loads(body)
    assert document["draining"] is True
    assert list(document["workers"]) == ["1", "2"]
    assert document["connected"] == 2
