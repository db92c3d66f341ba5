"""Who sends much waits for the others: slices, turns and allowances (common/web/turns.py)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from common.web.turns import (
    BURST,
    EMPTY_SLICE,
    FRAME_BYTES,
    FULL_SLICE,
    RATE,
    SLICE,
    TURN_BURST,
    TURN_RATE,
    USUAL_BURST,
    USUAL_PAUSE,
    USUAL_SIZE,
    Allowance,
    Turns,
    slices,
    usual_limit,
    usual_until,
)

if TYPE_CHECKING:
    from trio.testing import MockClock

# -- turns -------------------------------------------------------------------------------------------------------------


async def test_there_is_one_turn_a_lap_and_they_go_round(autojump_clock: MockClock) -> None:
    turns, order, laps = Turns(rate=math.inf), list[str](), list[int]()
    lap = 0

    async def count() -> None:
        nonlocal lap
        while True:
            await trio.lowlevel.checkpoint()
            lap += 1

    async def work(name: str) -> None:
        for _ in range(3):
            await turns.wait()
            order.append(name)
            laps.append(lap)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        async with trio.open_nursery() as workers:
            for name in "abcd":
                workers.start_soon(work, name)
        nursery.cancel_scope.cancel()
    first = order[:4]
    assert order == first * 3, "first come, first served"
    assert sorted(first) == list("abcd")
    # The counter runs before or after the worker in its lap, so that two of its counts may fall between two turns.
    assert all(0 <= later - earlier <= 2 for earlier, later in pairwise(laps))
    assert laps[-1] - laps[0] >= len(order) - 2
    assert turns.taken == len(order)


async def test_whoever_is_cancelled_in_the_queue_loses_nobody_elses_turn(autojump_clock: MockClock) -> None:
    turns, done = Turns(), list[int]()
    scopes = [trio.CancelScope() for _ in range(5)]

    async def work(number: int) -> None:
        with scopes[number]:
            await turns.wait()
            done.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(work, number)
        await trio.lowlevel.checkpoint()
        scopes[1].cancel()
        scopes[3].cancel()
    assert {0, 2, 4} <= set(done)
    with trio.fail_after(1):
        await turns.wait()


async def test_turns_have_a_pace_in_the_long_run(autojump_clock: MockClock) -> None:
    turns, times = Turns(), list[float]()

    async def work() -> None:
        for _ in range(10):
            await turns.wait()
            times.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(work)
    burst = int(TURN_BURST)
    assert times[:burst] == pytest.approx([0.0] * burst)
    assert times[burst:] == [pytest.approx(number / TURN_RATE) for number in range(1, 500 - burst + 1)]
    # What was not used does not add up beyond the burst.
    await trio.sleep(1000)
    times.clear()
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(work)
    assert sum(moment == pytest.approx(times[0], abs=1e-6) for moment in times) == burst
    assert len(times) == 200


def test_slices_are_the_whole() -> None:
    data = bytes(range(256)) * 9
    pieces = list(slices(data))
    assert b"".join(pieces) == data
    assert {len(piece) for piece in pieces[:-1]} == {SLICE}
    assert list(slices(b"")) == []


async def test_a_turn_with_little_in_it_is_a_part_of_one(autojump_clock: MockClock) -> None:
    turns, times = Turns(), list[float]()

    async def work(frames: int) -> None:
        await turns.wait()
        turns.give_back(frames)
        times.append(trio.current_time())

    part = (EMPTY_SLICE + 2) / (EMPTY_SLICE + FULL_SLICE)
    light = int(TURN_BURST / part)
    async with trio.open_nursery() as nursery:
        for _ in range(light + 50):
            nursery.start_soon(work, 2)
    # A turn is had as a whole and given back in part.
    assert times[light - 11] == times[0]
    assert times[-1] - times[0] == pytest.approx(50 * part / TURN_RATE, abs=2 / TURN_RATE)
    # A whole one has nothing to give back.
    await trio.sleep(1000)
    times.clear()
    async with trio.open_nursery() as nursery:
        for _ in range(int(TURN_BURST) + 20):
            nursery.start_soon(work, FULL_SLICE)
    assert times[-1] - times[0] == pytest.approx(20 / TURN_RATE)


def usual_reads(moments: list[float], size: int = 21) -> list[bool]:
    """Whether reads of one client at those moments are heard on the spot."""
    spent_until, usual = -math.inf, list[bool]()
    for now in moments:
        after = usual_until(b"x" * size, spent_until, now)
        usual.append(after is not None)
        spent_until = usual_limit(now) if after is None else after
    return usual


def test_a_few_usual_reads_may_meet_and_then_there_is_one_a_pause() -> None:
    burst = int(USUAL_BURST)
    assert usual_reads([100.0] * (burst + 1)) == [True] * burst + [False]
    # Who had one too many waits for a pause.
    assert usual_reads([100.0] * (burst + 1) + [100.0 + USUAL_PAUSE / 2])[-1] is False
    assert usual_reads([100.0] * (burst + 1) + [100.0 + USUAL_PAUSE])[-1] is True
    steady = [100.0 + number * USUAL_PAUSE for number in range(100)]
    assert all(usual_reads(steady))
    # At twice the pace every other one waits.
    assert sum(usual_reads([100.0 + number * USUAL_PAUSE / 2 for number in range(100)])) <= 50 + burst


@pytest.mark.parametrize(("size", "usual"), [(1, True), (USUAL_SIZE, True), (USUAL_SIZE + 1, False)])
def test_a_usual_read_is_short(size: int, usual: bool) -> None:
    assert usual_reads([100.0], size) == [usual]


# -- allowances --------------------------------------------------------------------------------------------------------


def test_an_allowance_lasts_for_ever_at_its_rate() -> None:
    allowance = Allowance(0.0)
    assert all(allowance.spend(int(RATE), 0, float(second)) for second in range(1, 100_000))


def test_an_allowance_runs_out_above_its_rate() -> None:
    allowance = Allowance(0.0)
    second = next(second for second in range(1, 100_000) if not allowance.spend(int(2 * RATE), 0, float(second)))
    assert second == pytest.approx(BURST / RATE, rel=0.01)


def test_bytes_weigh_as_well() -> None:
    allowance = Allowance(0.0)
    assert allowance.spend(0, int((BURST - 1) * FRAME_BYTES), 0.0)
    assert not allowance.spend(0, 2 * FRAME_BYTES, 0.0)


def test_an_allowance_is_full_again_after_a_while_and_never_more_than_full() -> None:
    allowance = Allowance(0.0)
    assert allowance.is_full(0.0)
    assert allowance.spend(100, 0, 0.0)
    assert not allowance.is_full(100 / RATE - 0.1)
    assert allowance.is_full(100 / RATE)
    assert allowance.is_full(1e6)
    assert not allowance.spend(int(BURST) + 1, 0, 1e6)
