"""Topics and the hub between a link and its clients (common/fanout.py), the link being a double that remembers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
import pytest
import trio
import trio.testing
from redis.exceptions import NoPermissionError, TimeoutError  # noqa: A004 - redis-py's name

from common.disconnect import INTERNAL_ERROR, REDIS_UNAVAILABLE, REFUSED_BY_REDIS, Disconnect
from common.fanout import BATCH, LINGER, Hub, Topic
from common.histogram import Histogram
from common.metrics import Counters
from common.redis.subscription import Subscription
from common.web.frames import Frames, text_frame
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trio.testing import MockClock

    from common.redis.links import RedisLink
    from common.web.peer import Peer

LOG: Final = b"run:log"
OTHER: Final = b"run:other"


class FakeLink:
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bytes]] = []
        self.subscriptions: dict[bytes, Subscription] = {}
        self.closed = False
        self.online = True

    def subscribe(self, channel: bytes) -> Subscription:
        self.calls.append(("subscribe", channel))
        return self.subscriptions.setdefault(channel, Subscription(channel))

    def unsubscribe(self, channel: bytes) -> None:
        self.calls.append(("unsubscribe", channel))
        self.subscriptions.pop(channel).close()

    async def unsubscribe_all(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed = True

    async def wait_active(self, subscription: Subscription) -> None:
        with trio.move_on_after(1):
            await subscription.wait_settled()
            if subscription.refused is not None:
                raise subscription.refused
            return
        raise TimeoutError


class FakeWire:
    """Takes everything."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, int]] = []

    def send_nowait(self, data: bytes, frames: int = 1) -> None:
        self.sent.append((data, frames))


class FakePeer:
    """A client as a topic sees it."""

    def __init__(self, *, opened: bool = True, wants_gap: bool = False) -> None:
        self.wire = FakeWire()
        self.opened = opened
        self.wants_gap = wants_gap
        self.ends: list[Disconnect] = []

    def end(self, disconnect: Disconnect) -> None:
        self.ends.append(disconnect)

    def as_peer(self) -> Peer:
        return cast("Peer", self)


class Plain(Topic):
    """Each payload is a frame; `drop` none, `bug` raises."""

    async def receive(self, payloads: list[bytes], read_at: float) -> int:
        del read_at
        if b"bug" in payloads:
            raise LookupError("a bug in a topic")
        kept = [text_frame(payload) for payload in payloads if payload != b"drop"]
        return len(kept) * await self.broadcast(Frames(b"".join(kept), len(kept))) if kept else 0


@attrs.define
class Setting:
    hub: Hub
    link: FakeLink
    counters: Counters
    logbook: Logbook

    def join(self, channel: bytes = LOG, **options: bool) -> tuple[FakePeer, Topic]:
        peer = FakePeer(**options)
        return peer, self.hub.join(channel, peer.as_peer())

    def leave(self, peer: FakePeer, topic: Topic) -> None:
        self.hub.leave(topic, peer.as_peer())


def make_setting() -> Setting:
    link, counters, logbook = FakeLink(), Counters(delivery=Histogram()), Logbook()
    hub = Hub(
        make_link=lambda _hub: cast("RedisLink", link),
        make_topic=lambda _link: Plain,
        counters=counters,
        log=logbook.log,
    )
    return Setting(hub, link, counters, logbook)


@asynccontextmanager
async def running() -> AsyncIterator[Setting]:
    """A hub whose `run` runs."""
    setting = make_setting()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(setting.hub.run)
        await trio.testing.wait_all_tasks_blocked()
        yield setting
        nursery.cancel_scope.cancel()


# -- topics come and go ------------------------------------------------------------------------------------------------


async def test_one_subscription_serves_every_client_of_a_channel() -> None:
    setting = make_setting()
    topics = {setting.join()[1] for _ in range(100)} | {setting.join(OTHER)[1]}
    assert setting.link.calls == [("subscribe", LOG), ("subscribe", OTHER)]
    assert len(topics) == setting.hub.active == 2


