"""One run hash and its clients (preflightd/watcher.py): reads that fail, clients that leave, ends, chance."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING, Final, cast

import pytest
import trio
import trio.testing
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from common.disconnect import INTERNAL_ERROR, REFUSED_BY_REDIS, RUN_TOO_BIG
from common.fanout import LINGER
from common.redis.errors import ProtocolError, ReplyTooLargeError
from preflightd.checklist import packaged
from preflightd.watcher import RETRY, SETTLE, TOO_BIG_PAUSE
from tests.support.watching import FIELD, LATENCY, OTHER, RUN, FakePeer, check_no_repeats, frame_of, running

if TYPE_CHECKING:
    from trio.testing import MockClock

    from common.web.peer import Peer
    from preflightd.checklist import Snapshot
    from preflightd.evaluator import Hash

# -- reads that fail ---------------------------------------------------------------------------------------------------

FAILURES: Final = [
    RedisTimeoutError("no answer to HGETALL for 0.5s"),
    RedisConnectionError("no connection to Redis"),
    ResponseError("ERR something else"),
]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
async def test_a_read_that_fails_is_retried_with_backoff(autojump_clock: MockClock, error: RedisError) -> None:
    async with running() as setting:
        peer = setting.open()
        await trio.sleep(1)
        setting.link.errors[b"run"] = error
        known = len(setting.reads)
        await setting.write()
        await trio.sleep(120)
        waits = [later - earlier - LATENCY for earlier, later in pairwise(setting.reads[known:])]
        ceilings = [min(RETRY.maximum, RETRY.base * 2**k) for k in range(len(waits))]
        assert len(waits) >= 120 / RETRY.maximum
        for wait, ceiling in zip(waits, ceilings, strict=True):
            assert ceiling / 2 - 1e-9 <= wait <= ceiling + 1e-9
        assert (peer.wire.sent, peer.ends) == ([frame_of({})], [])

        del setting.link.errors[b"run"]
        await trio.sleep(RETRY.maximum + LATENCY)
        assert peer.wire.sent == [frame_of({}), setting.expected()]


async def test_after_a_recovery_the_backoff_begins_anew(autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.open()
        await trio.sleep(1)
        for _ in range(3):
            setting.link.errors[b"run"] = FAILURES[0]
            known = len(setting.reads)
            await setting.notify()
            await trio.sleep(60)
            first, second = setting.reads[known : known + 2]
            assert second - first <= LATENCY + RETRY.base + 1e-9
            del setting.link.errors[b"run"]
            await trio.sleep(RETRY.maximum + 1)


async def test_notifications_do_not_hurry_retries(autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.link.errors[b"run"] = FAILURES[0]
        setting.open()
        for _ in range(6000):
            await setting.notify()
            await trio.sleep(0.01)
        assert len(setting.reads) <= 60 / (RETRY.maximum / 2) + 7


async def test_a_resync_ends_the_wait_for_a_retry(autojump_clock: MockClock) -> None:
    """Redis is back after a minute, in which the waits have grown long: nobody stays stale for the rest of one."""
    async with running() as setting:
        peer = setting.open()
        await trio.sleep(1)
        setting.link.errors[b"run"] = FAILURES[1]
        await setting.write()
        for outage in (60.0, 61.0, 62.0, 63.0, 64.0):
            await trio.sleep(outage)
            await trio.sleep_until(setting.reads[-1] + 3 * LATENCY)
            del setting.link.errors[b"run"]
            setting.link.hashes[b"run"][FIELD] = b"%d" % outage
            setting.hub.on_active(RUN, outage)
            await trio.sleep(SETTLE + 2 * LATENCY)
            assert peer.wire.sent[-1] == setting.expected(), f"stale after {outage} s"
            setting.link.errors[b"run"] = FAILURES[1]
            await setting.notify()


async def test_a_link_that_acknowledges_before_it_is_online_delays_no_read(autojump_clock: MockClock) -> None:
    """A link answers no request until every subscription has been acknowledged; then each hash is read, once."""
    async with running() as setting:
        peer = setting.open()
        await trio.sleep(1)
        setting.link.hashes[b"run"] = {FIELD: b"1"}
        setting.link.latency = 0
        setting.link.errors[b"run"] = FAILURES[1]
        setting.hub.on_active(RUN, 3.0)
        await trio.sleep(0.02)
        refused = len(setting.reads)
        del setting.link.errors[b"run"]
        setting.link.latency = LATENCY
        setting.hub.on_online(3.0)
        await trio.sleep(LATENCY * 1.5)
        assert peer.wire.sent == [frame_of({}), setting.expected()]
        await trio.sleep(10)
        assert len(setting.reads) == refused + 1


@pytest.mark.parametrize("error", [ResponseError("ERR something else"), ProtocolError("not a Redis reply")], ids=repr)
async def test_an_answer_that_is_wrong_is_said_once(autojump_clock: MockClock, error: RedisError) -> None:
    async with running() as setting:
        setting.link.errors[b"run"] = error
        setting.open()
        await trio.sleep(60)
        (line,) = setting.logbook.at_least("warn", "error")
        assert (line["msg"], line["error"]) == ("read failed", str(error))


async def test_a_client_that_leaves_ends_the_retries(autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.link.errors[b"run"] = FAILURES[0]
        peer = setting.open()
        await trio.sleep(1)
        setting.leave(peer)
        known = len(setting.reads)
        await trio.sleep(LINGER - 0.1)
        assert len(setting.reads) == known


# -- the last client leaves --------------------------------------------------------------------------------------------


async def test_after_the_last_client_nothing_is_read_and_the_subscription_lingers(autojump_clock: MockClock) -> None:
    async with running(1.0) as setting:
        peer = setting.open()
        await trio.sleep(10)
        setting.leave(peer)
        known = len(setting.reads)
        await setting.notify()
        await trio.sleep(LINGER - 0.001)
        assert setting.link.subscribed == [RUN]
        await trio.sleep(0.002)
        assert setting.link.subscribed == []
        await trio.sleep(60)
        assert len(setting.reads) == known


async def test_a_reload_within_the_linger_gets_what_changed_meanwhile(autojump_clock: MockClock) -> None:
    """What was known goes with the last client: it is told nobody's notifications."""
    async with running() as setting:
        peer = setting.open()
        await trio.sleep(1)
        setting.leave(peer)
        await setting.write()
        await trio.sleep(LINGER / 2)
        again = setting.open()
        assert again.wire.sent == []
        await trio.sleep(LATENCY * 1.5)
        assert again.wire.sent == [setting.expected()]
        assert setting.link.subscribed == [RUN]


