"""The heartbeat's schedule: who is pinged when, and who is ended at which second (common/web/heartbeat.py)."""

from __future__ import annotations

import gc
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest
import trio
import trio.testing

from common.disconnect import PONG_TIMEOUT, Disconnect
from common.web.heartbeat import BATCH, EARLY, Heartbeat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

INTERVAL: Final = 5.0
TIMEOUT: Final = 65.0


class FakePeer:
    """A peer that answers each ping at once if `answers`, and remembers what happened to it."""

    def __init__(self, *, answers: bool = False) -> None:
        self.last_seen = trio.current_time()
        self.answers = answers
        self.pings: list[float] = []
        self.ends: list[tuple[float, Disconnect]] = []

    def ping(self) -> None:
        self.pings.append(trio.current_time())
        if self.answers:
            self.last_seen = trio.current_time()

    def end(self, disconnect: Disconnect) -> None:
        self.ends.append((trio.current_time(), disconnect))


@asynccontextmanager
async def beating(interval: float = INTERVAL, silence: float = TIMEOUT) -> AsyncIterator[Heartbeat]:
    heartbeat = Heartbeat(interval=interval, timeout=silence)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heartbeat.run)
        await trio.testing.wait_all_tasks_blocked()
        yield heartbeat
        nursery.cancel_scope.cancel()


async def test_a_peer_is_pinged_every_interval_from_its_arrival(autojump_clock: MockClock) -> None:
    async with beating() as heartbeat:
        await trio.sleep(3.3)
        peer = FakePeer(answers=True)
        heartbeat.add(peer)
        await trio.sleep(61)
    assert peer.pings == [pytest.approx(3.3 + INTERVAL * number) for number in range(1, 13)]
    assert peer.ends == []


async def test_pings_are_spread_as_the_peers_arrived(autojump_clock: MockClock) -> None:
    async with beating() as heartbeat:
        peers: list[tuple[float, FakePeer]] = []
        for _ in range(50):
            peer = FakePeer(answers=True)
            heartbeat.add(peer)
            peers.append((trio.current_time(), peer))
            await trio.sleep(INTERVAL / 50)
        await trio.sleep_until(20 * INTERVAL - 0.06)
    for arrival, peer in peers:
        expected = [arrival + INTERVAL * number for number in range(1, 20)][: len(peer.pings)]
        assert len(peer.pings) >= 18
        for ping, due in zip(peer.pings, expected, strict=True):
            assert due - INTERVAL * EARLY - 1e-9 <= ping <= due + INTERVAL * EARLY


async def test_an_early_ping_does_not_make_the_rhythm_drift(autojump_clock: MockClock) -> None:
    async with beating() as heartbeat:
        first, second = FakePeer(answers=True), FakePeer(answers=True)
        heartbeat.add(first)
        await trio.sleep(INTERVAL * EARLY * 0.9)
        heartbeat.add(second)
        await trio.sleep(INTERVAL * 10_000)
    assert len(first.pings) == 10_000
    assert len(second.pings) == 10_000
    assert second.pings == first.pings, "one wake-up serves both"


async def test_many_peers_of_one_instant_are_all_pinged_and_others_get_a_turn(autojump_clock: MockClock) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        await trio.sleep(INTERVAL)
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1
            if peers[-1].pings:
                return

    async with beating() as heartbeat, trio.open_nursery() as nursery:
        peers = [FakePeer(answers=True) for _ in range(BATCH * 8)]
        for peer in peers:
            heartbeat.add(peer)
        nursery.start_soon(count_turns)
        await trio.sleep(INTERVAL * 4.5)
    assert all(peer.pings == [INTERVAL, INTERVAL * 2, INTERVAL * 3, INTERVAL * 4] for peer in peers)
    assert turns >= 6


@pytest.mark.parametrize("last_life", [0.0, 0.001, 2.5, 4.999, 5.0, 5.001, 7.3, 64.9, 300.0, 3599.5])
async def test_silence_ends_a_peer_at_the_exact_second(last_life: float, autojump_clock: MockClock) -> None:
    async with beating() as heartbeat:
        peer = FakePeer()
        heartbeat.add(peer)
        while trio.current_time() < last_life:
            await trio.sleep(min(1.3, last_life - trio.current_time()))
            peer.last_seen = trio.current_time()
        last_life = trio.current_time()
        await trio.sleep(10 * TIMEOUT)
        assert peer.ends == [(last_life + TIMEOUT, PONG_TIMEOUT)]
        assert len(heartbeat) == 0
        assert not [ping for ping in peer.pings if ping >= last_life + TIMEOUT], "the dead are not pinged"