async def test_a_deserted_channel_lingers_exactly_so_long(autojump_clock: MockClock) -> None:
    async with running() as setting:
        peer, topic = setting.join()
        await trio.sleep(100)
        setting.leave(peer, topic)
        assert setting.hub.active == 0
        await trio.sleep(LINGER - 0.001)
        assert setting.link.calls == [("subscribe", LOG)]
        await trio.sleep(0.002)
        assert setting.link.calls == [("subscribe", LOG), ("unsubscribe", LOG)]
        await trio.sleep(100)
        assert len(setting.link.calls) == 2


async def test_whoever_comes_back_in_time_finds_the_topic_as_it_was(autojump_clock: MockClock) -> None:
    async with running() as setting:
        peer, topic = setting.join()
        for _ in range(20):
            setting.leave(peer, topic)
            await trio.sleep(LINGER * 0.9)
            peer, again = setting.join()
            assert again is topic
            await trio.sleep(LINGER * 0.9)
        assert setting.link.calls == [("subscribe", LOG)]
        assert setting.hub.active == 1


async def test_each_channel_lingers_for_itself(autojump_clock: MockClock) -> None:
    async with running() as setting:
        visits = [setting.join(b"run:%d" % number) for number in range(10)]
        for peer, topic in visits:
            setting.leave(peer, topic)
            await trio.sleep(1)
        gone = [channel for call, channel in setting.link.calls if call == "unsubscribe"]
        assert gone == [b"run:%d" % number for number in range(5)] or gone == [
            b"run:%d" % number for number in range(6)
        ]
        await trio.sleep(LINGER)
        assert len([call for call, _ in setting.link.calls if call == "unsubscribe"]) == 10


async def test_leaving_twice_or_after_the_end_is_no_error(autojump_clock: MockClock) -> None:
    async with running() as setting:
        peer, topic = setting.join()
        setting.leave(peer, topic)
        setting.leave(peer, topic)
        await trio.sleep(LINGER + 1)
        setting.leave(peer, topic)
        other, topic = setting.join()
        await setting.hub.aclose()
        setting.leave(other, topic)
        await trio.sleep(LINGER + 1)
        assert setting.link.closed
        assert [call for call, _ in setting.link.calls].count("unsubscribe") == 1


async def test_leaving_a_second_time_does_not_lengthen_the_linger(autojump_clock: MockClock) -> None:
    async with running() as setting:
        peer, topic = setting.join()
        setting.leave(peer, topic)
        await trio.sleep(LINGER - 1)
        setting.leave(peer, topic)
        await trio.sleep(1.5)
        assert [call for call, _ in setting.link.calls].count("unsubscribe") == 1


async def test_a_late_goodbye_to_an_old_topic_does_not_touch_the_new_one(autojump_clock: MockClock) -> None:
    async with running() as setting:
        peer, old = setting.join()
        setting.leave(peer, old)
        await trio.sleep(LINGER + 1)
        _, new = setting.join()
        assert new is not old
        setting.leave(peer, old)
        await trio.sleep(LINGER + 1)
        assert setting.hub.active == 1


async def test_readiness_is_the_subscriptions(autojump_clock: MockClock) -> None:
    setting = make_setting()
    _, topic = setting.join()
    with pytest.raises(TimeoutError):
        await setting.hub.wait_ready(topic)
    setting.link.subscriptions[LOG].activate()
    await setting.hub.wait_ready(topic)


async def test_a_client_that_comes_back_begins_the_linger_anew(autojump_clock: MockClock) -> None:
    async with running() as setting:
        (first, topic), (other, other_topic) = setting.join(), setting.join(OTHER)
        setting.leave(first, topic)
        await trio.sleep(LINGER / 2)
        setting.leave(other, other_topic)
        second, _ = setting.join()
        setting.leave(second, topic)
        await trio.sleep(LINGER * 0.99)
        assert set(setting.hub.topics) == {topic, other_topic}, "at the first one's time nobody was let go of"
        await trio.sleep(LINGER * 0.02)
        assert setting.hub.topics == []
        assert [call for call in setting.link.calls if call[0] == "unsubscribe"] == [
            ("unsubscribe", OTHER),
            ("unsubscribe", LOG),
        ]


