"""One run hash and its clients (preflightd/watcher.py): the first frame, changes, resyncs."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing

from common.fanout import BATCH
from preflightd.evaluator import digest
from preflightd.watcher import SETTLE
from tests.support.watching import FIELD, LATENCY, RUN, FakePeer, check_no_repeats, frame_of, running

if TYPE_CHECKING:
    from trio.testing import MockClock

    from common.web.peer import Peer

# -- the first frame ---------------------------------------------------------------------------------------------------


async def test_the_subscription_is_made_before_the_hash_is_read(autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.hub.join(RUN, cast("Peer", FakePeer()))
        await trio.sleep(10)
        assert setting.link.subscribed == [RUN]
        assert setting.reads == []
        setting.hub.on_active(RUN, None)
        await trio.sleep(SETTLE)
        assert len(setting.reads) == 1


async def test_a_run_without_a_hash_gets_the_all_false_checklist_at_once(autojump_clock: MockClock) -> None:
    async with running() as setting:
        peer = setting.open()
        await trio.sleep(LATENCY * 1.5)
        assert peer.wire.sent == [frame_of({})]
        assert b"true" not in peer.wire.sent[0]
        await trio.sleep(60)
        await setting.write()
        await trio.sleep(LATENCY * 1.5)
        assert peer.wire.sent == [frame_of({}), frame_of({FIELD: b"1"})]


async def test_a_newcomer_gets_the_newest_snapshot_without_a_read(autojump_clock: MockClock) -> None:
    async with running() as setting:
        first = setting.open()
        await trio.sleep(1)
        await setting.write()
        await trio.sleep(1)
        known = len(setting.reads)
        newcomers = [setting.open() for _ in range(50)]
        assert all(peer.wire.sent == [setting.expected()] for peer in newcomers)
        await trio.sleep(60)
        assert len(setting.reads) == known
        assert all(peer.wire.sent == [setting.expected()] for peer in newcomers)
        assert len(first.wire.sent) == 2


@pytest.mark.parametrize("when", [LATENCY / 2, LATENCY * 1.5], ids=["before the read's answer", "after it"])
async def test_a_client_that_waits_in_its_handshake_is_told_once(autojump_clock: MockClock, when: float) -> None:
    async with running() as setting:
        peer, topic = setting.join()
        await trio.sleep(when)
        topic.welcome(cast("Peer", peer))
        await trio.sleep(60)
        assert peer.wire.sent == [setting.expected()]


async def test_one_who_joins_during_a_read_is_told_once(autojump_clock: MockClock) -> None:
    """Whether the read brings news or not."""
    async with running() as setting:
        first = setting.open()
        await trio.sleep(1)
        for change in (setting.notify, setting.write):
            await change()
            await trio.sleep(LATENCY / 2)
            waiting, topic = setting.join()
            await trio.sleep(LATENCY)
            topic.welcome(cast("Peer", waiting))
            await trio.sleep(1)
            assert waiting.wire.sent == [setting.expected()]
        check_no_repeats(first)
        assert first.wire.sent[-1] == setting.expected()


# -- changes -----------------------------------------------------------------------------------------------------------


async def test_a_burst_of_notifications_is_one_read(autojump_clock: MockClock) -> None:
    async with running() as setting:
        peer = setting.open()
        await trio.sleep(1)
        known = len(setting.reads)
        for number in range(1000):
            await setting.write(value=b"%d" % number)
        await setting.notify(count=1000)
        await trio.sleep(1)
        assert len(setting.reads) == known + 1
        assert peer.wire.sent == [frame_of({}), setting.expected()]


async def test_what_is_notified_during_a_read_is_one_read_more(autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.link.latency = 0.3
        peer = setting.open()
        await trio.sleep(1)
        known = len(setting.reads)
        await setting.write(value=b"0")
        for number in range(1, 20):
            await trio.sleep(0.01)
            await setting.write(b"timestamps:run_rhem", b"%d" % number)
        await trio.sleep(5)
        first, second = setting.reads[known:]
        assert second - first == pytest.approx(0.3 + SETTLE)
        assert peer.wire.sent == [frame_of({}), frame_of({FIELD: b"0"}), setting.expected()]


async def test_what_is_notified_while_a_read_waits_for_its_turn_is_in_it(autojump_clock: MockClock) -> None:
    """A read that has not been sent covers every notification until it is: many runs that wait are read once each."""
    async with running() as setting:
        setting.link.queue = 5.0
        peer = setting.open()
        for number in range(40):
            await trio.sleep(0.1)
            await setting.write(value=b"%d" % number)
        await trio.sleep(60)
        assert len(setting.reads) == 1
        assert peer.wire.sent == [setting.expected()]


async def test_what_is_notified_after_a_read_was_sent_is_read_again(autojump_clock: MockClock) -> None:
    """Whatever order the two connections have: the answer may or may not have it."""
    async with running() as setting:
        setting.link.queue, setting.link.latency = 0.5, 0.5
        peer = setting.open()
        await trio.sleep(0.75)
        assert len(setting.reads) == 1
        await setting.write()
        await trio.sleep(5)
        assert len(setting.reads) == 2
        assert peer.wire.sent == [frame_of({}), setting.expected()]


async def test_a_hash_that_is_written_all_the_time_is_read_at_the_pace_of_settle(autojump_clock: MockClock) -> None:
    async with running() as setting:
        peer = setting.open()
        await trio.sleep(1)
        known = len(setting.reads)
        for number in range(1000):
            await setting.write(value=b"1", field=b"timestamps:%d" % number)
            await trio.sleep(0.001)
        reads = setting.reads[known:]
        assert all(later - earlier >= SETTLE + LATENCY - 1e-9 for earlier, later in pairwise(reads))
        # The read under way at the end of the second is the one beyond.
        assert 1 / (SETTLE + LATENCY + 0.001) - 1 <= len(reads) <= 1 / (SETTLE + LATENCY) + 1
        await trio.sleep(SETTLE + 2 * LATENCY)
        assert peer.wire.sent[-1] == setting.expected()
        check_no_repeats(peer)


async def test_a_change_after_quiet_is_read_without_delay(autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.open()
        await trio.sleep(1)
        start = trio.current_time()
        await setting.write()
        await trio.sleep(1)
        assert setting.reads[-1] == start


async def test_a_read_that_brings_no_news_sends_nothing(autojump_clock: MockClock) -> None:
    async with running() as setting:
        peers = [setting.open() for _ in range(3)]
        await trio.sleep(1)
        for _ in range(100):
            await setting.write(b"description", b"another")
            await trio.sleep(0.1)
        assert len(setting.reads) > 100
        assert all(peer.wire.sent == [frame_of({})] for peer in peers)
        assert setting.counters.messages_sent == 3


async def test_one_read_serves_every_client_with_one_buffer(autojump_clock: MockClock) -> None:
    async with running() as setting:
        peers = [setting.open() for _ in range(2 * BATCH)]
        await trio.sleep(1)
        known = len(setting.reads)
        await setting.write()
        await trio.sleep(1)
        assert len(setting.reads) == known + 1
        assert all(peer.wire.sent[1] is peers[0].wire.sent[1] for peer in peers)
        assert setting.counters.messages_sent == 2 * len(peers)


async def test_who_comes_and_goes_during_a_long_broadcast_is_told_right(autojump_clock: MockClock) -> None:
    async with running() as setting:
        peers = [setting.open() for _ in range(BATCH * 3)]
        await trio.sleep(1)
        newcomers: list[FakePeer] = []

        async def disturb() -> None:
            while not peers[0].wire.sent[1:]:
                await trio.lowlevel.checkpoint()
            assert not peers[-1].wire.sent[1:], "in the middle"
            for peer in peers[1::2]:
                setting.leave(peer)
            newcomers.extend(setting.open() for _ in range(10))

        async with trio.open_nursery() as nursery:
            setting.link.latency = 0
            await setting.write()
            nursery.start_soon(disturb)
        await trio.sleep(1)
        expected = setting.expected()
        assert [peer.wire.sent for peer in newcomers] == [[expected]] * 10
        assert all(peer.wire.sent == [frame_of({}), expected] for peer in peers[::2])


async def test_notifications_that_send_nothing_are_no_deliveries(autojump_clock: MockClock) -> None:
    """`delivery_seconds` is the time until the last client has been written to, so there is one per frame."""
    async with running() as setting:
        setting.open()
        await trio.sleep(1)
        assert setting.counters.delivery is not None
        before = sum(setting.counters.delivery.counts)
        for _ in range(50):
            await setting.notify()
            await trio.sleep(0.1)
        assert sum(setting.counters.delivery.counts) == before
        await setting.write()
        await trio.sleep(0.1)
        assert sum(setting.counters.delivery.counts) == before + 1


async def test_a_delivery_begins_with_the_bytes_of_the_first_notification(autojump_clock: MockClock) -> None:
    async with running() as setting:
        delivery = setting.counters.delivery
        assert delivery is not None
        setting.open()
        await trio.sleep(1)
        before = delivery.total
        setting.link.queue, setting.link.latency = 0.3, 0.2
        await setting.write(value=b"1")
        await trio.sleep(0.1)
        await setting.write(value=b"2")
        await trio.sleep(1)
        assert delivery.total - before == pytest.approx(0.5), "the wait for a turn, and the read"
        # What comes while a read is under way is in the next one.
        await setting.write(value=b"3")
        await trio.sleep(0.4)
        await setting.write(value=b"4")
        await trio.sleep(2)
        assert delivery.total - before == pytest.approx(0.5 + 0.5 + (0.1 + SETTLE + 0.5))


async def test_a_delivery_without_a_notification_begins_with_the_answer(autojump_clock: MockClock) -> None:
    async with running(30.0) as setting:
        delivery = setting.counters.delivery
        assert delivery is not None
        setting.link.queue = 0.3
        peer = setting.open()
        await trio.sleep(1)
        setting.link.hashes[b"run"] = {FIELD: b"1"}
        await trio.sleep(60)
        assert len(peer.wire.sent) == sum(delivery.counts) == 2
        assert delivery.total == 0


# -- resyncs -----------------------------------------------------------------------------------------------------------


async def test_a_change_without_a_notification_is_found_within_the_interval(autojump_clock: MockClock) -> None:
    async with running(30.0) as setting:
        peer = setting.open()
        await trio.sleep(1)
        for value in (b"true", b"false", b"true"):
            setting.link.hashes[b"run"] = {b"attrs:has_sbs": value}
            await trio.sleep(30 + SETTLE + 2 * LATENCY)
            assert peer.wire.sent[-1] == setting.expected()
        assert len(peer.wire.sent) == 4


async def test_a_resync_comes_once_in_each_interval(autojump_clock: MockClock) -> None:
    async with running(30.0) as setting:
        setting.open()
        await trio.sleep(10 * 30.0)
        resyncs = [at for at in setting.reads if at > 2 * SETTLE]
        assert len(resyncs) == 10
        assert all(later - earlier == pytest.approx(30) for earlier, later in pairwise(resyncs))


async def test_a_resync_of_an_unchanged_hash_sends_nothing(autojump_clock: MockClock) -> None:
    async with running(1.0) as setting:
        peer = setting.open()
        await trio.sleep(1000)
        assert len(setting.reads) >= 1000
        assert peer.wire.sent == [setting.expected()]


async def test_many_runs_spread_their_resyncs_over_the_interval(autojump_clock: MockClock) -> None:
    async with running(30.0, random.Random(7)) as setting:
        for number in range(300):
            setting.open(b"__keyspace@0__:run-%d" % number)
        await trio.sleep(1)
        setting.link.reads.clear()
        await trio.sleep(30)
        # The very first reads that were due within the first second have had theirs, and are due again by now.
        times = sorted(at for reads in setting.link.reads.values() for at in reads)
        assert len(setting.link.reads) == 300
        by_second = [sum(1 + second <= at < 2 + second for at in times) for second in range(30)]
        assert min(by_second) >= 1
        assert max(by_second) <= 30, "10 a second, were they even"


async def test_busy_runs_are_resynced_too(autojump_clock: MockClock) -> None:
    """Notifications that come all the time neither put a resync off nor add to it."""
    async with running(1.0) as setting:
        setting.open()
        for _ in range(200):
            await setting.notify()
            await trio.sleep(0.05)
        assert 200 <= len(setting.reads) <= 200 + 10 + 2


async def test_an_interval_of_zero_is_off(autojump_clock: MockClock) -> None:
    async with running(0.0) as setting:
        setting.open()
        await trio.sleep(1)
        known = len(setting.reads)
        await trio.sleep(86_400)
        assert len(setting.reads) == known


async def test_while_subscriptions_are_made_again_nothing_is_asked_and_then_each_hash_once(
    autojump_clock: MockClock,
) -> None:
    """The link is online when all of them have been answered; what is asked before fails, for every run there is."""
    async with running() as setting:
        peers = {number: setting.open(b"__keyspace@0__:run-%d" % number) for number in range(300)}
        await trio.sleep(1)
        setting.link.reads.clear()
        setting.link.online = False
        for number in peers:
            setting.link.hashes[b"run-%d" % number] = {FIELD: b"%d" % number}
            setting.hub.on_active(b"__keyspace@0__:run-%d" % number, 3.0)
        await trio.sleep(0.1)
        assert setting.link.reads == {}
        setting.link.online = True
        setting.hub.on_online(3.0)
        await trio.sleep(1)
        assert {key: len(times) for key, times in setting.link.reads.items()} == {b"run-%d" % n: 1 for n in peers}
        for number, peer in peers.items():
            assert peer.wire.sent[-1] == setting.expected(b"run-%d" % number)


async def test_after_an_outage_the_hash_is_read_at_once(autojump_clock: MockClock) -> None:
    async with running() as setting:
        peer = setting.open()
        await trio.sleep(1)
        setting.link.hashes[b"run"] = {FIELD: b"1"}
        await trio.sleep(60)
        assert peer.wire.sent == [frame_of({})]
        setting.hub.on_active(RUN, 3.0)
        await trio.sleep(LATENCY * 1.5)
        assert peer.wire.sent == [frame_of({}), setting.expected()]


# -- every change pushed -----------------------------------------------------------------------------------------------


async def test_a_change_that_the_content_does_not_show_is_pushed_only_where_that_is_asked_for(
    autojump_clock: MockClock,
) -> None:
    for push_every_change, frames in ((False, 1), (True, 2)):
        async with running(push_every_change=push_every_change) as setting:
            peer = setting.open()
            await trio.sleep(1)
            await setting.write(b"note", b"look again")
            await trio.sleep(1)
            assert peer.wire.sent == [frame_of({})] * frames


async def test_an_unchanged_hash_is_never_pushed_again(autojump_clock: MockClock) -> None:
    async with running(resync_interval=5, push_every_change=True) as setting:
        peer = setting.open()
        await setting.write(b"note", b"1")
        await trio.sleep(100)
        known = list(peer.wire.sent)
        reads = len(setting.reads)
        await setting.notify(count=3)
        await setting.write(b"note", b"1")
        await trio.sleep(100)
        assert len(setting.reads) > reads
        assert peer.wire.sent == known


async def test_a_newcomer_gets_one_frame_where_every_change_is_pushed(autojump_clock: MockClock) -> None:
    async with running(push_every_change=True) as setting:
        first = setting.open()
        await trio.sleep(1)
        await setting.write(b"note", b"1")
        await trio.sleep(1)
        newcomer = setting.open()
        await trio.sleep(1)
        assert (len(first.wire.sent), len(newcomer.wire.sent)) == (2, 1)


def test_the_digest_of_a_hash_does_not_depend_on_the_order_of_its_fields() -> None:
    assert digest({b"a": b"1", b"b": b"2"}) == digest({b"b": b"2", b"a": b"1"})
    different = [{}, {b"a": b"1"}, {b"a": b""}, {b"a1": b""}, {b"": b"a1"}, {b"a": b"1", b"b": b""}, {b"a": b"1b"}]
    assert len({digest(fields) for fields in different}) == len(different)