async def test_a_reload_during_a_read_is_never_left_with_what_the_read_found(autojump_clock: MockClock) -> None:
    """The last client leaves while a read is under way; the hash changes before the next one comes."""
    async with running() as setting:
        peer = setting.open()
        await trio.sleep(1)
        await setting.write(value=b"1")
        await trio.sleep(LATENCY / 2)
        setting.leave(peer)
        await trio.sleep(1)
        await setting.write(b"attrs:has_sbs", b"true")
        await trio.sleep(1)
        again = setting.open()
        await trio.sleep(1)
        assert again.wire.sent[-1] == setting.expected()
        check_no_repeats(again)


async def test_a_reload_within_one_read_is_never_left_with_what_the_read_found(autojump_clock: MockClock) -> None:
    """As above, the next client being in its handshake when the read is answered."""
    async with running() as setting:
        peer = setting.open()
        await trio.sleep(1)
        setting.link.latency = 0.5
        await setting.write(value=b"1")
        await trio.sleep(0.1)
        setting.leave(peer)
        await setting.write(b"attrs:has_sbs", b"true")
        await trio.sleep(0.1)
        again, topic = setting.join()
        await trio.sleep(0.5)
        topic.welcome(cast("Peer", again))
        await trio.sleep(2)
        assert again.wire.sent[-1] == setting.expected()
        check_no_repeats(again)


