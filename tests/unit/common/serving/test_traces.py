"""What a trace tells of a handshake and of a message (common/serving, common/fanout)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from preflightd.daemon import PREFLIGHTD
from tests.support.client import handshake
from tests.support.service import CHANNEL, PATH, open_service
from tests.support.traces import PARENT, TRACE, TRACEPARENT, Traces, is_in, seconds

if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_a_handshake_is_traced_from_accept_to_101(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with open_service(tracer=traces.tracer) as running:
        client = running.arrive()
        await trio.sleep(1)
        running.redis.holding = True
        await client.send_raw(handshake(f"{PATH}?token=secret", {"traceparent": TRACEPARENT, "Cookie": "a=secret"}))
        await trio.sleep(0.5)
        running.redis.release()
        await client.wait(lambda client: client.status is not None)
        assert client.status == 101
        upgrade, subscribe = traces.one("handshake"), traces.one("subscribe")
        assert (seconds(upgrade), seconds(subscribe)) == (1.5, 0.5)
        assert is_in(subscribe, upgrade)
        assert upgrade.parent is not None
        assert (f"{upgrade.context.trace_id:032x}", f"{upgrade.parent.span_id:016x}") == (TRACE, PARENT)
        assert (upgrade.kind, subscribe.kind) == (SpanKind.SERVER, SpanKind.CLIENT)
        [accepted] = running.logbook.said("connection accepted")
        assert upgrade.attributes == {
            "connection": accepted["connection"],
            "run_id": "run",
            "channel": "log",
            "status": 101,
        }
        assert upgrade.status.status_code is StatusCode.UNSET
        assert "secret" not in f"{upgrade.to_json()}{subscribe.to_json()}"


async def test_who_finds_the_channel_subscribed_waits_for_nothing(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with open_service(tracer=traces.tracer) as running:
        for _ in range(3):
            await running.open()
        assert (len(traces.named("handshake")), len(traces.named("subscribe"))) == (3, 1)


async def test_a_refusal_says_why(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with open_service(tracer=traces.tracer, allowed_origins="example.gov") as running:
        foreign = await running.ask(headers={"Origin": "https://evil.example"})
        nameless = await running.ask("/nameless")
        running.redis.holding = True
        unanswered = await running.ask()
        assert [client.status for client in (foreign, nameless, unanswered)] == [403, 400, 503]
        running.redis.release()
    told = [(dict(span.attributes or {}), span.status.status_code) for span in traces.named("handshake")]
    assert [(said["status"], said["reason"], code) for said, code in told] == [
        (403, "origin", StatusCode.UNSET),
        (400, "bad_path", StatusCode.UNSET),
        (503, "redis_unavailable", StatusCode.ERROR),
    ]
    status = traces.one("subscribe").status
    assert (status.status_code, status.description) == (
        StatusCode.ERROR,
        "TimeoutError: no answer to SUBSCRIBE for 1s",
    )


async def test_a_handshake_that_is_cut_off_has_an_end_all_the_same(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with open_service(tracer=traces.tracer, redis_request_timeout="1h") as running:
        running.redis.holding = True
        client = running.arrive()
        await client.send_raw(handshake(PATH))
        await trio.testing.wait_all_tasks_blocked()
        assert traces.spans == ()
        running.scope.cancel()
        await running.stopped.wait()
    assert dict(traces.one("handshake").attributes or {})["cancelled"] is True
    assert dict(traces.one("subscribe").attributes or {})["cancelled"] is True


@pytest.mark.parametrize("path", ["/health", "/health/live", "/metrics", "/", PATH])
async def test_what_is_no_handshake_is_not_traced(path: str, autojump_clock: MockClock) -> None:
    traces = Traces()
    async with open_service(tracer=traces.tracer, metrics_enabled="true") as running:
        await running.get(path)
    assert traces.spans == ()


async def test_two_parents_are_none(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with open_service(tracer=traces.tracer) as running:
        client = running.arrive()
        twice = f"traceparent: {TRACEPARENT}\r\ntraceparent: {TRACEPARENT}\r\n\r\n"
        await client.send_raw(handshake(PATH).removesuffix(b"\r\n") + twice.encode())
        await client.wait(lambda client: client.status is not None)
        assert client.status == 101
    assert traces.one("handshake").parent is None


async def test_a_batch_is_one_span_however_many_clients_there_are(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with open_service(tracer=traces.tracer) as running:
        clients = [await running.open() for _ in range(5)]
        running.redis.publish(CHANNEL, b"one")
        running.redis.publish(CHANNEL, b"three")
        for client in clients:
            await client.wait(lambda client: len(client.messages) == 2)
        deliveries = traces.named("delivery")
        told = [dict(span.attributes or {}) for span in deliveries]
        assert sum(int(str(said["messages"])) for said in told) == 2
        assert sum(int(str(said["bytes"])) for said in told) == len("onethree")
        assert sum(int(str(said["frames"])) for said in told) == 10
        assert all((said["clients"], said["topics"], said["topic"]) == (5, 1, "run:log") for said in told)
        assert all(span.parent is None and span.kind is SpanKind.CONSUMER for span in deliveries)


async def test_a_batch_that_nobody_gets_is_not_traced(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with open_service(tracer=traces.tracer, max_payload="4") as running:
        client = await running.open()
        running.redis.publish(CHANNEL, b"x" * 5)
        await trio.testing.wait_all_tasks_blocked()
        await client.send_close()
        await client.wait_ended()
        # The subscription lingers.
        assert running.redis.publish(CHANNEL, b"x") == 1
        await trio.testing.wait_all_tasks_blocked()
        assert traces.named("delivery") == []


async def test_what_the_sampler_leaves_out_is_served_all_the_same(autojump_clock: MockClock) -> None:
    traces = Traces(ALWAYS_OFF)
    async with open_service(tracer=traces.tracer) as running:
        client = await running.open()
        running.redis.publish(CHANNEL, b"one")
        await client.wait(lambda client: len(client.messages) == 1)
    assert traces.spans == ()


async def test_preflightd_traces_its_reads(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with open_service(of=PREFLIGHTD, tracer=traces.tracer) as running:
        client = await running.open("/run")
        await client.wait(lambda client: len(client.messages) == 1)
        handshakes, refresh = traces.one("handshake"), traces.one("refresh")
        assert dict(handshakes.attributes or {})["run_id"] == "run"
        # It is read for whoever follows, not for this client.
        assert refresh.parent is None
        children = [traces.one(name) for name in ("read", "evaluate", "write")]
        assert all(is_in(child, refresh) for child in children)
        assert traces.named("delivery") == []