@pytest.mark.parametrize(
    ("interval", "silence"), [(5.0, 65.0), (5.0, 5.0), (5.0, 4.9), (60.0, 1.0), (3600.0, 65.0), (0.05, 1.0)]
)
async def test_silent_peers_of_every_phase_end_exactly(
    interval: float, silence: float, autojump_clock: MockClock
) -> None:
    async with beating(interval, silence) as heartbeat:
        peers: list[tuple[float, FakePeer]] = []
        for _ in range(37):
            peer = FakePeer()
            heartbeat.add(peer)
            peers.append((trio.current_time(), peer))
            await trio.sleep(silence / 50)
        await trio.sleep(2 * silence + 2 * interval)
    for arrival, peer in peers:
        assert peer.ends == [(arrival + silence, PONG_TIMEOUT)]


async def test_the_end_is_exact_for_a_peer_whose_ping_came_late(autojump_clock: MockClock) -> None:
    """A ping may be early for one peer; another that arrives then has its turn behind it, up to 1 % late."""
    early = INTERVAL * EARLY * 0.8
    async with beating(INTERVAL, 7.0) as heartbeat:
        heartbeat.add(FakePeer(answers=True))
        await trio.sleep(early)
        heartbeat.add(FakePeer(answers=True))
        await trio.sleep_until(INTERVAL)
        await trio.testing.wait_all_tasks_blocked()
        heartbeat.remove(next(iter(heartbeat._members)))
        late = FakePeer()
        heartbeat.add(late)
        # Between the ping that was due at 3 intervals and the late one.
        await trio.sleep_until(3 * INTERVAL + early / 2 - 7.0)
        late.last_seen = trio.current_time()
        last = trio.current_time()
        await trio.sleep(60)
    assert late.ends == [(last + 7.0, PONG_TIMEOUT)]


async def test_one_that_answers_lives_through_a_day(autojump_clock: MockClock) -> None:
    async with beating() as heartbeat:
        peer = FakePeer(answers=True)
        heartbeat.add(peer)
        await trio.sleep(86_400)
    assert len(peer.pings) in {86_400 / INTERVAL, 86_400 / INTERVAL - 1}
    assert peer.ends == []


async def test_a_lively_and_a_silent_peer_side_by_side(autojump_clock: MockClock) -> None:
    async with beating() as heartbeat:
        silent, lively = FakePeer(), FakePeer(answers=True)
        heartbeat.add(silent)
        heartbeat.add(lively)
        await trio.sleep(1000)
    assert silent.ends == [(TIMEOUT, PONG_TIMEOUT)]
    assert lively.ends == []
    assert len(lively.pings) >= 199


async def test_the_first_peer_after_an_empty_day_is_served(autojump_clock: MockClock) -> None:
    async with beating() as heartbeat:
        for _ in range(3):
            await trio.sleep(86_400)
            start = trio.current_time()
            peer = FakePeer()
            heartbeat.add(peer)
            await trio.sleep(TIMEOUT + 1)
            assert peer.pings[0] == start + INTERVAL
            assert peer.ends == [(start + TIMEOUT, PONG_TIMEOUT)]


async def test_an_earlier_deadline_wakes_the_sleeper(autojump_clock: MockClock) -> None:
    async with beating(interval=1000.0, silence=10.0) as heartbeat:
        heartbeat.add(FakePeer(answers=True))
        await trio.sleep(5)
        second = FakePeer()
        second.last_seen -= 8
        heartbeat.add(second)
        await trio.sleep(100)
    assert second.ends == [(7.0, PONG_TIMEOUT)]


async def test_a_removed_peer_is_left_alone(autojump_clock: MockClock) -> None:
    async with beating() as heartbeat:
        peer, other = FakePeer(), FakePeer(answers=True)
        heartbeat.add(peer)
        heartbeat.add(other)
        await trio.sleep(INTERVAL + 1)
        heartbeat.remove(peer)
        heartbeat.remove(peer)
        assert len(heartbeat) == 1
        await trio.sleep(1000)
    assert peer.pings == [INTERVAL]
    assert peer.ends == []
    assert len(other.pings) > 190


async def test_removed_peers_hold_no_memory(autojump_clock: MockClock) -> None:
    async with beating(interval=5.0, silence=3.0) as heartbeat:
        references = []
        for _ in range(100):
            peer = FakePeer(answers=True)
            heartbeat.add(peer)
            references.append(weakref.ref(peer))
            heartbeat.remove(peer)
        del peer
        assert not [reference for reference in references if reference() is not None], "at once, without a collection"
        await trio.sleep(6)
        assert len(heartbeat) == len(heartbeat._beats) == len(heartbeat._suspects) == 0
        gc.collect()


