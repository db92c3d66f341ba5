"""What the daemons count, and how Prometheus reads it (SPEC 4).

`Counters` are plain numbers, owned by the daemon, always kept: the hot path pays one addition per batch of messages,
not one per client, whether metrics are served or not. They become metrics only when somebody asks (`exposition`).
"""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import attrs
import trio
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from common import labels
from common.exposition import Report, report_of
from common.histogram import BUCKETS, Histogram
from common.version import version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

MOST_NODES: Final = 64
"""Nodes of Redis that are told apart: a cluster of more has its further ones together."""


@attrs.define
class Answers:
    """Users' handshakes and their answers: refusals, and the 101s that open conversations. Pages are not counted."""

    total: int = 0
    """Answers given."""
    server_errors: int = 0
    """Those among them with a status of 500 or more."""
    seconds: float = 0.0
    """From each request's head to its answer, added up."""
    in_flight: int = 0
    """Requests that wait for their answer now."""


@attrs.define
class HashFigures:
    """What a daemon that reads hashes counts besides."""

    reads: Histogram | None = None
    """Seconds from wanting a hash to having it, its turn for a connection included; None when nobody reads it."""
    failures: Counter[str] = attrs.field(factory=Counter)
    """Reads that brought no hash, by reason (`labels.READ_FAILURES`)."""
    missed_changes: int = 0
    """Resyncs that found a change of which there was no notification."""
    notifications: labels.Notifications = "unknown"
    """Whether Redis says when a hash changes, as it was last asked."""


@attrs.define
class Counters:
    """What one serving process has counted since it started."""

    connections: int = 0
    """WebSocket conversations opened."""
    disconnects: Counter[str] = attrs.field(factory=Counter)
    """Conversations ended, by `Disconnect.reason`."""
    rejected: Counter[str] = attrs.field(factory=Counter)
    """Requests refused instead of upgraded, by reason."""
    client_messages: Counter[str] = attrs.field(factory=Counter)
    """Messages and control frames from clients, by kind."""
    messages_sent: int = 0
    """Frames of the daemon's own payload accepted for clients: one message to three clients counts three."""
    dropped: Counter[str] = attrs.field(factory=Counter)
    """Messages from Redis that were not forwarded, by reason."""
    gaps: int = 0
    """Interruptions of a topic that had clients: each may have lost messages."""
    write_errors: int = 0
    """Connections that a failed write ended."""
    delivery: Histogram | None = None
    """Seconds from Redis' bytes read to the last client written, one observation a batch; None when nobody reads it."""
    answers: Answers = attrs.field(factory=Answers)
    """Every handshake's answer; told to the operator's listener (`common.admin`), not to a scrape."""
    hashes: HashFigures | None = None
    """None for a daemon that reads none."""

    def delivered(self, frames: int, since: float | None = None) -> None:
        """So many payload frames were written for clients.

        `since` is when the bytes from Redis that they were made of were read (`trio.current_time`); None when they are
        no news but what a newcomer gets.
        """
        self.messages_sent += frames
        if frames and since is not None and self.delivery is not None:
            self.delivery.observe(trio.current_time() - since)


@attrs.frozen
class Gauges:
    """What is true at the moment of the scrape."""

    connections_active: int
    backlog_bytes: int
    topics_active: int
    ready: bool
    """Whether a health check of the daemon would say so, as this process sees it."""
    draining: bool
    workers: int
    """Serving processes that there should be."""
    redis_up: bool
    redis_reconnects: int
    redis_timeouts: int
    redis_round_trips: Histogram
    client_round_trips: Histogram | None
    """None when nobody reads it."""
    origin_check_disabled: bool
    redis_role_changes: int = 0
    redis_moved: int = 0
    redis_links: Mapping[tuple[str, str], int] = attrs.Factory(dict)
    """How many links there are to each of Redis' nodes, by its address and its role."""


