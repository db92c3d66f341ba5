"""The watcher where two things fall on one instant, or happen a second time (preflightd/watcher.py)."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from common.disconnect import RUN_TOO_BIG
from common.redis.errors import ReplyTooLargeError, ResponseError
from preflightd.watcher import LATE, TOO_BIG_PAUSE
from tests.support.watching import FIELD, LATENCY, running

if TYPE_CHECKING:
    from trio.testing import MockClock

RESYNC = 30.0


async def test_the_instant_at_which_the_pause_ends_is_no_part_of_it(autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.link.latency = 0.25
        setting.link.errors[b"run"] = ReplyTooLargeError("HGETALL", 5)
        first = setting.open()
        await trio.sleep(0.25)
        await wait_all_tasks_blocked()
        assert first.ends == [RUN_TOO_BIG]
        setting.leave(first)
        del setting.link.errors[b"run"]
        # Somebody in a handshake, whom nobody turns away, keeps the topic.
        setting.join()
        await trio.sleep(TOO_BIG_PAUSE)
        again = setting.open()
        await trio.sleep(1)
        assert (again.ends, again.wire.sent) == ([], [setting.expected()])


async def test_each_failure_is_counted(autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.link.errors[b"run"] = ResponseError("ERR busy")
        setting.open()
        await trio.sleep(30)
        assert len(setting.reads) >= 3
        assert setting.counters.hashes is not None
        assert setting.counters.hashes.failures == {"error": len(setting.reads)}


async def test_a_later_read_takes_as_long_as_an_early_one(autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.open()
        await trio.sleep(100)
        await setting.write()
        await trio.sleep(1)
        assert setting.counters.hashes is not None
        assert setting.counters.hashes.reads is not None
        assert setting.counters.hashes.reads.total == pytest.approx(2 * LATENCY)


async def test_who_comes_later_is_one_delivery_more(autojump_clock: MockClock) -> None:
    async with running() as setting:
        peers = []
        for _ in range(3):
            peers.append(setting.open())
            await trio.sleep(1)
        assert [len(peer.wire.sent) for peer in peers] == [1, 1, 1]
        assert setting.counters.messages_sent == 3


async def test_a_resync_whose_answer_nobody_waits_for_has_missed_nothing(autojump_clock: MockClock) -> None:
    async with running(RESYNC) as setting:
        peer = setting.open()
        await trio.sleep(2 * RESYNC)
        at = setting.reads[-1]
        setting.link.hashes[b"run"] = {FIELD: b"1"}
        setting.link.latency = 1.0
        await trio.sleep_until(at + RESYNC + 0.5)
        setting.leave(peer)
        await trio.sleep(0.6 + LATE)
        assert setting.hub.topics, "it lingers"
        assert setting.counters.hashes is not None
        assert setting.counters.hashes.missed_changes == 0


async def test_an_answer_from_before_the_last_desertion_is_told_to_nobody(autojump_clock: MockClock) -> None:
    async with running() as setting:
        for number in range(4):
            peer = setting.open()
            await trio.sleep(1)
            assert peer.wire.sent[-1] == setting.expected()
            setting.link.latency = 3.0
            await setting.write(b"attrs:has_sbs", b"true" if number % 2 else b"false")
            await trio.sleep(1)
            setting.leave(peer)
            # Nobody hears of this.
            setting.link.hashes[b"run"] = {b"attrs:has_sbs": b"true", FIELD: b"%d" % number}
            newcomer = setting.open()
            await trio.sleep(10)
            assert newcomer.wire.sent == [setting.expected()]
            setting.link.latency = LATENCY
            setting.link.hashes[b"run"] = {}
            setting.leave(newcomer)


async def test_nothing_is_kept_of_who_has_left(autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.open()
        peer = setting.open()
        await trio.sleep(1)
        assert len(peer.wire.sent) == 1
        setting.leave(peer)
        left = weakref.ref(peer)
        del peer
        await setting.write()
        gc.collect()
        assert left() is None
