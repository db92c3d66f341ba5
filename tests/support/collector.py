"""A stand-in for an OpenTelemetry collector: OTLP over HTTP, in protobuf."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.raw import HOST
from tests.support.receiver import PostReceiver

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

Told = str | int | float | bool


def _value(value: AnyValue) -> Told:
    kind = value.WhichOneof("value")
    assert kind in ("string_value", "int_value", "double_value", "bool_value"), kind
    told: Told = getattr(value, kind)
    return told


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Told]:
    return {pair.key: _value(pair.value) for pair in pairs}


@attrs.frozen
class CollectedSpan:
    """One span as it came. Ids are in hex; an empty parent is none; times are ns since 1970."""

    name: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    attributes: dict[str, Told]
    resource: dict[str, Told]


@attrs.define
class Collector(PostReceiver):
    """What it has been sent, over all of its blocks."""

    port: int = 0
    spans: list[CollectedSpan] = attrs.field(factory=list)

    @property
    def variables(self) -> dict[str, str]:
        """What makes a daemon that traces send it everything at once."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{self.port}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "60",
            "OTEL_BSP_SCHEDULE_DELAY": "10",
            "OTEL_TRACES_SAMPLER": "always_on",
            "NO_PROXY": HOST,
        }

    def take(self, body: bytes) -> None:
        """See `PostReceiver`."""
        for of_process in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _attributes(of_process.resource.attributes)
            for scope in of_process.scope_spans:
                self.spans += (
                    CollectedSpan(
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        _attributes(span.attributes),
                        resource,
                    )
                    for span in scope.spans
                )

    def named(self, name: str) -> list[CollectedSpan]:
        """Those of a name."""
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> CollectedSpan:
        """The only one of a name."""
        [span] = self.named(name)
        return span
