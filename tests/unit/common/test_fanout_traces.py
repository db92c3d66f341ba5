"""What a trace tells of a batch from Redis and of a subscription (common/fanout.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
import trio
from redis.exceptions import TimeoutError  # noqa: A004 - redis-py's name

from common.fanout import Hub
from common.metrics import Counters
from tests.support.logbook import Logbook
from tests.support.traces import Traces, is_in, seconds
from tests.unit.common.test_fanout import LOG, OTHER, FakeLink, FakePeer, Plain

if TYPE_CHECKING:
    from trio.testing import MockClock

    from common.fanout import Topic
    from common.redis.link import Link

ODD = b"a\nb"
"""A channel that is not told as it is."""


class Traced:
    """A hub whose traces are kept."""

    def __init__(self) -> None:
        self.link, self.traces = FakeLink(), Traces()
        self.hub = Hub(
            make_link=lambda _hub: cast("Link", self.link),
            make_topic=lambda _link: Plain,
            counters=Counters(),
            log=Logbook().log,
            tracer=self.traces.tracer,
        )

    def join(self, channel: bytes) -> Topic:
        return self.hub.join(channel, FakePeer().as_peer())


async def test_a_batch_is_traced_with_what_clients_got_of_it(autojump_clock: MockClock) -> None:
    traced = Traced()
    for channel in (LOG, LOG, OTHER):
        traced.join(channel)
    await trio.sleep(3)
    await traced.hub.on_messages({b"run:nobody": [b"1"], LOG: [b"22", b"drop"], OTHER: [b"333"]}, 1.0)
    span = traced.traces.one("delivery")
    assert dict(span.attributes or {}) == {"topics": 2, "messages": 3, "bytes": 9, "clients": 3, "frames": 3}
    assert seconds(span) == 2.0


async def test_a_batch_of_one_topic_names_it() -> None:
    traced = Traced()
    traced.join(ODD)
    await traced.hub.on_messages({ODD: [b"1", b"2"]}, trio.current_time())
    span = traced.traces.one("delivery")
    assert dict(span.attributes or {}) == {
        "topics": 1,
        "messages": 2,
        "bytes": 2,
        "clients": 1,
        "frames": 2,
        "topic": r"a\u000ab",
    }


async def test_a_batch_of_which_nobody_got_anything_is_not_traced() -> None:
    traced = Traced()
    traced.join(LOG)
    await traced.hub.on_messages({LOG: [b"drop"]}, trio.current_time())
    assert traced.traces.spans == ()


async def test_a_wait_for_redis_is_a_part_of_what_waits(autojump_clock: MockClock) -> None:
    traced = Traced()
    topic = traced.join(LOG)
    with traced.traces.tracer.begin("handshake", since=trio.current_time()) as span, pytest.raises(TimeoutError):
        await traced.hub.wait_ready(topic, span)
    wait = traced.traces.one("subscribe")
    assert seconds(wait) == 1.0
    assert is_in(wait, traced.traces.one("handshake"))


async def test_a_subscription_that_is_there_is_no_wait() -> None:
    traced = Traced()
    topic = traced.join(LOG)
    traced.link.subscriptions[LOG].activate()
    with traced.traces.tracer.begin("handshake", since=trio.current_time()) as span:
        await traced.hub.wait_ready(topic, span)
    assert [span.name for span in traced.traces.spans] == ["handshake"]