class DaemonCollector(Collector):
    """Turns a daemon's numbers into metric families; `sent_name` is the daemon's own name for messages sent."""

    def __init__(self, prefix: str, sent_name: str, counters: Counters, gauges: Callable[[], Gauges]) -> None:
        self._prefix = prefix
        self._sent_name = sent_name
        self._counters = counters
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        """The families, read now."""
        counters, gauges = self._counters, self._gauges()
        yield InfoMetricFamily(f"{self._prefix}_build", "What runs", value={"version": version()})
        yield self._gauge("connections_active", "WebSocket conversations open now", gauges.connections_active)
        yield self._counter("connections", "WebSocket conversations opened", counters.connections)
        yield self._labelled("disconnects", "Conversations ended", "reason", labels.DISCONNECTS, counters.disconnects)
        yield self._labelled("handshakes_rejected", "Requests refused", "reason", labels.REJECTIONS, counters.rejected)
        yield self._labelled(
            "client_messages",
            "Messages and control frames from clients",
            "kind",
            labels.CLIENT_MESSAGES,
            counters.client_messages,
        )
        yield self._counter(self._sent_name, "Messages sent, one per client that got it", counters.messages_sent)
        yield self._labelled("messages_dropped", "Messages not forwarded", "reason", labels.DROPPED, counters.dropped)
        yield self._counter("gaps", "Interruptions of topics that had clients", counters.gaps)
        yield self._counter("write_errors", "Connections that a failed write ended", counters.write_errors)
        yield self._counter(
            "redis_reconnects", "Times the Redis connection was made, the first included", gauges.redis_reconnects
        )
        yield self._counter(
            "redis_recoveries",
            "Times the Redis connection was made again after it had been lost",
            max(0, gauges.redis_reconnects - 1),
        )
        yield self._counter("redis_timeouts", "Requests to Redis that timed out", gauges.redis_timeouts)
        yield self._counter(
            "redis_role_changes", "Times another server took over, or one changed its role", gauges.redis_role_changes
        )
        yield self._counter("redis_moved", "Redirections of a cluster's nodes", gauges.redis_moved)
        yield self._links(gauges.redis_links)
        yield self._histogram("redis_round_trip_seconds", "A probe of Redis to its answer", gauges.redis_round_trips)
        yield self._gauge("redis_up", "Whether Redis is connected and subscribed", gauges.redis_up)
        yield self._gauge("backlog_bytes", "Bytes queued for slow clients", gauges.backlog_bytes)
        yield self._gauge("topics_active", "Redis channels with at least one client", gauges.topics_active)
        yield self._gauge("origin_check_disabled", "Whether every Origin passes", gauges.origin_check_disabled)
        yield self._gauge("ready", "Whether clients are taken", gauges.ready)
        yield self._gauge("draining", "Whether the daemon is on its way out", gauges.draining)
        yield self._gauge("workers", "Serving processes that there should be", gauges.workers)
        yield self._gauge(
            "workers_ready", "Serving processes that take clients", gauges.redis_up and not gauges.draining
        )
        # The parent of several workers adds what it counts (`supervised`).
        yield restarts(self._prefix, 0)
        if counters.delivery is not None:
            yield self._histogram("delivery_seconds", "Redis' bytes read to last client written", counters.delivery)
        if gauges.client_round_trips is not None:
            yield self._histogram(
                "client_round_trip_seconds", "A ping to its pong, of sampled clients", gauges.client_round_trips
            )
        if counters.hashes is not None:
            yield from self._hashes(counters.hashes)

    def _hashes(self, hashes: HashFigures) -> Iterator[Metric]:
        if hashes.reads is not None:
            yield self._histogram("hgetall_seconds", "Wanting a run's hash to having it", hashes.reads)
        yield self._labelled(
            "hgetall_failures", "Reads that brought no hash", "reason", labels.READ_FAILURES, hashes.failures
        )
        yield self._counter(
            "resync_changes", "Resyncs that found a change without a notification", hashes.missed_changes
        )
        notifications = GaugeMetricFamily(
            f"{self._prefix}_notifications", "Processes by whether Redis notifies of changes", labels=["state"]
        )
        for state in labels.NOTIFICATIONS:
            notifications.add_metric([state], state == hashes.notifications)
        yield notifications

    def _links(self, links: Mapping[tuple[str, str], int]) -> Metric:
        family = GaugeMetricFamily(
            f"{self._prefix}_redis_links",
            "Connections to Redis' nodes, those for reads left out",
            labels=["node", "role"],
        )
        if not links:
            # The series is there before the first connection.
            family.add_metric(["", ""], 0)
        named = sorted(links)[:MOST_NODES]
        for key in named:
            family.add_metric(key, links[key])
        others = sum(number for key, number in links.items() if key not in named)
        if others:
            family.add_metric(["others", ""], others)
        return family

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        return GaugeMetricFamily(f"{self._prefix}_{name}", text, value=value)

    def _counter(self, name: str, text: str, value: float) -> Metric:
        return CounterMetricFamily(f"{self._prefix}_{name}", text, value=value)

    def _labelled(self, name: str, text: str, label: str, known: Iterable[str], values: Counter[str]) -> Metric:
        family = CounterMetricFamily(f"{self._prefix}_{name}", text, labels=[label])
        for key, value in sorted({**dict.fromkeys(known, 0), **values}.items()):
            family.add_metric([key], value)
        return family

    def _histogram(self, name: str, text: str, histogram: Histogram) -> Metric:
        bounds = [*map(str, BUCKETS), "+Inf"]
        family = HistogramMetricFamily(f"{self._prefix}_{name}", text)
        family.add_metric([], list(zip(bounds, accumulate(histogram.counts), strict=True)), histogram.total)
        return family


def restarts(prefix: str, number: int) -> Metric:
    """How many workers took the place of one that was gone; only the parent of several counts any."""
    return CounterMetricFamily(f"{prefix}_workers_restarted", "Workers that took the place of another", value=number)


def supervised(prefix: str, restarted: int) -> Report:
    """What the parent of several workers adds to their reports."""
    return report_of([restarts(prefix, restarted)])
