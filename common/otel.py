"""Spans that are sent to an OpenTelemetry collector, over OTLP/HTTP: the extra `otel`.

`open_traces` owns the provider and its thread for the life of a serving process. A span that has ended is put into a
bounded queue, from which the SDK's thread sends batches; while the collector is away what does not fit is dropped. The
event loop waits for neither. Where to, how much and under which name say the OTEL_* variables, which the SDK reads.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio, Sampler
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from common.quote import quote, quote_url
from common.tracing import NO_SPAN, Tracer, TraceSpan, Value, endpoint
from common.version import version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from opentelemetry.trace import Span as SentSpan
    from opentelemetry.trace import Tracer as SentTracer

    from common.logs import Logger

RATIO: Final = 0.1
"""Of the spans that have no parent, how many are sent unless OTEL_TRACES_SAMPLER or its argument says otherwise."""

CLOSE_TIMEOUT: Final = 2.0
"""Seconds that the end of the process waits for the collector to take the last spans."""

QUIET: Final = 60.0
"""Seconds between two lines about spans that can't be sent."""

_COMPLAINT: Final = 500
"""Characters of what the SDK says: of an exception in an exception the reason comes last."""

KINDS: Final = {
    "handshake": SpanKind.SERVER,
    "subscribe": SpanKind.CLIENT,
    "read": SpanKind.CLIENT,
    "delivery": SpanKind.CONSUMER,
    "refresh": SpanKind.CONSUMER,
}
"""What a span is to a backend that draws who talks to whom; the others are our own work."""


_PROPAGATOR: Final = TraceContextTextMapPropagator()


class RecordedSpan(TraceSpan):
    """One that is sent when it ends. `since` is its begin by trio's clock, `epoch` the same in ns since 1970."""

    __slots__ = ("_epoch", "_sent", "_since", "_tracer")

    def __init__(self, tracer: SentTracer, sent: SentSpan, since: float, epoch: int) -> None:
        self._tracer = tracer
        self._sent = sent
        self._since = since
        self._epoch = epoch

    def _now(self) -> int:
        # By the clock of the loop: a wall clock that is set meanwhile must not make a span end before it began.
        return self._epoch + round((trio.current_time() - self._since) * 1e9)

    def child(self, name: str, **attributes: Value) -> TraceSpan:
        """See `TraceSpan`."""
        epoch = self._now()
        sent = self._tracer.start_span(
            name,
            context=set_span_in_context(self._sent),
            kind=KINDS.get(name, SpanKind.INTERNAL),
            attributes=attributes,
            start_time=epoch,
        )
        return RecordedSpan(self._tracer, sent, trio.current_time(), epoch)

    def note(self, **attributes: Value) -> None:
        """See `TraceSpan`."""
        self._sent.set_attributes(attributes)

    def fail(self, error: str) -> None:
        """See `TraceSpan`."""
        self._sent.set_status(Status(StatusCode.ERROR, quote(error)))

    def end(self) -> None:
        """See `TraceSpan`."""
        if self._sent.is_recording():
            self._sent.end(self._now())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, trio.Cancelled):
            self.note(cancelled=True)
        elif error is not None:
            self.fail(f"{type(error).__name__}: {error}")
        self.end()


class RecordingTracer(Tracer):
    """Begins spans of a provider's tracer."""

    __slots__ = ("_tracer",)

    recording = True

    def __init__(self, tracer: SentTracer) -> None:
        self._tracer = tracer

    def begin(self, name: str, *, since: float, parent: str | None = None, **attributes: Value) -> TraceSpan:
        """See `Tracer`. A `traceparent` that is none is passed over."""
        now = trio.current_time()
        epoch = time.time_ns() - round((now - since) * 1e9)
        sent = self._tracer.start_span(
            name,
            # Without a carrier it is an empty context: a span never has a parent that nobody named.
            context=_PROPAGATOR.extract({} if parent is None else {"traceparent": parent}),
            kind=KINDS.get(name, SpanKind.INTERNAL),
            attributes=attributes,
            start_time=epoch,
        )
        # What the sampler leaves out has nothing in it either.
        return RecordedSpan(self._tracer, sent, since, epoch) if sent.is_recording() else NO_SPAN


