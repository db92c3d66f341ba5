"""Topics that have a task, and what the hub says of those that fail (common/fanout.py)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import pytest
import trio
from redis.exceptions import NoPermissionError
from trio.testing import wait_all_tasks_blocked

from common.disconnect import INTERNAL_ERROR, REFUSED_BY_REDIS
from common.fanout import LINGER, Hub, Topic
from common.histogram import Histogram
from common.metrics import Counters
from common.web.frames import Frames
from tests.support.logbook import Logbook
from tests.unit.common.test_fanout import FakeLink, FakePeer

if TYPE_CHECKING:
    from trio.testing import MockClock

    from common.redis.links import RedisLink

ODD = b"a\nb"
"""A channel that must not reach a log as it is."""


class Task(Topic):
    """Notes that its task runs and how it ends; `fail` makes a bug of it."""

    needs_task = True

    def __init__(self, channel: bytes, made: list[Task]) -> None:
        super().__init__(channel)
        self.running = False
        self.runs = 0
        self.resyncs = 0
        self.fail = trio.Event()
        made.append(self)

    async def receive(self, payloads: list[bytes], read_at: float) -> int:
        raise LookupError(f"a bug with {payloads!r} at {read_at}")

    def resync(self) -> None:
        self.resyncs += 1

    async def run(self) -> None:
        self.runs += 1
        self.running = True
        try:
            await self.fail.wait()
            raise LookupError("a bug in a task")
        finally:
            self.running = False


class House:
    """A hub of such topics."""

    def __init__(self) -> None:
        self.link, self.logbook, self.made = FakeLink(), Logbook(), list[Task]()
        self.counters = Counters(delivery=Histogram())
        self.hub = Hub(
            make_link=lambda _hub: cast("RedisLink", self.link),
            make_topic=lambda _link: partial(Task, made=self.made),
            counters=self.counters,
            log=self.logbook.log,
        )

    def join(self, channel: bytes) -> tuple[FakePeer, Task]:
        peer = FakePeer()
        return peer, cast("Task", self.hub.join(channel, peer.as_peer()))


async def test_a_topics_task_runs_from_its_first_client_on() -> None:
    house = House()
    _, early = house.join(b"early")
    assert not early.running, "the hub does not run yet"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.hub.run)
        await wait_all_tasks_blocked()
        _, late = house.join(b"late")
        house.join(b"late")
        await wait_all_tasks_blocked()
        assert (early.running, early.runs, late.running, late.runs) == (True, 1, True, 1)
        nursery.cancel_scope.cancel()
    assert not early.running


async def test_it_ends_when_the_topic_is_let_go_of(autojump_clock: MockClock) -> None:
    house = House()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.hub.run)
        peer, topic = house.join(b"run")
        other, _ = house.join(b"other")
        house.hub.leave(topic, peer.as_peer())
        await trio.sleep(LINGER - 0.1)
        assert (topic.running, house.hub.active, len(house.hub.topics)) == (True, 1, 2)
        assert (house.hub.clients(b"run"), house.hub.clients(b"other"), house.hub.clients(b"none")) == (0, 1, 0)
        await trio.sleep(0.2)
        assert (topic.running, house.hub.active, len(house.hub.topics)) == (False, 1, 1)
        assert house.link.calls[-1] == ("unsubscribe", b"run")
        assert other.ends == []
        nursery.cancel_scope.cancel()


async def test_a_task_that_fails_ends_its_clients_and_the_next_one_makes_the_topic_anew() -> None:
    house = House()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.hub.run)
        peer, topic = house.join(ODD)
        other, well = house.join(b"well")
        await wait_all_tasks_blocked()
        topic.fail.set()
        await wait_all_tasks_blocked()
        assert (peer.ends, other.ends, well.running) == ([INTERNAL_ERROR], [], True)
        (line,) = house.logbook.at_least("error")
        assert (line["msg"], line["channel"]) == ("topic failed", r"a\u000ab")
        assert "a bug in a task" in line["traceback"]
        assert house.link.calls[-1] == ("unsubscribe", ODD)
        _, successor = house.join(ODD)
        await wait_all_tasks_blocked()
        assert (successor is topic, successor.running) == (False, True)
        nursery.cancel_scope.cancel()


async def test_who_leaves_a_topic_that_failed_takes_nothing_from_its_successor(autojump_clock: MockClock) -> None:
    house = House()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.hub.run)
        peer, topic = house.join(b"run")
        topic.fail.set()
        await wait_all_tasks_blocked()
        assert peer.ends == [INTERNAL_ERROR]
        _, successor = house.join(b"run")
        house.hub.leave(topic, peer.as_peer())
        await trio.sleep(LINGER + 1)
        assert house.hub.topics == [successor]
        nursery.cancel_scope.cancel()


async def test_closing_ends_every_task_and_gives_everything_back() -> None:
    house = House()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.hub.run)
        topics = [house.join(channel)[1] for channel in (b"a", b"b")]
        await wait_all_tasks_blocked()
        await house.hub.aclose()
        await wait_all_tasks_blocked()
        assert [topic.running for topic in topics] == [False, False]
        assert (house.hub.topics, house.link.closed) == ([], True)
        nursery.cancel_scope.cancel()


async def test_messages_that_make_trouble_are_told_with_their_channel() -> None:
    house = House()
    peer, _ = house.join(ODD)
    await house.hub.on_messages({ODD: [b"1"], b"unknown": [b"2"]}, 7.0)
    (line,) = house.logbook.at_least("error")
    assert (line["msg"], line["channel"]) == ("messages could not be handled", r"a\u000ab")
    assert "a bug with [b'1'] at 7.0" in line["traceback"]
    assert peer.ends == [INTERNAL_ERROR]


async def test_a_refusal_is_told_with_its_channel_and_ends_its_clients_only() -> None:
    house = House()
    peer, _ = house.join(ODD)
    other, _ = house.join(b"other")
    house.hub.on_refused(ODD, NoPermissionError("NOPERM\nno"))
    house.hub.on_refused(b"unknown", NoPermissionError("NOPERM"))
    first, second = house.logbook.at_least("warn")
    assert (first["msg"], first["channel"], first["error"]) == ("subscription refused", r"a\u000ab", r"NOPERM\u000ano")
    assert second["channel"] == "unknown"
    assert (peer.ends, other.ends) == ([REFUSED_BY_REDIS], [])


@pytest.mark.parametrize("online", [True, False])
async def test_an_acknowledgement_while_the_link_is_not_ready_is_no_moment_to_ask(online: bool) -> None:
    house = House()
    _, topic = house.join(b"run")
    house.link.online = online
    house.hub.on_active(b"run", None)
    house.hub.on_active(b"unknown", 3.0)
    assert topic.resyncs == int(online)
    house.hub.on_online(3.0)
    assert topic.resyncs == int(online) + 1


async def test_a_gap_is_counted_where_somebody_hears_of_the_run() -> None:
    house = House()
    peer, _ = house.join(b"run")
    peer.opened = False
    house.hub.on_active(b"run", 2.0)
    assert house.counters.gaps == 0
    house.join(b"run")
    house.hub.on_active(b"run", 2.0)
    house.hub.on_active(b"run", None)
    assert house.counters.gaps == 1


async def test_topics_are_made_with_the_hubs_own_link() -> None:
    link, given = FakeLink(), list[object]()

    def make_link(hub: object) -> RedisLink:
        given.append(hub)
        return cast("RedisLink", link)

    def make_topic(of: RedisLink) -> partial[Task]:
        given.append(of)
        return partial(Task, made=[])

    hub = Hub(
        make_link=make_link,
        make_topic=make_topic,
        counters=Counters(),
        log=Logbook().log,
    )
    assert given == [hub, link]


async def test_who_stays_is_told_when_another_has_left_between_two_messages() -> None:
    house = House()
    (gone, topic), (left, _) = house.join(b"run"), house.join(b"run")
    assert await topic.broadcast(Frames(b"1", 1)) == 2
    house.hub.leave(topic, gone.as_peer())
    assert await topic.broadcast(Frames(b"2", 1)) == 1
    assert (gone.wire.sent, left.wire.sent) == ([(b"1", 1)], [(b"1", 1), (b"2", 1)])
    late, _ = house.join(b"run")
    assert await topic.broadcast(Frames(b"3", 2)) == 2
    assert late.wire.sent == [(b"3", 2)]