async def test_a_topic_refused_while_it_lingered_takes_nothing_from_its_successor(
    autojump_clock: MockClock,
) -> None:
    async with running() as setting:
        peer, topic = setting.join()
        setting.leave(peer, topic)
        setting.link.subscriptions[LOG].refuse(NoPermissionError("NOPERM"))
        again, _ = setting.join()
        setting.leave(again, topic)
        _, successor = setting.join()
        await trio.sleep(LINGER * 2)
        assert setting.hub.topics == [successor]
        assert successor is not topic


async def test_a_refused_channel_is_asked_for_anew_by_the_next_client(autojump_clock: MockClock) -> None:
    async with running() as setting:
        (one, topic), (two, _), (other, _) = setting.join(), setting.join(), setting.join(OTHER)
        error = NoPermissionError("NOPERM")
        setting.link.subscriptions[LOG].refuse(error)
        setting.hub.on_refused(LOG, error)
        setting.hub.on_refused(b"run:unknown", error)
        assert (one.ends, two.ends, other.ends) == ([REFUSED_BY_REDIS], [REFUSED_BY_REDIS], [])
        with pytest.raises(NoPermissionError):
            await setting.hub.wait_ready(topic)
        setting.leave(one, topic)
        setting.leave(two, topic)
        setting.join()
        assert [call for call in setting.link.calls if call[1] == LOG] == [
            ("subscribe", LOG),
            ("unsubscribe", LOG),
            ("subscribe", LOG),
        ]


def test_who_does_not_follow_a_topic_may_be_let_go_of() -> None:
    topic, peer = Plain(LOG), FakePeer().as_peer()
    topic.discard(peer)
    topic.add(peer)
    topic.discard(peer)
    topic.discard(peer)
    assert not topic.peers


# -- messages ----------------------------------------------------------------------------------------------------------


async def test_messages_are_joined_and_sent_in_order_to_their_channel(autojump_clock: MockClock) -> None:
    setting = make_setting()
    peers = [setting.join()[0] for _ in range(3)]
    other, _ = setting.join(OTHER)
    await setting.hub.on_messages({LOG: [b"1", b"drop", b"2"], OTHER: [b"drop"], b"run:nobody": [b"3"]}, 0.0)
    for peer in peers:
        assert peer.wire.sent == [(text_frame(b"1") + text_frame(b"2"), 2)]
        assert peer.wire.sent[0][0] is peers[0].wire.sent[0][0], "one buffer for all"
    assert other.wire.sent == []
    assert setting.counters.messages_sent == 6


async def test_a_topic_without_clients_receives_nothing() -> None:
    setting = make_setting()
    peer, topic = setting.join()
    setting.leave(peer, topic)
    await setting.hub.on_messages({LOG: [b"bug"]}, 0.0)
    assert not setting.logbook.lines


async def test_a_topic_without_clients_keeps_nothing_from_the_next_one() -> None:
    setting = make_setting()
    deserted, topic = setting.join()
    other, _ = setting.join(OTHER)
    setting.leave(deserted, topic)
    await setting.hub.on_messages({b"run:nobody": [b"1"], LOG: [b"2"], OTHER: [b"3"]}, 0.0)
    assert (deserted.wire.sent, other.wire.sent) == ([], [(text_frame(b"3"), 1)])


async def test_a_bug_in_one_topic_reaches_no_other() -> None:
    setting = make_setting()
    (bad, _), (good, _) = setting.join(), setting.join(OTHER)
    await setting.hub.on_messages({LOG: [b"bug"], OTHER: [b"1"]}, 0.0)
    assert (bad.ends, good.ends) == ([INTERNAL_ERROR], [])
    assert good.wire.sent == [(text_frame(b"1"), 1)]
    (line,) = setting.logbook.at_least("error")
    assert "LookupError" in line["traceback"]