async def test_a_reload_while_a_read_waits_for_its_turn_is_never_left_with_what_it_found(
    autojump_clock: MockClock,
) -> None:
    """As above, the last client having left before the read was sent, and the next one coming after its answer."""
    async with running() as setting:
        setting.link.queue = 0.5
        peer = setting.open()
        await trio.sleep(0.25)
        setting.leave(peer)
        await trio.sleep(1)
        await setting.write()
        again = setting.open()
        await trio.sleep(2)
        assert again.wire.sent == [setting.expected()]


async def test_a_reload_after_the_linger_begins_anew(autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.leave(setting.open())
        await trio.sleep(LINGER + 1)
        await setting.write()
        again = setting.open()
        await trio.sleep(1)
        assert again.wire.sent == [setting.expected()]
        assert setting.link.subscribed == [RUN]


# -- ends --------------------------------------------------------------------------------------------------------------

WRONGTYPE: Final = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
NOPERM: Final = NoPermissionError("NOPERM No permissions to access a key")


@pytest.mark.parametrize("error", [WRONGTYPE, NOPERM], ids=["WRONGTYPE", "NOPERM"])
async def test_a_refused_hash_ends_its_clients_and_no_others(autojump_clock: MockClock, error: RedisError) -> None:
    async with running() as setting:
        setting.link.errors[b"run"] = error
        peers = [setting.open() for _ in range(3)]
        other = setting.open(OTHER)
        await trio.sleep(LATENCY * 1.5)
        assert all(peer.ends[:1] == [REFUSED_BY_REDIS] and peer.wire.sent == [] for peer in peers)
        for peer in peers:
            setting.leave(peer)
        (line,) = setting.logbook.at_least("warn", "error")
        assert (line["msg"], line["run_id"], line["error"]) == ("run hash refused", "run", str(error))
        await setting.write(key=b"other")
        await trio.sleep(1)
        assert other.ends == []
        assert other.wire.sent == [frame_of({}), setting.expected(b"other")]


async def test_a_run_that_was_refused_is_read_again_for_the_next_client(autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.link.errors[b"run"] = WRONGTYPE
        for _ in range(2):
            peer = setting.open()
            await trio.sleep(1)
            assert set(peer.ends) == {REFUSED_BY_REDIS}
            setting.leave(peer)
        del setting.link.errors[b"run"]
        again = setting.open()
        await trio.sleep(1)
        assert (again.ends, again.wire.sent) == ([], [setting.expected()])


@pytest.mark.parametrize("at", ["first", "later"])
async def test_a_bug_in_evaluate_ends_the_clients_of_its_run_only(autojump_clock: MockClock, at: str) -> None:
    def evaluate_badly(fields: Hash) -> Snapshot:
        if b"bug" in fields:
            raise LookupError("a bug in evaluate")
        return packaged().evaluate(fields)

    async with running(evaluate=evaluate_badly) as setting:
        if at == "first":
            await setting.write(b"bug")
        peers, other = [setting.open() for _ in range(3)], setting.open(OTHER)
        await trio.sleep(1)
        await setting.write(b"bug")
        await trio.sleep(1)
        assert [peer.ends for peer in peers] == [[INTERNAL_ERROR]] * 3
        (line,) = setting.logbook.at_least("error")
        assert "LookupError" in line["traceback"]
        await setting.write(key=b"other")
        await trio.sleep(1)
        assert (other.ends, other.wire.sent) == ([], [frame_of({}), setting.expected(b"other")])

        # The next client makes the topic anew, while the old ones still say goodbye.
        del setting.link.hashes[b"run"][b"bug"]
        again = setting.open()
        await trio.sleep(1)
        await setting.write()
        await trio.sleep(1)
        assert (again.ends, again.wire.sent[-1]) == ([], setting.expected())
        assert setting.link.subscribed == [OTHER, RUN]


# -- hashes too large --------------------------------------------------------------------------------------------------

TOO_LARGE: Final = ReplyTooLargeError("HGETALL", 8 << 20)


async def test_a_hash_too_large_ends_its_clients_with_one_line_and_no_others(autojump_clock: MockClock) -> None:
    async with running(1.0) as setting:
        setting.link.errors[b"run"] = TOO_LARGE
        peers = [setting.open() for _ in range(3)]
        waiting, _ = setting.join()
        other = setting.open(OTHER)
        await trio.sleep(LATENCY * 1.5)
        assert all(peer.ends == [RUN_TOO_BIG] and peer.wire.sent == [] for peer in [*peers, waiting])
        for peer in [*peers, waiting]:
            setting.leave(peer)
        await setting.write(key=b"other")
        await trio.sleep(100)
        (line,) = setting.logbook.at_least("warn", "error")
        assert (line["msg"], line["run_id"], line["limit"]) == ("run hash too big", "run", 8 << 20)
        assert (other.ends, other.wire.sent) == ([], [frame_of({}), setting.expected(b"other")])


async def test_a_hash_that_grows_too_large_ends_the_clients_that_had_it(autojump_clock: MockClock) -> None:
    async with running() as setting:
        peer = setting.open()
        await trio.sleep(1)
        setting.link.errors[b"run"] = TOO_LARGE
        await setting.write()
        await trio.sleep(1)
        assert (peer.ends, peer.wire.sent) == ([RUN_TOO_BIG], [frame_of({})])


async def test_newcomers_to_a_hash_too_large_are_no_storm_of_reads(autojump_clock: MockClock) -> None:
    """Clients that come back all the time, and a hash that is written all the time."""
    async with running(1.0) as setting:
        setting.link.errors[b"run"] = TOO_LARGE
        start = trio.current_time()
        turned_away = 0
        while trio.current_time() < start + 300:
            peers = [setting.open() for _ in range(5)]
            await setting.notify()
            await trio.sleep(0.5)
            for peer in peers:
                assert set(peer.ends) == {RUN_TOO_BIG}
                assert peer.wire.sent == []
                setting.leave(peer)
            turned_away += len(peers)
        assert turned_away >= 2500
        assert len(setting.reads) <= 300 / TOO_BIG_PAUSE + 1
        assert len(setting.logbook.said("run hash too big")) == len(setting.reads)


async def test_a_hash_that_was_too_large_is_tried_again_after_a_pause(autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.link.errors[b"run"] = TOO_LARGE
        setting.leave(setting.open())
        for _ in range(int(TOO_BIG_PAUSE) - 1):
            await trio.sleep(1)
            setting.leave(setting.open())
        del setting.link.errors[b"run"]
        await trio.sleep(2)
        peer = setting.open()
        await trio.sleep(1)
        assert (peer.ends, peer.wire.sent) == ([], [setting.expected()])


# -- chance ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_nobody_is_stale_or_told_twice(autojump_clock: MockClock, seed: int) -> None:
    """Writes, joins, leaves, failures and outages in any order: after a quiet moment every client knows the truth."""
    rng = random.Random(seed)
    async with running() as setting:
        open_peers: list[FakePeer] = []
        peers: list[FakePeer] = []
        for _ in range(300):
            match rng.randrange(7):
                case 0 | 1:
                    await setting.write(
                        rng.choice([FIELD, b"attrs:has_sbs", b"note"]), rng.choice([b"1", b"2", b"true"])
                    )
                case 2 if len(open_peers) < 3:
                    open_peers.append(setting.open())
                    peers.append(open_peers[-1])
                case 3 if open_peers:
                    setting.leave(open_peers.pop(rng.randrange(len(open_peers))))
                case 4:
                    setting.link.latency = rng.choice([0, LATENCY, 0.1])
                case 5:
                    setting.link.queue = rng.choice([0, LATENCY, 0.1])
                case 6 if rng.random() < 0.3:
                    setting.link.errors[b"run"] = FAILURES[0]
                    await trio.sleep(rng.uniform(0, 1))
                    setting.link.errors.clear()
            await trio.sleep(rng.choice([0, LATENCY / 2, LATENCY, SETTLE, 0.1]))
            if rng.random() < 0.1:
                await trio.sleep(RETRY.maximum + 1)
                assert all(peer.wire.sent[-1] == setting.expected() for peer in open_peers)
        check_no_repeats(*peers)
