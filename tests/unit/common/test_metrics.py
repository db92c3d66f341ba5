"""What a scrape reads, in both formats, parsed by Prometheus' own parsers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from common.exposition import Reporter, render
from common.histogram import BUCKETS, Histogram
from common.metrics import MOST_NODES, Counters, DaemonCollector, Gauges
from common.version import version

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from trio.testing import MockClock

GAUGES: Final = Gauges(
    connections_active=3,
    backlog_bytes=4096,
    topics_active=2,
    ready=True,
    draining=False,
    workers=1,
    redis_up=True,
    redis_reconnects=5,
    redis_timeouts=6,
    redis_round_trips=Histogram(),
    client_round_trips=Histogram(),
    origin_check_disabled=False,
    redis_role_changes=31,
    redis_moved=32,
    redis_links={("a:1", "master"): 33, ("b:2", "replica"): 34},
)

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"

OPENMETRICS_ACCEPT: Final = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
"""What Prometheus 3 sends."""

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def counted() -> Counters:
    """Every number different, so that none passes for another."""
    counters = Counters(connections=11, messages_sent=12, gaps=13, write_errors=14, delivery=Histogram())
    counters.disconnects.update(drain=21, slow_consumer=22)
    counters.rejected.update(bad_path=23)
    counters.client_messages.update(pong=24, malformed=25)
    counters.dropped.update(too_big=26)
    return counters


def reporter(counters: Counters, prefix: str = "status2", sent_name: str = "messages_forwarded") -> Reporter:
    return Reporter(DaemonCollector(prefix, sent_name, counters, lambda: GAUGES))


def families(page: Reporter, accept: str = "") -> dict[str, Metric]:
    """A scrape, parsed strictly, by family."""
    body, content_type = render(page.report(), accept)
    parse = parse_openmetrics if content_type.startswith("application/openmetrics-text") else parse_text
    return {family.name: family for family in parse(body.decode())}


def samples(page: Reporter, accept: str = "", prefix: str = "status2") -> Samples:
    """The daemon's own samples, by name and labels; OpenMetrics' `_created` left out."""
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in families(page, accept).values()
        for sample in family.samples
        if sample.name.startswith(prefix + "_") and not sample.name.endswith("_created")
    }


EXPECTED: Final[Samples] = {
    ("status2_build_info", (("version", version()),)): 1,
    ("status2_connections_active", ()): 3,
    ("status2_connections_total", ()): 11,
    ("status2_disconnects_total", (("reason", "drain"),)): 21,
    ("status2_disconnects_total", (("reason", "slow_consumer"),)): 22,
    ("status2_handshakes_rejected_total", (("reason", "bad_path"),)): 23,
    ("status2_client_messages_total", (("kind", "pong"),)): 24,
    ("status2_client_messages_total", (("kind", "malformed"),)): 25,
    ("status2_messages_forwarded_total", ()): 12,
    ("status2_messages_dropped_total", (("reason", "too_big"),)): 26,
    ("status2_gaps_total", ()): 13,
    ("status2_write_errors_total", ()): 14,
    ("status2_redis_reconnects_total", ()): 5,
    ("status2_redis_recoveries_total", ()): 4,
    ("status2_redis_timeouts_total", ()): 6,
    ("status2_redis_role_changes_total", ()): 31,
    ("status2_redis_moved_total", ()): 32,
    ("status2_redis_links", (("node", "a:1"), ("role", "master"))): 33,
    ("status2_redis_links", (("node", "b:2"), ("role", "replica"))): 34,
    ("status2_redis_up", ()): 1,
    ("status2_backlog_bytes", ()): 4096,
    ("status2_topics_active", ()): 2,
    ("status2_origin_check_disabled", ()): 0,
    ("status2_ready", ()): 1,
    ("status2_draining", ()): 0,
    ("status2_workers", ()): 1,
    ("status2_workers_ready", ()): 1,
    ("status2_workers_restarted_total", ()): 0,
}
"""The contract's names."""

HISTOGRAMS: Final = ("delivery_seconds", "redis_round_trip_seconds", "client_round_trip_seconds")


@pytest.mark.parametrize("accept", ["", OPENMETRICS_ACCEPT])
def test_the_names_and_values_of_the_contract(accept: str) -> None:
    found = samples(reporter(counted()), accept)
    histogram = {key for key in found if key[0].startswith(tuple(f"status2_{name}_" for name in HISTOGRAMS))}
    # A counter's other labels may be there beside those that were counted, at 0.
    assert {key: value for key, value in found.items() if key not in histogram and value} == {
        key: value for key, value in EXPECTED.items() if value
    }
    assert {name for name, _ in found} - {name for name, _ in histogram} == {name for name, _ in EXPECTED}


def test_many_nodes_are_told_apart_up_to_a_number() -> None:
    links = {(f"node-{number:03}:6379", "master"): 1 for number in range(MOST_NODES + 10)}
    page = Reporter(
        DaemonCollector("status2", "messages_forwarded", Counters(), lambda: attrs.evolve(GAUGES, redis_links=links))
    )
    found = {key: value for key, value in samples(page).items() if key[0] == "status2_redis_links"}
    assert len(found) == MOST_NODES + 1
    assert found["status2_redis_links", (("node", "others"), ("role", ""))] == 10


def test_the_other_daemon_has_its_own_prefix_and_name() -> None:
    page = reporter(Counters(messages_sent=7), "preflight2", "messages_sent")
    found = samples(page, prefix="preflight2")
    assert found["preflight2_messages_sent_total", ()] == 7
    assert "preflight2_connections_active" in {name for name, _ in found}
    assert samples(page) == {}


