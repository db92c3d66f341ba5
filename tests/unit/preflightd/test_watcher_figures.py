"""What preflightd counts of its reads and resyncs (preflightd/watcher.py), and of notifications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from common.metrics import HashFigures
from common.redis.errors import (
    NoPermissionError,
    ProtocolError,
    RedisConnectionError,
    RedisError,
    RedisTimeoutError,
    ReplyTooLargeError,
    ResponseError,
)
from preflightd.checklist import packaged
from preflightd.notifications import note
from preflightd.watcher import LATE
from tests.support.watching import FIELD, running

if TYPE_CHECKING:
    from trio.testing import MockClock

    from preflightd.checklist import Snapshot
    from preflightd.evaluator import Hash
    from tests.support.watching import Setting

RESYNC = 30.0


def figures(setting: Setting) -> HashFigures:
    found = setting.counters.hashes
    assert found is not None
    return found


async def test_a_change_that_a_resync_finds_is_counted_once(autojump_clock: MockClock) -> None:
    async with running(RESYNC) as setting:
        setting.open()
        await trio.sleep(2 * RESYNC)
        assert figures(setting).missed_changes == 0, "the first snapshot is no change"
        setting.link.hashes[b"run"] = {FIELD: b"1"}
        await trio.sleep(3 * RESYNC)
        assert figures(setting).missed_changes == 1
        setting.link.hashes[b"run"] = {FIELD: b"1", b"attrs:has_sbs": b"true"}
        await trio.sleep(3 * RESYNC)
        assert figures(setting).missed_changes == 2


@pytest.mark.parametrize("error", [ReplyTooLargeError("HGETALL", 5), NoPermissionError("NOPERM")], ids=str)
async def test_a_resync_that_gets_no_hash_has_found_no_change(error: RedisError, autojump_clock: MockClock) -> None:
    async with running(RESYNC) as setting:
        peer = setting.open()
        await trio.sleep(2 * RESYNC)
        reads = len(setting.reads)
        setting.link.errors[b"run"] = error
        await trio.sleep(4 * RESYNC)
        assert len(setting.reads) > reads
        assert len(peer.ends) >= 3, "also while a large one is not asked for"
        assert figures(setting).missed_changes == 0


async def test_a_change_that_is_notified_is_none(autojump_clock: MockClock) -> None:
    async with running(RESYNC) as setting:
        setting.open()
        for number in range(200):
            await setting.write(value=b"%d" % number)
            await trio.sleep(1.1)
        assert figures(setting).missed_changes == 0


@pytest.mark.parametrize(("late", "missed"), [(LATE / 2, 0), (LATE * 2, 1)])
async def test_a_notification_may_be_later_than_the_read_that_has_its_change(
    late: float, missed: int, autojump_clock: MockClock
) -> None:
    """They come over two connections."""
    async with running(RESYNC) as setting:
        setting.open()
        await trio.sleep(2 * RESYNC)
        at = setting.reads[-1]
        setting.link.hashes[b"run"] = {FIELD: b"1"}
        await trio.sleep_until(at + RESYNC + late)
        assert setting.reads[-1] == pytest.approx(at + RESYNC)
        await setting.notify()
        await trio.sleep(RESYNC / 2)
        assert figures(setting).missed_changes == missed


async def test_what_is_found_after_an_outage_was_missed_by_the_outage(autojump_clock: MockClock) -> None:
    async with running(RESYNC) as setting:
        setting.open()
        await trio.sleep(1)
        setting.link.hashes[b"run"] = {FIELD: b"1"}
        setting.hub.on_online(3.0)
        await trio.sleep(LATE * 3)
        assert figures(setting).missed_changes == 0


async def test_reads_are_timed_from_the_wish_to_the_hash(autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.link.queue, setting.link.latency = 0.3, 0.2
        setting.open()
        await trio.sleep(1)
        reads = figures(setting).reads
        assert reads is not None
        assert sum(reads.counts) == 1
        assert reads.total == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ReplyTooLargeError("HGETALL", 5), "too_big"),
        (NoPermissionError("NOPERM"), "refused"),
        (ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), "refused"),
        (RedisConnectionError("no connection to Redis"), "unavailable"),
        (RedisTimeoutError("not a byte"), "unavailable"),
        (ProtocolError("more than one answer to one question"), "error"),
        (ResponseError("ERR something"), "error"),
    ],
)
async def test_failures_are_counted_by_reason_and_not_timed(
    error: RedisError, reason: str, autojump_clock: MockClock
) -> None:
    async with running() as setting:
        setting.link.errors[b"run"] = error
        setting.open()
        await trio.sleep(0.01)
        reads = figures(setting).reads
        assert reads is not None
        assert (figures(setting).failures, sum(reads.counts)) == ({reason: 1}, 0)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        ({b"notify-keyspace-events": b"Kghx"}, "on"),
        ({b"notify-keyspace-events": b"AK"}, "on"),
        ({b"notify-keyspace-events": b"E"}, "off"),
        ({b"notify-keyspace-events": b""}, "off"),
        (NoPermissionError("NOPERM no CONFIG for you"), "unknown"),
        (RedisConnectionError("no connection to Redis"), "unknown"),
        (RedisTimeoutError("no answer to CONFIG"), "unknown"),
    ],
)
async def test_what_is_noted_of_notifications(outcome: object, state: str) -> None:
    class Answering:
        async def request_everywhere(self, *args: object) -> dict[str, object]:
            assert args == ("CONFIG", "GET", b"notify-keyspace-events")
            if isinstance(outcome, Exception):
                raise outcome
            return {"redis:6379": outcome}

    link: Any = Answering()
    for before in ("on", "off", "unknown"):
        found: Any = HashFigures(notifications=before)
        await note(link, found)
        assert found.notifications == state


async def test_a_delivery_begins_before_the_hash_is_evaluated(autojump_clock: MockClock) -> None:
    def evaluate(fields: Hash) -> Snapshot:
        autojump_clock.jump(0.25)
        return packaged().evaluate(fields)

    async with running(evaluate=evaluate) as setting:
        setting.open()
        await trio.sleep(1)
        assert setting.counters.delivery is not None
        assert sum(setting.counters.delivery.counts) == 1
        assert setting.counters.delivery.total >= 0.25