@contextmanager
def open_traces(
    service: str,
    log: Logger,
    *,
    worker: int | None = None,
    make_exporter: Callable[[], SpanExporter] = OTLPSpanExporter,
) -> Iterator[Tracer]:
    """Yield the process's tracer; on exit what has ended is sent, within `CLOSE_TIMEOUT`.

    `service` is the daemon, and its name unless OTEL_SERVICE_NAME gives another; `worker` is the process's number among
    several, which is in every line. Raises ValueError for an OTEL_* variable that can't be used.
    """
    if worker is not None:
        log = log.bind(worker=worker, pid=os.getpid())
    unhear = _hear(log)
    provider: TracerProvider | None = None
    try:
        resource = describe_process(service, worker)
        provider = TracerProvider(sampler=chosen_sampler(), resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(make_exporter()))
        log.info(
            "sending traces",
            to=quote_url(endpoint()),
            instance=resource.attributes["service.instance.id"],
            sampler=provider.sampler.get_description(),
        )
        yield RecordingTracer(provider.get_tracer("run-status-daemons", version()))
    finally:
        # What a thread that is left behind still has to say belongs on standard error least of all.
        if provider is None or _close(provider, log):
            unhear()


def _close(provider: TracerProvider, log: Logger) -> bool:
    """Send what has ended; return whether that has come to its end in time."""
    # The SDK's own way out waits for half a minute; a thread that is left behind ends with the process.
    closing = threading.Thread(target=provider.shutdown, name="traces-end", daemon=True)
    closing.start()
    closing.join(CLOSE_TIMEOUT)
    if closing.is_alive():
        log.warning("traces not sent", error=f"the collector did not take the last ones in {CLOSE_TIMEOUT:g}s")
        return False
    return True


def describe_process(service: str, worker: int | None) -> Resource:
    """Who says all this. What OTEL_RESOURCE_ATTRIBUTES says goes first, but two workers are never the same instance."""
    said = OTELResourceDetector().detect().attributes
    instance = str(said.get("service.instance.id") or uuid.uuid4())
    return Resource.create(
        {
            "service.name": service,
            "service.version": version(),
            "host.name": socket.gethostname(),
            "process.pid": os.getpid(),
            **({} if worker is None else {"worker": worker}),
            **said,
            "service.instance.id": instance if worker is None else f"{instance}-{worker}",
        }
    )


def chosen_sampler() -> Sampler | None:
    """Who decides what is sent: a parent, else `RATIO` or OTEL_TRACES_SAMPLER_ARG of all; None leaves it to the SDK.

    Raises ValueError.
    """
    if os.environ.get("OTEL_TRACES_SAMPLER", "").strip():
        return None
    ratio = os.environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    try:
        number = float(ratio or RATIO)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError(f"OTEL_TRACES_SAMPLER_ARG='{quote(ratio)}' is not a number from 0 to 1")
    return ParentBasedTraceIdRatio(number)


class _Complaints(logging.Handler):
    """What the SDK says goes into our log, from whichever thread: one line, then a count of the others for `QUIET`."""

    def __init__(self, log: Logger, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._now = now
        self._quiet_until = 0.0
        self._kept_back = 0

    def emit(self, record: logging.LogRecord) -> None:
        now = self._now()
        if now < self._quiet_until:
            self._kept_back += 1
            return
        kept_back, self._kept_back = self._kept_back, 0
        self._quiet_until = now + QUIET
        raised = record.exc_info[1] if record.exc_info else None
        said = record.getMessage() if raised is None else f"{record.getMessage()} {type(raised).__name__}: {raised}"
        self._log.warning("opentelemetry warned", error=quote(said, _COMPLAINT), kept_back=kept_back)


def _hear(log: Logger) -> Callable[[], None]:
    """Take what the SDK says, from now until the function that is returned is called."""
    logger = logging.getLogger("opentelemetry")
    handler, propagated = _Complaints(log), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False

    def unhear() -> None:
        logger.removeHandler(handler)
        logger.propagate = propagated

    return unhear
