"""What users get, of all daemons together."""

from __future__ import annotations

import pytest

from common.telemetry.values import AnswerFigures, DaemonStatus, WorkerStatus
from opsd.modes import MODE_WINDOW, OUTAGE_WINDOW
from opsd.traffic import ERROR_WINDOW, MESSAGE_WINDOW, Traffic
from opsd.windows import SourceCounters

NAMES = ("statusd", "preflightd")


def status(
    total: int = 0, errors: int = 0, *, messages: int = 0, uptime: float = 1000.0, cpu: float = 0.0, pid: int = 1
) -> DaemonStatus:
    """Of one process, which is older than the watch unless told otherwise."""
    answers = AnswerFigures(total=total, server_errors=errors, seconds=total / 100)
    worker = WorkerStatus(
        id="1", pid=pid, start="2026-01-15T12:00:00Z", uptime=uptime, cpu=cpu, answers=answers, messages=messages
    )
    return DaemonStatus(workers=(worker,))


def watched(now: float = 0.0) -> Traffic:
    traffic = Traffic(NAMES)
    traffic.begin(now)
    return traffic


def test_only_what_was_added_under_its_eyes_counts() -> None:
    traffic = watched(100.0)
    traffic.count("statusd", status(1000, 400, messages=70, uptime=500.0), 110.0)
    assert traffic.minute(110.0).added == SourceCounters()
    traffic.count("statusd", status(1004, 401, messages=80, uptime=501.0), 111.0)
    added = traffic.minute(111.0).added
    assert (added.answers, added.server_errors, added.messages) == (4, 1, 10)
    assert added.latency == pytest.approx(0.01)


@pytest.mark.parametrize(("uptime", "counted"), [(9.5, 8), (10.0, 0), (10.5, 0)])
def test_a_daemon_that_is_younger_than_the_watch_has_counted_under_its_eyes(uptime: float, counted: int) -> None:
    traffic = watched(100.0)
    traffic.count("statusd", status(8, uptime=uptime), 110.0)
    assert traffic.minute(110.0).added.answers == counted


def test_each_daemon_is_compared_with_itself() -> None:
    traffic = watched()
    for total in (100, 107):
        traffic.count("statusd", status(total), 10.0)
    for total in (5, 8):
        traffic.count("preflightd", status(total), 10.0)
    assert traffic.minute(10.0).added.answers == 10


def test_the_rates_are_over_the_time_watched_at_first() -> None:
    traffic = watched(100.0)
    traffic.count("statusd", status(40, messages=20, uptime=1.0), 104.0)
    assert traffic.minute(104.0).requests_per_second == 10.0
    assert traffic.messages_per_second(104.0) == 5.0


def test_each_figure_has_its_window() -> None:
    assert (MODE_WINDOW, ERROR_WINDOW, MESSAGE_WINDOW) == (60, 300, 10)
    traffic = watched()
    traffic.count("statusd", status(10, 5, messages=30, uptime=1.0), 1000.0)
    assert traffic.messages_per_second(1009.0) == pytest.approx(30 / 9)
    assert traffic.messages_per_second(1010.0) == 0.0
    assert traffic.minute(1059.0).added.answers == 10
    assert traffic.minute(1060.0).added.answers == 0
    assert traffic.error_rate(1299.0) == 0.5
    assert traffic.error_rate(1300.0) == 0.0


def test_the_mode_is_about_the_last_minute_and_needs_two_samples() -> None:
    traffic = watched()
    traffic.count("statusd", status(10, 2, uptime=1.0), 100.0)
    assert (traffic.mode, traffic.mode_known) == ("normal", False)
    traffic.sample(101.0, ready=True)
    assert traffic.mode == "normal", "one sample is a moment"
    traffic.sample(102.0, ready=True)
    assert (traffic.mode, traffic.mode_known) == ("degraded", True)
    for now in (161.0, 162.0):
        traffic.sample(now, ready=True)
    assert traffic.mode == "normal"


def test_a_daemon_that_refuses_everybody_is_seen_at_once_in_a_good_minute() -> None:
    traffic = watched()
    traffic.count("statusd", status(1000, uptime=1.0), 100.0)
    traffic.count("statusd", status(1004, 4), 130.0)
    traffic.sample(130.0 + OUTAGE_WINDOW - 1, ready=True)
    assert traffic.mode == "isolated"


def test_an_outage_is_told_of_the_seconds_of_its_window_only() -> None:
    traffic = watched()
    traffic.count("statusd", status(1000, uptime=1.0), 100.0)
    traffic.count("statusd", status(1004, 4), 130.0)
    for second in range(2):
        traffic.sample(130.0 + OUTAGE_WINDOW + second, ready=True)
    assert traffic.mode == "normal"


def test_of_two_daemons_one_that_refuses_everybody_is_half_an_outage() -> None:
    traffic = watched()
    traffic.count("statusd", status(4, 4, uptime=1.0), 130.0)
    traffic.count("preflightd", status(1000, uptime=1.0), 130.0)
    traffic.sample(130.0, ready=True)
    assert traffic.mode == "degraded"


@pytest.mark.parametrize(("total", "mode"), [(5, "isolated"), (6, "normal")])
def test_it_gets_better_by_a_user_that_was_served_and_by_none_that_was_refused(total: int, mode: str) -> None:
    traffic = watched()
    traffic.resume_mode("isolated")
    assert traffic.mode == "isolated"
    for now in (1.0, 2.0, 3.0):
        traffic.sample(now, ready=False)
    assert (traffic.mode, traffic.mode_known) == ("isolated", False)
    traffic.count("statusd", status(total, 5, uptime=0.5), 10.0)
    for now in (100.0, 101.0, 102.0):
        traffic.sample(now, ready=False)
    assert traffic.mode == mode


def test_daemons_that_would_serve_a_user_are_proof_without_one() -> None:
    traffic = watched()
    traffic.resume_mode("isolated")
    for now in (1.0, 2.0):
        traffic.sample(now, ready=True)
    assert (traffic.mode, traffic.mode_known) == ("normal", True)


def test_the_cpu_time_is_that_of_all_daemons() -> None:
    traffic = watched()
    assert traffic.cpu_seconds == 0.0
    traffic.count("statusd", status(cpu=1.5), 1.0)
    traffic.count("preflightd", status(cpu=2.0), 1.0)
    traffic.count("statusd", status(cpu=1.75), 2.0)
    assert traffic.cpu_seconds == 3.75


def test_users_that_one_daemon_served_are_not_forgotten_when_the_other_is_counted() -> None:
    traffic = watched()
    traffic.resume_mode("isolated")
    traffic.count("statusd", status(1, uptime=0.5), 10.0)
    traffic.count("preflightd", status(0, uptime=0.5), 10.0)
    for now in (100.0, 101.0):
        traffic.sample(now, ready=False)
    assert traffic.mode == "normal"


def test_who_never_said_from_when_on_watches_from_the_beginning_of_time() -> None:
    traffic = Traffic(NAMES)
    traffic.count("statusd", status(3, uptime=9.5), 10.0)
    assert traffic.minute(10.0).added.answers == 3
