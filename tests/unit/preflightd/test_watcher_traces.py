"""What a trace tells of a run's hash (preflightd/watcher.py): notification, read, evaluation, frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from opentelemetry.trace import StatusCode
from redis.exceptions import ResponseError

from common.redis.errors import ReplyTooLargeError
from tests.support.traces import Traces, is_in, seconds
from tests.support.watching import LATENCY, running

if TYPE_CHECKING:
    from redis.exceptions import RedisError
    from trio.testing import MockClock


async def test_a_change_is_traced_from_its_notification_to_its_frame(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with running(tracer=traces.tracer) as setting:
        peers = [setting.open() for _ in range(3)]
        await trio.sleep(1)
        # The read has to wait for its turn.
        setting.link.queue = 0.25
        await setting.write()
        await trio.sleep(1)
        first, refresh = traces.named("refresh")
        assert (first.attributes, refresh.attributes) == (
            {"run_id": "run", "notified": False, "changed": False},
            {"run_id": "run", "notified": True, "changed": True},
        )
        read, evaluate, write = (traces.named(name)[-1] for name in ("read", "evaluate", "write"))
        assert [seconds(refresh), seconds(read)] == pytest.approx([0.25 + LATENCY] * 2)
        assert all(is_in(child, refresh) for child in (read, evaluate, write))
        assert evaluate.attributes == {"fields": 1}
        assert write.attributes == {"bytes": len(peers[0].wire.sent[-1]), "clients": 3}


async def test_what_comes_during_a_read_waits_for_it_and_is_seen_to(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with running(tracer=traces.tracer) as setting:
        setting.open()
        await trio.sleep(1)
        setting.link.latency = 3.0
        await setting.write(value=b"1")
        await trio.sleep(1)
        await setting.write(value=b"2")
        await trio.sleep(10)
        _, first, second = traces.named("refresh")
        assert seconds(first) == pytest.approx(3.0)
        # From its notification: two seconds of the read before, the pause, its own read.
        assert 5.0 < seconds(second) < 5.1


async def test_a_resync_that_finds_nothing_writes_nothing(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with running(30.0, tracer=traces.tracer) as setting:
        setting.open()
        await trio.sleep(100)
        resyncs = traces.named("refresh")[1:]
        assert len(resyncs) >= 3
        assert all(span.attributes == {"run_id": "run", "notified": False, "changed": False} for span in resyncs)
        assert len(traces.named("write")) == 1


async def test_reads_that_fail_are_parts_of_one_refresh(autojump_clock: MockClock) -> None:
    traces = Traces()
    async with running(tracer=traces.tracer) as setting:
        setting.open()
        await trio.sleep(1)
        setting.link.errors[b"run"] = ResponseError("ERR busy")
        await setting.write()
        await trio.sleep(10)
        assert len(traces.named("refresh")) == 1
        del setting.link.errors[b"run"]
        await trio.sleep(10)
        _, refresh = traces.named("refresh")
        *failed, last = [span for span in traces.named("read") if is_in(span, refresh)]
        assert len(failed) >= 2
        assert {(span.status.status_code, span.status.description) for span in failed} == {
            (StatusCode.ERROR, "ResponseError: ERR busy")
        }
        assert (last.status.status_code, refresh.status.status_code) == (StatusCode.UNSET, StatusCode.UNSET)


@pytest.mark.parametrize(
    "error",
    [ReplyTooLargeError("HGETALL", 8), ResponseError("WRONGTYPE no hash")],
    ids=lambda error: type(error).__name__,
)
async def test_a_hash_that_can_not_be_had_fails_the_refresh(error: RedisError, autojump_clock: MockClock) -> None:
    traces = Traces()
    async with running(tracer=traces.tracer) as setting:
        setting.link.errors[b"run"] = error
        setting.open()
        await trio.sleep(1)
        refresh = traces.one("refresh")
        assert (refresh.status.status_code, refresh.status.description) == (StatusCode.ERROR, str(error))
        assert traces.one("read").status.status_code is StatusCode.ERROR
