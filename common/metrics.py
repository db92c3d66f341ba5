"""What the daemons count, and how Prometheus reads it (SPEC 4).

`Counters` are plain numbers, owned by the daemon, always kept: the hot path pays one addition per batch of messages,
not one per client, whether metrics are served or not. They become metrics only when somebody asks (`exposition`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import attrs
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the delivery histogram, in seconds."""


@attrs.define
class Histogram:
    """Observations counted by bucket; the last bucket has no upper bound."""

    counts: list[int] = attrs.field(factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


@attrs.define
class Answers:
    """Requests and their answers: pages, refusals, and the 101s that open conversations."""

    total: int = 0
    """Answers given."""
    server_errors: int = 0
    """Those among them with a status of 500 or more."""
    seconds: float = 0.0
    """From each request's head to its answer, added up."""
    in_flight: int = 0
    """Requests that wait for their answer now."""


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
    """Every request's answer; told to the operator's listener (`common.admin`), not to a scrape."""


@attrs.frozen
class Gauges:
    """What is true at the moment of the scrape."""

    connections_active: int
    backlog_bytes: int
    topics_active: int
    redis_up: bool
    redis_reconnects: int
    redis_timeouts: int
    origin_check_disabled: bool


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
        yield self._gauge("connections_active", "WebSocket conversations open now", gauges.connections_active)
        yield self._counter("connections", "WebSocket conversations opened", counters.connections)
        yield self._labelled("disconnects", "Conversations ended", "reason", counters.disconnects)
        yield self._labelled("handshakes_rejected", "Requests refused", "reason", counters.rejected)
        yield self._labelled(
            "client_messages", "Messages and control frames from clients", "kind", counters.client_messages
        )
        yield self._counter(self._sent_name, "Messages sent, one per client that got it", counters.messages_sent)
        yield self._labelled("messages_dropped", "Messages not forwarded", "reason", counters.dropped)
        yield self._counter("gaps", "Interruptions of topics that had clients", counters.gaps)
        yield self._counter("write_errors", "Connections that a failed write ended", counters.write_errors)
        yield self._counter(
            "redis_reconnects", "Times the Redis connection was made, the first included", gauges.redis_reconnects
        )
        yield self._counter("redis_timeouts", "Requests to Redis that timed out", gauges.redis_timeouts)
        yield self._gauge("redis_up", "Whether Redis is connected and subscribed", gauges.redis_up)
        yield self._gauge("backlog_bytes", "Bytes queued for slow clients", gauges.backlog_bytes)
        yield self._gauge("topics_active", "Redis channels with at least one client", gauges.topics_active)
        yield self._gauge("origin_check_disabled", "Whether every Origin passes", gauges.origin_check_disabled)
        if counters.delivery is not None:
            yield self._histogram("delivery_seconds", "Redis' bytes read to last client written", counters.delivery)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        return GaugeMetricFamily(f"{self._prefix}_{name}", text, value=value)

    def _counter(self, name: str, text: str, value: float) -> Metric:
        return CounterMetricFamily(f"{self._prefix}_{name}", text, value=value)

    def _labelled(self, name: str, text: str, label: str, values: Counter[str]) -> Metric:
        family = CounterMetricFamily(f"{self._prefix}_{name}", text, labels=[label])
        for key, value in sorted(values.items()):
            family.add_metric([key], value)
        return family

    def _histogram(self, name: str, text: str, histogram: Histogram) -> Metric:
        bounds = [*map(str, BUCKETS), "+Inf"]
        family = HistogramMetricFamily(f"{self._prefix}_{name}", text)
        family.add_metric([], list(zip(bounds, accumulate(histogram.counts), strict=True)), histogram.total)
        return family
