"""A tracer whose spans a test looks at: each is there as soon as it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Sampler

from common.otel import RecordingTracer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
"""Of a request that somebody has begun to trace."""


class Traces:
    """See the module. `sampler` decides which spans there are: all, unless their parent is left out."""

    def __init__(self, sampler: Sampler = DEFAULT_ON) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = RecordingTracer(provider.get_tracer("test"))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Those that have ended, in the order of their ends."""
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        """Those of a name."""
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """The only one of a name."""
        [span] = self.named(name)
        return span


def seconds(span: ReadableSpan) -> float:
    """How long it took."""
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def is_in(child: ReadableSpan, parent: ReadableSpan) -> bool:
    """Whether it is a child of the other, and within its time."""
    assert child.start_time is not None
    assert child.end_time is not None
    assert parent.start_time is not None
    assert parent.end_time is not None
    within = parent.start_time <= child.start_time <= child.end_time <= parent.end_time
    return within and child.parent is not None and child.parent.span_id == parent.context.span_id
