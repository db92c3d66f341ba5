"""Spans that are sent, and those that are not (common/otel.py, common/tracing.py)."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from common import otel
from common.otel import QUIET, RATIO, chosen_sampler, describe_process, open_traces
from common.tracing import NO_SPAN, NO_TRACES, endpoint
from tests.support.logbook import Logbook
from tests.support.traces import PARENT, TRACE, TRACEPARENT, Traces, is_in, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from trio.testing import MockClock

PATIENCE: Final = 60.0
"""Seconds after which a thread that is waited for has failed; nothing takes them."""

HEARD: Final = logging.getLogger("opentelemetry")


@pytest.fixture(autouse=True)
def _as_if_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(HEARD, "handlers", list(HEARD.handlers))
    monkeypatch.setattr(HEARD, "propagate", HEARD.propagate)


# -- spans -------------------------------------------------------------------------------------------------------------


async def test_a_span_takes_as_long_as_the_loops_clock_says(autojump_clock: MockClock) -> None:
    traces = Traces()
    begun, before = trio.current_time(), time.time_ns()
    await trio.sleep(3)
    span = traces.tracer.begin("refresh", since=begun, run_id="run")
    await trio.sleep(4)
    with span.child("read") as reading:
        await trio.sleep(5)
        reading.note(bytes=7)
    span.note(changed=True)
    span.end()
    await trio.sleep(100)
    span.end()
    refresh, read = traces.one("refresh"), traces.one("read")
    assert (seconds(refresh), seconds(read)) == (12.0, 5.0)
    assert is_in(read, refresh)
    # It began 3 s before it was told of, by the wall clock too.
    assert refresh.start_time is not None
    assert before - 3e9 <= refresh.start_time <= time.time_ns() - 3e9
    assert refresh.attributes == {"run_id": "run", "changed": True}
    assert (read.attributes, read.kind, refresh.status.status_code) == ({"bytes": 7}, SpanKind.CLIENT, StatusCode.UNSET)


async def test_an_error_in_a_block_fails_its_span_and_goes_on() -> None:
    traces = Traces()
    with (
        pytest.raises(LookupError),
        traces.tracer.begin("refresh", since=trio.current_time()) as span,
        span.child("evaluate"),
    ):
        raise LookupError("no\nrule")
    for name in ("refresh", "evaluate"):
        status = traces.one(name).status
        assert (status.status_code, status.description) == (StatusCode.ERROR, "LookupError: no\\u000arule")


async def test_a_cancelled_block_is_no_failure(autojump_clock: MockClock) -> None:
    traces = Traces()
    with trio.move_on_after(1), traces.tracer.begin("refresh", since=trio.current_time()):
        await trio.sleep_forever()
    refresh = traces.one("refresh")
    assert (refresh.attributes, refresh.status.status_code) == ({"cancelled": True}, StatusCode.UNSET)


@pytest.mark.parametrize(
    ("traceparent", "parent"),
    [
        (TRACEPARENT, PARENT),
        (None, None),
        ("", None),
        ("00-junk", None),
        ("00-" + "0" * 32 + "-" + "0" * 16 + "-01", None),
    ],
)
async def test_a_traceparent_is_the_parent_if_it_is_one(traceparent: str | None, parent: str | None) -> None:
    traces = Traces()
    traces.tracer.begin("handshake", since=trio.current_time(), parent=traceparent).end()
    handshake = traces.one("handshake")
    assert (None if handshake.parent is None else f"{handshake.parent.span_id:016x}") == parent
    assert (f"{handshake.context.trace_id:032x}" == TRACE) == (parent is not None)


async def test_what_is_left_out_has_nothing_in_it() -> None:
    for traces, traceparent in ((Traces(ALWAYS_OFF), None), (Traces(), TRACEPARENT[:-1] + "0")):
        span = traces.tracer.begin("handshake", since=trio.current_time(), parent=traceparent)
        assert span is NO_SPAN
        with span.child("subscribe") as child:
            child.note(a=1)
            child.fail("b")
        span.end()
        assert traces.spans == ()


async def test_what_is_off_is_nobodys() -> None:
    assert not NO_TRACES.recording
    assert NO_TRACES.begin("delivery", since=0.0, clients=3) is NO_SPAN
    assert NO_SPAN.child("read") is NO_SPAN


# -- the provider ------------------------------------------------------------------------------------------------------


class Stuck(SpanExporter):
    """A collector that takes nothing and says nothing, until it is let go."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.let_go = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        del spans
        self.asked.set()
        assert self.let_go.wait(PATIENCE)
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Nothing to do."""


async def test_the_end_sends_what_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel, "CLOSE_TIMEOUT", PATIENCE)
    exporter, logbook = InMemorySpanExporter(), Logbook()
    with open_traces("statusd", logbook.log, make_exporter=lambda: exporter) as tracer:
        tracer.begin("delivery", since=trio.current_time(), parent=TRACEPARENT).end()
    [span] = exporter.get_finished_spans()
    assert span.name == "delivery"
    [line] = logbook.lines
    assert (line["msg"], line["instance"]) == ("sending traces", span.resource.attributes["service.instance.id"])


async def test_the_end_does_not_wait_for_a_collector_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel, "CLOSE_TIMEOUT", 0.01)
    stuck, logbook = Stuck(), Logbook()
    with open_traces("statusd", logbook.log, make_exporter=lambda: stuck) as tracer:
        tracer.begin("delivery", since=trio.current_time(), parent=TRACEPARENT).end()
    [line] = logbook.at_least("warn")
    assert line["msg"] == "traces not sent"
    assert stuck.asked.wait(PATIENCE)
    # Its thread is still there, and what it says at last is nothing for standard error.
    HEARD.error("Failed to export")
    assert [line["error"] for line in logbook.said("opentelemetry warned")] == ["Failed to export"]
    stuck.let_go.set()


async def test_a_collector_that_is_stuck_costs_the_loop_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel, "CLOSE_TIMEOUT", PATIENCE)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    stuck, logbook = Stuck(), Logbook()
    with open_traces("statusd", logbook.log, make_exporter=lambda: stuck) as tracer:
        for _ in range(100):
            # Would it wait for the exporter, it would wait for ever.
            tracer.begin("delivery", since=trio.current_time(), parent=TRACEPARENT).end()
        stuck.let_go.set()
    [line] = logbook.said("opentelemetry warned")
    assert "Queue full" in line["error"]


def test_complaints_are_no_flood() -> None:
    logbook, now = Logbook(), [1000.0]
    complaints = otel._Complaints(logbook.log, lambda: now[0])
    HEARD.addHandler(complaints)
    try:
        for number in range(500):
            HEARD.error("Failed to export %s batch", f"\x1b{number}")
        now[0] += QUIET
        HEARD.error("Exception while exporting", exc_info=OSError("no route"))
        HEARD.info("of no interest")
    finally:
        HEARD.removeHandler(complaints)
    first, second = logbook.said("opentelemetry warned")
    assert (first["error"], first["kept_back"]) == ("Failed to export \\u001b0 batch", 0)
    assert (second["error"], second["kept_back"]) == ("Exception while exporting OSError: no route", 499)


def test_what_the_sdk_says_is_heard_for_the_block_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel, "CLOSE_TIMEOUT", PATIENCE)
    handlers, propagate = list(HEARD.handlers), HEARD.propagate
    logbook = Logbook()
    with open_traces("statusd", logbook.log, make_exporter=InMemorySpanExporter):
        logging.getLogger("opentelemetry.sdk.trace").warning("odd")
        assert not HEARD.propagate
    assert [line["error"] for line in logbook.said("opentelemetry warned")] == ["odd"]
    assert (list(HEARD.handlers), HEARD.propagate) == (handlers, propagate)


def test_a_variable_that_can_not_be_used_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "half")
    handlers = list(HEARD.handlers)
    with pytest.raises(ValueError, match="half"), open_traces("statusd", Logbook().log):
        raise AssertionError("opened")
    assert (list(HEARD.handlers), HEARD.propagate) == (handlers, True)


# -- the variables -----------------------------------------------------------------------------------------------------


def test_a_process_says_who_it_is() -> None:
    first, second = (dict(describe_process("statusd", None).attributes) for _ in range(2))
    assert (first["service.name"], first["process.pid"]) == ("statusd", os.getpid())
    assert "worker" not in first
    assert first["service.instance.id"] != second["service.instance.id"]


def test_the_operators_word_goes_first_but_no_two_workers_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "runs")
    monkeypatch.setenv(
        "OTEL_RESOURCE_ATTRIBUTES", "host.name=blue,deployment.environment.name=test,service.instance.id=a"
    )
    workers: list[dict[str, Any]] = [dict(describe_process("statusd", number).attributes) for number in (1, 2)]
    for number, said in enumerate(workers, 1):
        assert (said["service.name"], said["host.name"], said["worker"]) == ("runs", "blue", number)
        assert said["deployment.environment.name"] == "test"
        assert said["service.instance.id"] == f"a-{number}"
    assert describe_process("statusd", None).attributes["service.instance.id"] == "a"


def test_a_tenth_is_sent_unless_a_variable_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    def described() -> str:
        sampler = chosen_sampler()
        return "" if sampler is None else sampler.get_description()

    assert f"root:TraceIdRatioBased{{{RATIO}}}" in described()
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    assert "root:TraceIdRatioBased{0.5}" in described()
    for bad in ("half", "2", "nan"):
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", bad)
        with pytest.raises(ValueError, match=f"OTEL_TRACES_SAMPLER_ARG='{bad}' is not a number from 0 to 1"):
            chosen_sampler()
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    assert described() == ""


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "http://localhost:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/"}, "http://collector:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/otel"}, "http://collector:4318/otel/v1/traces"),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x/t", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector"},
            "http://x/t",
        ),
    ],
)
def test_the_endpoint_that_is_shown_is_the_exporters(
    variables: dict[str, str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    exporter: Any = OTLPSpanExporter()
    assert (endpoint(), exporter._endpoint) == (url, url)
    exporter.shutdown()
