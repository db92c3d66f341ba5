"""What growing counters did lately."""

from __future__ import annotations

import pytest

from opsd.windows import Growth, Rolling, SourceCounters

OLD = frozenset({(1, "a")})
NEW = frozenset({(2, "b")})


def answers(total: int, errors: int = 0, seconds: float = 0.0) -> SourceCounters:
    return SourceCounters(answers=total, server_errors=errors, seconds=seconds)


def test_the_first_totals_are_only_what_later_ones_are_compared_with() -> None:
    growth = Growth()
    assert growth.feed(answers(1000), OLD) == SourceCounters()
    assert growth.feed(answers(1007, 2), OLD) == answers(7, 2)
    assert growth.feed(answers(1007, 2), OLD) == SourceCounters()


def test_a_source_that_is_younger_than_the_watch_counts_from_0() -> None:
    assert Growth().feed(answers(3), OLD, fresh=True) == answers(3)


def test_totals_of_a_restarted_source_count_from_0() -> None:
    growth = Growth()
    growth.feed(answers(1000, 10, 5.0), OLD)
    assert growth.feed(answers(4, 1, 0.5), NEW) == answers(4, 1, 0.5)
    assert growth.feed(answers(6, 1, 0.7), NEW).answers == 2


def test_older_totals_of_the_same_processes_add_nothing_and_are_not_counted_twice() -> None:
    growth = Growth()
    growth.feed(answers(100), OLD)
    growth.feed(answers(110), OLD)
    assert growth.feed(answers(105), OLD) == SourceCounters()
    assert growth.feed(answers(112), OLD) == answers(2)


def test_a_worker_that_was_replaced_is_no_restart_since_totals_keep_it() -> None:
    growth = Growth()
    growth.feed(answers(100), OLD)
    assert growth.feed(answers(103), NEW) == answers(3)


def test_a_sum_of_seconds_that_differs_in_its_last_bit_is_no_restart() -> None:
    growth = Growth()
    growth.feed(answers(100, 0, 0.1 + 0.2), OLD)
    assert growth.feed(answers(100, 0, 0.3), NEW) == SourceCounters()


@pytest.mark.parametrize(
    ("counters", "rate"),
    [
        (SourceCounters(), 0.0),
        (SourceCounters(answers=9, server_errors=1), 1 / 9),
        (SourceCounters(answers=5, ended=5, failed=1), 0.1),
        (SourceCounters(answers=4, server_errors=1, ended=4, failed=1), 0.25),
        (SourceCounters(answers=1, server_errors=5), 1.0),
        (SourceCounters(failed=3), 0.0),
    ],
)
def test_the_error_rate_is_the_failures_among_answers_and_ended_conversations(
    counters: SourceCounters, rate: float
) -> None:
    assert counters.error_rate == pytest.approx(rate)


def test_the_latency_is_the_mean() -> None:
    assert SourceCounters(answers=4, seconds=0.2).latency == pytest.approx(0.05)
    assert SourceCounters(seconds=1.0).latency == 0.0


def test_rates_are_over_the_time_watched_until_the_window_is_full() -> None:
    rolling = Rolling(300)
    rolling.begin(100.0)
    rolling.add(105.0, answers(50))
    assert rolling.over(110.0, 60).requests_per_second == pytest.approx(5.0)
    assert rolling.over(160.0, 60).seconds == pytest.approx(59.0)
    # In its first second a source that answered once has not answered a thousand times a second.
    other = Rolling(300)
    other.add(100.0, answers(1))
    assert other.over(100.001, 60).requests_per_second == pytest.approx(1.0)


def test_a_window_forgets_what_is_older_than_it() -> None:
    rolling = Rolling(300)
    rolling.begin(0.0)
    rolling.add(10.5, answers(7, 7))
    rolling.add(69.0, answers(3))
    assert rolling.over(69.0, 60).added == answers(10, 7)
    assert rolling.over(70.0, 60).added == answers(3)
    assert rolling.over(70.0, 300).added == answers(10, 7)
    assert rolling.over(128.9, 60).added == answers(3)
    assert rolling.over(129.0, 60).added == SourceCounters()
    assert rolling.over(1000.0, 300).added == SourceCounters()


def test_a_steady_flow_has_a_steady_rate() -> None:
    rolling = Rolling(300)
    rolling.begin(0.0)
    for step in range(4 * 400):
        rolling.add(step / 4, answers(1, 0, 0.002))
        if step > 1200:
            assert rolling.over(step / 4, 60).requests_per_second == pytest.approx(4.0, rel=0.02)
            assert rolling.over(step / 4, 60).added.latency == pytest.approx(0.002)
            assert 1196 <= rolling.over(step / 4, 300).added.answers <= 1200


def test_what_is_kept_does_not_grow() -> None:
    rolling = Rolling(300)
    for second in range(10_000):
        rolling.add(float(second), answers(1))
    assert len(rolling._seconds) == len(rolling._before) == 300


def test_before_anything_was_watched_there_is_nothing() -> None:
    span = Rolling(300).over(5.0, 60)
    assert span.added == SourceCounters()
    assert span.requests_per_second == span.messages_per_second == 0.0