async def test_a_peer_that_fails_in_its_ping_may_leave_there(autojump_clock: MockClock) -> None:
    class Failing(FakePeer):
        def ping(self) -> None:
            super().ping()
            heartbeat.remove(self)

    async with beating() as heartbeat:
        failing, other = Failing(), FakePeer(answers=True)
        heartbeat.add(failing)
        heartbeat.add(other)
        await trio.sleep(INTERVAL * 3 + 1)
    assert failing.pings == [INTERVAL]
    assert len(other.pings) == 3


async def test_a_process_that_was_held_up_pings_once_and_not_for_each_interval_that_it_missed(
    mock_clock: MockClock,
) -> None:
    async with beating(silence=10_000.0) as heartbeat:
        peers = [FakePeer() for _ in range(10)]
        for peer in peers:
            heartbeat.add(peer)
            mock_clock.jump(INTERVAL / 10)
        mock_clock.jump(INTERVAL * 120)
        await trio.testing.wait_all_tasks_blocked()
        assert max(len(peer.pings) for peer in peers) == 1
        for _ in range(20):
            mock_clock.jump(INTERVAL / 20)
            await trio.testing.wait_all_tasks_blocked()
        assert {len(peer.pings) for peer in peers} <= {1, 2}
        last = [peer.pings[-1] for peer in peers]
        assert max(last.count(moment) for moment in last) <= 2, "they are spread as before"


async def test_answers_that_wait_to_be_read_count_when_the_process_was_held_up(mock_clock: MockClock) -> None:
    """The scheduler may run the heartbeat before the readers, at random; that must not decide who lives."""

    async def read(peer: FakePeer, arrived: trio.Event) -> None:
        await arrived.wait()
        peer.last_seen = trio.current_time()

    async with beating() as heartbeat, trio.open_nursery() as nursery:
        for _ in range(16):
            peer, arrived = FakePeer(), trio.Event()
            heartbeat.add(peer)
            nursery.start_soon(read, peer, arrived)
            for _ in range(12):
                await trio.testing.wait_all_tasks_blocked()
                mock_clock.jump(INTERVAL)
            await trio.testing.wait_all_tasks_blocked()
            # The client's answer and the deadline come while the process does something else.
            mock_clock.jump(INTERVAL * 2)
            arrived.set()
            await trio.testing.wait_all_tasks_blocked()
            assert peer.ends == []
            heartbeat.remove(peer)


async def test_time_in_which_the_process_stood_still_is_nobodys_silence(mock_clock: MockClock) -> None:
    async with beating() as heartbeat:
        answering, silent = FakePeer(answers=True), FakePeer()
        heartbeat.add(answering)
        heartbeat.add(silent)
        for _ in range(4):
            await step(mock_clock, INTERVAL)
        stood_still = 2 * TIMEOUT
        await step(mock_clock, stood_still)
        assert answering.ends == []
        assert silent.ends == []
        while not silent.ends and trio.current_time() < 2 * TIMEOUT + stood_still:
            await step(mock_clock, INTERVAL / 10)
        # All but the time until the ping that was due: in that it could have been heard.
        ((ended, why),) = silent.ends
        assert ended == pytest.approx(TIMEOUT + stood_still - INTERVAL, abs=INTERVAL / 10)
        assert why is PONG_TIMEOUT
        assert answering.ends == []


async def test_however_often_it_stands_still_a_silent_peer_is_ended(mock_clock: MockClock) -> None:
    async with beating() as heartbeat:
        silent = FakePeer()
        heartbeat.add(silent)
        stood_still = 0.0
        while not silent.ends and trio.current_time() < 20 * TIMEOUT:
            await step(mock_clock, 3 * INTERVAL)
            stood_still += 2 * INTERVAL
            await step(mock_clock, INTERVAL)
        assert silent.ends, "it was never heard"
        assert TIMEOUT <= silent.ends[0][0] <= TIMEOUT + stood_still + INTERVAL


async def test_a_hold_up_is_forgotten_when_it_matters_to_nobody(mock_clock: MockClock) -> None:
    async with beating() as heartbeat:
        heartbeat.add(FakePeer(answers=True))
        await trio.testing.wait_all_tasks_blocked()
        await step(mock_clock, 10 * INTERVAL)
        assert len(heartbeat._hold_ups) == 1
        for _ in range(int((TIMEOUT + 10 * INTERVAL) / INTERVAL) + 1):
            await step(mock_clock, INTERVAL)
        assert len(heartbeat._hold_ups) == 0


async def step(clock: MockClock, seconds: float) -> None:
    """Let time go by in one leap, as for a process that stands still."""
    clock.jump(seconds)
    await trio.testing.wait_all_tasks_blocked()
