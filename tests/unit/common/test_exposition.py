"""Reports of several processes merged into one, and rendered as a scrape gets them (SPEC 4)."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from common.exposition import Family, Report, Reporter, from_json, merge, render, to_json, totals
from common.histogram import Histogram
from common.metrics import Counters, DaemonCollector, Gauges
from common.version import version


def report(counters: Counters | None = None, *, connections: int = 0, redis_up: bool = True) -> Report:
    """What one process says."""
    gauges = Gauges(
        connections_active=connections,
        backlog_bytes=10,
        topics_active=1,
        ready=True,
        draining=False,
        workers=1,
        redis_up=redis_up,
        redis_reconnects=1,
        redis_timeouts=0,
        redis_round_trips=Histogram(),
        client_round_trips=None,
        origin_check_disabled=True,
    )
    return Reporter(DaemonCollector("status2", "messages_forwarded", counters or Counters(), lambda: gauges)).report()


def values(merged: Report) -> dict[str, float]:
    """Sample name with labels -> value, read back from the text by Prometheus' own parser."""
    body, _ = render(merged, "")
    return {
        sample.name + "".join(f"{{{key}={value}}}" for key, value in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_counts_and_labels_of_all_processes_are_added_up() -> None:
    one = Counters(messages_sent=5, disconnects=Counter({"drain": 1, "client_closed": 2}))
    two = Counters(messages_sent=7, disconnects=Counter({"client_closed": 3, "pong_timeout": 1}))
    found = values(merge([report(one, connections=2), report(two, connections=3)]))
    assert found["status2_messages_forwarded_total"] == 12
    assert found["status2_connections_active"] == 5
    assert found["status2_disconnects_total{reason=drain}"] == 1
    assert found["status2_disconnects_total{reason=client_closed}"] == 5
    assert found["status2_disconnects_total{reason=pong_timeout}"] == 1
    assert found["status2_backlog_bytes"] == 20


def test_what_processes_have_in_common_is_not_added_up() -> None:
    found = values(merge([report(redis_up=True), report(redis_up=True)]))
    assert found["status2_redis_up"] == 1
    assert found["status2_origin_check_disabled"] == 1
    assert found[f"status2_build_info{{version={version()}}}"] == 1
    assert found["process_start_time_seconds"] == values(report())["process_start_time_seconds"]


def test_redis_is_up_only_if_it_is_for_every_process() -> None:
    assert values(merge([report(redis_up=True), report(redis_up=False)]))["status2_redis_up"] == 0


def test_histograms_are_added_up_bucket_by_bucket() -> None:
    one, two = Counters(delivery=Histogram()), Counters(delivery=Histogram())
    assert one.delivery is not None
    assert two.delivery is not None
    one.delivery.observe(0.0004)
    two.delivery.observe(0.0004)
    two.delivery.observe(99)
    found = values(merge([report(one), report(two)]))
    assert found["status2_delivery_seconds_bucket{le=0.0005}"] == 2
    assert found["status2_delivery_seconds_bucket{le=10.0}"] == 2
    assert found["status2_delivery_seconds_bucket{le=+Inf}"] == 3
    assert found["status2_delivery_seconds_count"] == 3


def test_what_a_dead_process_counted_stays_and_what_it_had_open_does_not() -> None:
    dead = totals(report(Counters(messages_sent=100), connections=9))
    found = values(merge([dead, report(Counters(messages_sent=1), connections=2)]))
    assert found["status2_messages_forwarded_total"] == 101
    assert found["status2_connections_active"] == 2


def test_a_report_survives_the_json_channel() -> None:
    original = report(Counters(disconnects=Counter({"drain": 1})))
    assert from_json(json.loads(json.dumps(to_json(original)))) == original


@pytest.mark.parametrize(
    "nonsense",
    [None, 5, "x", {}, [1], [["a", "b"]], [["a", "b", "c", [1]]], [["a", "b", "c", [["d", [], 10**400]]]]],
    ids=range(8),
)
def test_anything_else_on_the_channel_is_refused(nonsense: object) -> None:
    with pytest.raises(ValueError, match="not a report"):
        from_json(nonsense)


def test_merging_nothing_is_nothing() -> None:
    assert merge([]) == ()
    assert merge([(Family("a", "gauge", "text", (("a", (), 1.0),)),)])[0].samples == (("a", (), 1.0),)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version="),
        ("text/plain", "text/plain; version="),
        ("application/openmetrics-text; version=1.0.0,text/plain;q=0.5", "application/openmetrics-text; version=1.0.0"),
    ],
)
def test_the_format_is_the_one_asked_for(accept: str, content_type: str) -> None:
    body, found = render(report(), accept)
    assert found.startswith(content_type)
    assert (b"# EOF" in body) == ("openmetrics" in accept)
