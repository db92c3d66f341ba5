"""Every counter of a source is summed, subtracted and compared by itself."""

from __future__ import annotations

import attrs
import pytest

from common.telemetry.values import AnswerFigures, DaemonStatus, Retired, WorkerStatus
from opsd.windows import Growth, Rolling, SourceCounters, totals

FIELDS = [field.name for field in attrs.fields(SourceCounters)]
OLD = frozenset({(1, "a")})
NEW = frozenset({(2, "b")})

ONE = SourceCounters(answers=1, server_errors=2, seconds=0.5, ended=3, failed=4, messages=5)
TWO = SourceCounters(answers=10, server_errors=20, seconds=0.25, ended=30, failed=40, messages=50)


def test_a_sum_adds_each_counter_to_its_own() -> None:
    assert ONE.plus(TWO) == SourceCounters(11, 22, 0.75, 33, 44, 55)


def test_a_difference_takes_each_counter_from_its_own() -> None:
    assert ONE.plus(TWO).minus(TWO) == ONE
    assert TWO.minus(ONE) == SourceCounters(9, 18, 0.0, 27, 36, 45)


@pytest.mark.parametrize("name", FIELDS)
def test_a_total_that_fell_has_added_nothing_and_takes_nothing_from_the_others(name: str) -> None:
    later = attrs.evolve(ONE.plus(TWO), **{name: getattr(TWO, name) / 2 if name == "seconds" else 0})
    assert later.minus(TWO) == attrs.evolve(ONE, **{name: 0})


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "seconds"])
def test_one_count_that_is_lower_is_enough(name: str) -> None:
    lower = attrs.evolve(TWO, **{name: getattr(TWO, name) - 1})
    assert lower.fell_below(TWO)
    assert not TWO.fell_below(lower)
    assert not TWO.fell_below(TWO)


def test_nothing_is_counted_before_anything_was() -> None:
    assert SourceCounters() == SourceCounters(0, 0, 0.0, 0, 0, 0)


def test_totals_are_those_of_all_processes_and_of_those_that_are_gone() -> None:
    status = DaemonStatus(
        retired=Retired(
            messages=1,
            answers=AnswerFigures(total=10, server_errors=2, seconds=0.5),
            disconnects={"internal_error": 1, "client_closed": 4},
        ),
        workers=(
            WorkerStatus(messages=20, answers=AnswerFigures(total=100, server_errors=30, seconds=0.25)),
            WorkerStatus(messages=300, disconnects={"redis_unavailable": 7, "drain": 50, "pong_timeout": 600}),
        ),
    )
    assert totals(status) == SourceCounters(
        answers=110, server_errors=32, seconds=0.75, ended=662, failed=8, messages=321
    )


def test_after_a_restart_the_new_totals_are_what_later_ones_are_compared_with() -> None:
    growth = Growth()
    growth.feed(TWO, OLD)
    assert growth.feed(ONE, NEW) == ONE, "it counts from 0"
    assert growth.feed(ONE.plus(ONE), NEW) == ONE
    assert growth.feed(ONE, NEW) == SourceCounters(), "its own older totals"
    assert growth.feed(TWO, NEW) == TWO.minus(ONE.plus(ONE))


def test_a_source_that_is_not_fresh_has_added_nothing_of_what_it_shows_first() -> None:
    growth = Growth()
    assert growth.feed(TWO, OLD, fresh=False) == SourceCounters()
    assert growth.feed(TWO.plus(ONE), OLD, fresh=True) == ONE, "it is known by then"


def test_the_first_call_says_from_when_on_it_is_watched() -> None:
    rolling = Rolling(300)
    rolling.begin(100.0)
    rolling.begin(104.0)
    rolling.add(105.0, SourceCounters(answers=50, messages=20))
    span = rolling.over(110.0, 60)
    assert (span.requests_per_second, span.messages_per_second, span.seconds) == (5.0, 2.0, 10.0)


def test_what_is_added_at_first_begins_the_watch_too() -> None:
    rolling = Rolling(300)
    rolling.add(100.0, SourceCounters(answers=8))
    assert rolling.over(104.0, 60).seconds == 4.0


def test_a_rate_is_over_a_second_at_least_and_over_more_from_then_on() -> None:
    rolling = Rolling(300)
    rolling.add(100.0, SourceCounters(messages=6))
    assert rolling.over(100.5, 60).messages_per_second == 6.0
    assert rolling.over(101.5, 60).messages_per_second == 4.0


def test_of_a_window_the_first_second_counts_whole_and_the_one_before_it_not_at_all() -> None:
    rolling = Rolling(10)
    rolling.begin(0.0)
    rolling.add(20.9, SourceCounters(answers=1))
    rolling.add(21.0, SourceCounters(answers=10))
    rolling.add(21.9, SourceCounters(answers=100))
    assert [rolling.over(now, 3).added.answers for now in (21.9, 22.9, 23.0, 23.9, 24.0)] == [111, 111, 110, 110, 0]


def test_what_the_longest_window_needs_is_kept_and_no_second_more() -> None:
    rolling = Rolling(3)
    rolling.begin(0.0)
    for second in range(6):
        for part in (0.25, 0.5):
            rolling.add(second + part, SourceCounters(answers=1))
        kept = list(rolling._seconds)
        assert kept == list(range(max(0, second - 2), second + 1))
    assert rolling.over(5.5, 3).added.answers == 6


def test_without_a_watch_a_window_has_a_second_and_nothing_in_it() -> None:
    assert attrs.astuple(Rolling(5).over(9.0, 3), recurse=False) == (SourceCounters(), 1.0)
