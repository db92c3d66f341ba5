"""The drills: what is said of their figures, and of what the daemon said meanwhile."""

from __future__ import annotations

import math
from typing import Any, Final

import attrs
import pytest

from bench.drill import JITTER, DrillFigures, judge, least_round_trip, moved
from bench.said import count_lines
from tests.faultproxy import CLEAR

ROUND_TRIPS: Final = {
    'client_round_trip_seconds_bucket{le="0.1"}': 0.0,
    'client_round_trip_seconds_bucket{le="0.25"}': 0.0,
    'client_round_trip_seconds_bucket{le="0.5"}': 3.0,
    'client_round_trip_seconds_bucket{le="+Inf"}': 4.0,
    "client_round_trip_seconds_count": 4.0,
    "client_round_trip_seconds_sum": 2.0,
}
AFTER: Final[dict[str, float]] = {
    "messages_forwarded_total": 11.0,
    "connections_active": 2.0,
    "topics_active": 1.0,
    **ROUND_TRIPS,
}
GOOD: Final = DrillFigures(
    clients=2,
    lost=0,
    published=5,
    publishes=5,
    got=10,
    wrong=(),
    before={"messages_forwarded_total": 1.0, "connections_active": 0.0, "topics_active": 1.0},
    after=AFTER,
)


def broken(**changes: Any) -> list[str]:
    return [verdict.promise for verdict in judge(attrs.evolve(GOOD, **changes), JITTER) if not verdict.kept]


def test_a_drill_without_a_fault_keeps_every_promise() -> None:
    assert broken() == []


def test_fair_weather_promises_nothing_of_the_way() -> None:
    assert len(judge(GOOD, CLEAR)) == len(judge(GOOD, JITTER)) - 1


@pytest.mark.parametrize(
    ("changes", "promise"),
    [
        ({"lost": 1}, "statusd, nobody is lost"),
        ({"wrong": ("client 1: 1 lost",)}, "statusd, every client gets every message, once and in order"),
        ({"got": 9}, "statusd, the metrics agree with the clients"),
        ({"after": AFTER | {"connections_active": 1.0}}, "statusd, the metrics agree with the clients"),
        ({"publishes": 4}, "Redis counts as many messages as were published"),
        (
            {"after": AFTER | {'client_round_trip_seconds_bucket{le="0.25"}': 1.0}},
            "statusd, the metrics show the way to the clients",
        ),
        (
            {"after": AFTER | dict.fromkeys(ROUND_TRIPS, 0.0)},
            "statusd, the metrics show the way to the clients",
        ),
    ],
)
def test_each_fault_breaks_its_promise(changes: dict[str, Any], promise: str) -> None:
    assert broken(**changes) == [promise]


def test_the_least_round_trip_is_the_lower_bound_of_its_bucket() -> None:
    assert least_round_trip(ROUND_TRIPS) == 0.25
    assert least_round_trip({}) == math.inf


def test_what_moved_is_shown_and_nothing_else() -> None:
    assert moved(GOOD) == [
        "status2_messages_forwarded_total  1 -> 11",
        "status2_connections_active  0 -> 2",
        "status2_client_round_trip_seconds_count  0 -> 4",
        "status2_client_round_trip_seconds_sum  0 -> 2",
    ]


def test_lines_are_counted_in_the_order_of_their_first() -> None:
    lines: list[dict[str, object]] = [
        {"level": "info", "msg": "b"},
        {"level": "warn", "msg": "a", "error": "x"},
        {"level": "info", "msg": "b", "port": 1},
    ]
    assert count_lines(lines) == ["info      2 x b", "warn      1 x a"]
