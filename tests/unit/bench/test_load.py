"""The load test: what k6 says is read, and held against the daemon's counters; its scripts are what operators know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from bench.k6 import THRESHOLDS_CROSSED, DaemonBooks, K6Summary, read_books, read_summary, reconcile
from bench.load import CASES, LoadCase, Written, find_k6, judge

SCRIPTS = Path(__file__).parents[3] / "docs" / "load"
STATUS, PREFLIGHT = CASES
SUMMARY = K6Summary(conversations=300, failures=0, messages=900, timed=900, p50=1, p95=4, p99=9)
BOOKS = DaemonBooks(connections=300, sent=900, left=300, ended=300)
WRITTEN = Written([1, 0, 1, 1], [0.1, 0.2])

DOCUMENT: dict[str, Any] = {
    "metrics": {
        "ws_sessions": {"count": 300, "rate": 1.5},
        "status2_messages": {"count": 900, "rate": 1.5},
        "status2_connection_failures": {"count": 0, "rate": 0, "thresholds": {"count==0": False}},
        "status2_message_latency_ms": {"med": 1, "p(95)": 4, "p(99)": 9, "count": 900, "max": 12},
    }
}
PAGE = """\
# HELP status2_connections_total WebSocket conversations opened
status2_connections_total 302.0
status2_messages_forwarded_total 900.0
status2_disconnects_total{reason="client_closed"} 300.0
status2_disconnects_total{reason="client_gone"} 2.0
status2_build_info{version="1 2"} 1.0
other_connections_total 7.0
"""


def broken(case: LoadCase, code: int = 0, **changes: Any) -> list[str]:
    verdicts = judge(case, code, attrs.evolve(SUMMARY, **changes), BOOKS, WRITTEN, [1 << 20, 2 << 20, 2 << 20])
    return [verdict.promise for verdict in verdicts if not verdict.kept]


def test_the_summary_of_k6_is_read() -> None:
    assert read_summary(DOCUMENT, "status2") == SUMMARY


def test_a_script_that_did_nothing_is_no_summary() -> None:
    with pytest.raises(ValueError, match="preflight2_message_latency_ms"):
        read_summary(DOCUMENT, "preflight2")


def test_a_page_of_metrics_is_read() -> None:
    books = read_books(PAGE, "status2", "messages_forwarded_total")
    assert books == DaemonBooks(connections=302, sent=900, left=300, ended=302)
    before = DaemonBooks(connections=2, sent=0, left=0, ended=2)
    assert books - before == BOOKS


def test_books_that_agree_have_no_findings() -> None:
    assert reconcile(SUMMARY, BOOKS, clients=300, owed=900) == []
    assert reconcile(SUMMARY, BOOKS, clients=300, owed=None) == []


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"connections": 301}, "conversations begun: 300 k6, 301 the daemon"),
        ({"left": 299}, "conversations ended by their clients: 299 the daemon, 300 all that ended"),
        ({"sent": 901}, "messages: 901 sent by the daemon, 900 got by k6"),
    ],
)
def test_books_that_differ_are_said_to(change: dict[str, int], finding: str) -> None:
    assert reconcile(SUMMARY, attrs.evolve(BOOKS, **change), clients=300, owed=None) == [finding]


def test_what_redis_handed_on_must_have_been_sent() -> None:
    assert reconcile(SUMMARY, BOOKS, clients=300, owed=1200) == [
        "messages: 1200 handed to the daemon, for all clients, 900 sent by the daemon"
    ]


def test_clients_that_never_came_are_missed() -> None:
    assert reconcile(SUMMARY, BOOKS, clients=301, owed=None) == [
        "conversations begun: 300 k6, 301 clients that were asked for"
    ]


def test_a_run_without_a_fault_keeps_every_promise() -> None:
    assert broken(STATUS) == []


@pytest.mark.parametrize(
    ("code", "changes", "promise"),
    [
        (THRESHOLDS_CROSSED, {"p95": 50}, "statusd, p95 from write to receipt is below 50 ms"),
        (THRESHOLDS_CROSSED, {"failures": 1}, "statusd, no connection fails while Redis is restarted"),
        (THRESHOLDS_CROSSED, {}, "statusd, no connection fails while Redis is restarted"),
        (107, {}, "statusd, no connection fails while Redis is restarted"),
        (0, {"messages": 899}, "statusd, the daemon's metrics and k6 agree"),
    ],
)
def test_each_fault_breaks_its_promise(code: int, changes: dict[str, Any], promise: str) -> None:
    assert broken(STATUS, code, **changes) == [promise]


def test_a_run_without_a_restart_promises_none() -> None:
    written = attrs.evolve(WRITTEN, restarted=False)
    verdicts = judge(STATUS, 0, attrs.evolve(SUMMARY, failures=1), BOOKS, written, [0, 0, 0])
    assert [verdict.promise for verdict in verdicts if not verdict.kept] == ["statusd, no connection fails"]


def test_two_subscribers_are_one_too_many() -> None:
    verdicts = judge(
        STATUS, 0, attrs.evolve(SUMMARY, messages=600), attrs.evolve(BOOKS, sent=600), Written([2, 0], [0.0]), [0, 0, 0]
    )
    assert [verdict.findings for verdict in verdicts if not verdict.kept] == [("2 subscribers",)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_scripts_have_the_names_that_operators_know(case: LoadCase) -> None:
    script = (SCRIPTS / f"{case.name}.js").read_text("utf-8")
    prefix = case.prefix.upper()
    for name in ("WS_URL", "RUN_ID", "VUS", "DURATION", *(["CHANNEL"] if case.exact else [])):
        assert f"__ENV.{prefix}_{name} ||" in script
        assert f"-e {prefix}_{name}=" in script
    assert f'{case.prefix}_message_latency_ms: ["p(95)<{case.limit}"]' in script
    assert f'{case.prefix}_connection_failures: ["count==0"]' in script
    assert f"{prefix}_VUS || {case.clients})" in script


def test_what_is_written_says_when() -> None:
    command = STATUS.command(7)
    assert command[:2] == ("PUBLISH", "load:log")
    assert '"number": 7' in str(command[2])
    assert '"sent": 1' in str(command[2])
    assert PREFLIGHT.command(7)[:2] == ("HSET", "load")


def test_a_k6_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert find_k6(tmp_path / "k6") is None