async def test_a_long_list_of_clients_lets_others_run() -> None:
    setting = make_setting()
    peers = [setting.join()[0] for _ in range(BATCH * 8 + 1)]
    done: list[int] = []

    async def watch() -> None:
        while not peers[-1].wire.sent:
            done.append(sum(bool(peer.wire.sent) for peer in peers))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await trio.lowlevel.checkpoint()
        await setting.hub.on_messages({LOG: [b"1"]}, 0.0)
    assert len({count for count in done if 0 < count < len(peers)}) >= 2
    assert {len(peer.wire.sent) for peer in peers} == {1}


async def test_clients_that_come_and_go_during_a_broadcast_upset_nothing() -> None:
    """Whoever comes in the middle was not there when the message was; the next one is theirs."""
    setting = make_setting()
    visits = [setting.join() for _ in range(BATCH * 2)]
    newcomers: list[FakePeer] = []

    async def disturb() -> None:
        await trio.lowlevel.checkpoint()
        for peer, topic in visits[::2]:
            setting.leave(peer, topic)
        newcomers.append(setting.join()[0])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(disturb)
        await setting.hub.on_messages({LOG: [b"1"]}, 0.0)
    assert len(newcomers) == 1
    await setting.hub.on_messages({LOG: [b"2"]}, 0.0)
    stayed = [peer for peer, _ in visits[1::2]]
    assert all([data for data, _ in peer.wire.sent] == [text_frame(b"1"), text_frame(b"2")] for peer in stayed)
    assert newcomers[0].wire.sent[-1] == (text_frame(b"2"), 1)
    assert all(len(peer.wire.sent) <= 1 for peer, _ in visits[::2])


async def test_delivery_is_observed_from_the_read_to_the_last_client(autojump_clock: MockClock) -> None:
    setting = make_setting()
    setting.join()
    await trio.sleep(3)
    await setting.hub.on_messages({LOG: [b"1"]}, 1.0)
    assert setting.counters.delivery is not None
    assert setting.counters.delivery.total == 2.0
    assert sum(setting.counters.delivery.counts) == 1


# -- outages -----------------------------------------------------------------------------------------------------------


async def test_a_gap_is_told_to_those_who_asked_and_counted_per_topic() -> None:
    setting = make_setting()
    asked, silent = setting.join(wants_gap=True)[0], setting.join()[0]
    waiting = setting.join(opened=False, wants_gap=True)[0]
    unopened = setting.join(OTHER, opened=False, wants_gap=True)[0]
    setting.hub.on_active(LOG, None)
    assert (asked.wire.sent, setting.counters.gaps) == ([], 0)
    for channel in (LOG, OTHER, b"run:nobody"):
        setting.hub.on_active(channel, 2.5)
    assert asked.wire.sent == [(text_frame(b'{"type":"gap","seconds":2.5}'), 1)]
    assert silent.wire.sent == waiting.wire.sent == unopened.wire.sent == []
    assert setting.counters.gaps == 1


@pytest.mark.parametrize("change", [lambda hub: hub.on_lost(), lambda hub: hub.on_online(None)], ids=["lost", "online"])
async def test_every_change_of_the_link_is_announced_and_ends_nobody(change: Callable[[Any], None]) -> None:
    setting = make_setting()
    peer, _ = setting.join()
    event = setting.hub.link_changed
    change(setting.hub)
    assert event.is_set()
    assert not setting.hub.link_changed.is_set()
    assert peer.ends == []


async def test_after_the_last_retry_every_client_of_every_topic_ends() -> None:
    setting = make_setting()
    peers = [setting.join(b"run:%d" % (number % 3))[0] for number in range(9)]
    setting.hub.on_exhausted()
    assert all(peer.ends == [REDIS_UNAVAILABLE] for peer in peers)