@pytest.mark.parametrize("accept", ["", OPENMETRICS_ACCEPT])
def test_every_family_has_its_type_and_a_help_line(accept: str) -> None:
    types = {
        name.removeprefix("status2_").removesuffix("_total"): family.type
        for name, family in families(reporter(counted()), accept).items()
        if name.startswith("status2_")
    }
    # The older format has no type for it.
    assert types.pop("build" if accept else "build_info") == ("info" if accept else "gauge")
    gauges = {"connections_active", "redis_up", "backlog_bytes", "topics_active", "origin_check_disabled"}
    gauges |= {"ready", "draining", "workers", "workers_ready", "redis_links"}
    assert {name for name, kind in types.items() if kind == "gauge"} == gauges
    assert {name for name, kind in types.items() if kind == "histogram"} == set(HISTOGRAMS)
    assert set(types.values()) == {"gauge", "counter", "histogram"}
    assert all(
        family.documentation for name, family in families(reporter(counted())).items() if name.startswith("status2_")
    )


@pytest.mark.parametrize("accept", ["", OPENMETRICS_ACCEPT])
def test_the_process_and_python_are_there_too(accept: str) -> None:
    names = set(families(reporter(Counters()), accept))
    assert {"process_resident_memory_bytes", "process_open_fds", "python_info"} <= names
    assert any(name.startswith("python_gc_objects_collected") for name in names)


def test_a_scrape_reads_the_numbers_of_its_moment() -> None:
    counters = Counters()
    page = reporter(counters)
    assert samples(page)["status2_connections_total", ()] == 0
    counters.connections += 1
    counters.disconnects["drain"] += 1
    found = samples(page)
    assert found["status2_connections_total", ()] == 1
    assert found["status2_disconnects_total", (("reason", "drain"),)] == 1


def test_nothing_is_read_before_somebody_asks() -> None:
    def gauges() -> Gauges:
        raise AssertionError("nobody asked")

    Reporter(DaemonCollector("status2", "messages_forwarded", Counters(), gauges))


@pytest.mark.parametrize("label", ['a"b', "a\\b", "a\nb", "ä", "{}"])
@pytest.mark.parametrize("accept", ["", OPENMETRICS_ACCEPT])
def test_a_label_may_have_any_text(label: str, accept: str) -> None:
    counters = Counters()
    counters.client_messages[label] += 1
    assert samples(reporter(counters), accept)["status2_client_messages_total", (("kind", label),)] == 1


# -- the histogram -----------------------------------------------------------------------------------------------------


def test_the_delivery_histogram_counts_each_observation_under_every_bound_above_it() -> None:
    counters = Counters(delivery=Histogram())
    assert counters.delivery is not None
    observed = [0.0, 0.0004, 0.0005, 0.0006, 0.3, 10.0, 10.1, 1000.0]
    for seconds in observed:
        counters.delivery.observe(seconds)
    found = samples(reporter(counters))
    for bound in BUCKETS:
        expected = sum(seconds <= bound for seconds in observed)
        assert found["status2_delivery_seconds_bucket", (("le", str(bound)),)] == expected
    assert found["status2_delivery_seconds_bucket", (("le", "+Inf"),)] == len(observed)
    assert found["status2_delivery_seconds_count", ()] == len(observed)
    assert found["status2_delivery_seconds_sum", ()] == pytest.approx(sum(observed))


@given(st.lists(st.floats(0, 100)))
def test_no_observation_is_lost(observed: list[float]) -> None:
    histogram = Histogram()
    for seconds in observed:
        histogram.observe(seconds)
    assert sum(histogram.counts) == len(observed)
    assert histogram.total == pytest.approx(sum(observed))


def test_the_histogram_is_left_out_where_nobody_reads_it() -> None:
    assert Counters().delivery is None
    assert not any(name.startswith("status2_delivery") for name in families(reporter(Counters())))


def test_two_histograms_share_nothing() -> None:
    first, second = Histogram(), Histogram()
    first.observe(1.0)
    assert sum(second.counts) == 0


# -- which format ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        (OPENMETRICS_ACCEPT, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
def test_the_format_that_was_asked_for(accept: str, content_type: str) -> None:
    body, served = render(reporter(counted()).report(), accept)
    assert served.startswith(content_type)
    assert body.endswith(b"# EOF\n") == served.startswith("application/openmetrics-text")


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=banana",
        "text/plain;version=x;escaping=y",
        "application/openmetrics-text; version=1.x",
        "application/openmetrics-text;version=",
        "application/openmetrics-text;escaping=",
        "text/plain;version=;escaping=",
        ",;=,",
        "\xff",
    ],
)
def test_no_accept_header_is_an_error(accept: str) -> None:
    assert samples(reporter(counted()), accept)["status2_connections_active", ()] == 3


@given(
    st.lists(
        st.sampled_from(
            ["application/openmetrics-text", "text/plain", "version", "escaping", "=", ";", ",", " ", "1.0.0", "1", "."]
        )
    ).map("".join)
)
@example("text/plain;version=1.0.0;escaping=values")
def test_whatever_is_accepted_there_is_a_page(accept: str) -> None:
    body, content_type = render(reporter(Counters()).report(), accept)
    assert b"status2_connections_active 3.0\n" in body
    assert content_type.isprintable()


async def test_what_is_delivered_is_counted_and_timed_where_it_is_news(autojump_clock: MockClock) -> None:
    counters = Counters(delivery=Histogram())
    assert counters.delivery is not None
    since = trio.current_time()
    await trio.sleep(2)
    counters.delivered(3, since)
    counters.delivered(1)
    counters.delivered(0, since)
    assert (counters.messages_sent, counters.delivery.total, sum(counters.delivery.counts)) == (4, 2.0, 1)
    unread = Counters()
    unread.delivered(5, since)
    assert (unread.messages_sent, unread.delivery) == (5, None)
