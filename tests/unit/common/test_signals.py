"""How a process is told to end (common/signals.py)."""

from __future__ import annotations

import math
import signal
from typing import TYPE_CHECKING

import pytest
import trio

from common import early
from common.exits import Exit
from common.signals import IMPATIENCE, heed, run_until_told
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP


class Told:
    """`heed`, with signals that come at given seconds."""

    def __init__(self) -> None:
        self.stop = trio.Event()
        self.stopped_at: float | None = None
        self.ended_by: int | None = None
        self.ended_at: float | None = None

    async def hear(self, *signals: tuple[float, int], impatience: float = IMPATIENCE, told: bool = False) -> None:
        start = trio.current_time()
        send, receive = trio.open_memory_channel[int](math.inf)

        async def note() -> None:
            await self.stop.wait()
            self.stopped_at = trio.current_time() - start

        async def listen() -> None:
            self.ended_by = await heed(receive, self.stop, impatience, told=told)
            self.ended_at = trio.current_time() - start

        async with trio.open_nursery() as nursery:
            nursery.start_soon(note)
            nursery.start_soon(listen)
            for at, number in signals:
                await trio.sleep_until(start + at)
                send.send_nowait(number)
            await trio.sleep(1000)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("number", early.ENDING)
async def test_the_first_signal_drains(autojump_clock: MockClock, number: int) -> None:
    told = Told()
    await told.hear((5, number))
    assert (told.stopped_at, told.ended_by) == (5, None)


@pytest.mark.parametrize("gap", [0, 0.5, IMPATIENCE - 0.001])
async def test_what_follows_at_once_is_the_same_order(autojump_clock: MockClock, gap: float) -> None:
    told = Told()
    await told.hear((5, TERM), (5, INT), (5 + gap, TERM), (5 + gap, HUP))
    assert (told.stopped_at, told.ended_by) == (5, None)


@pytest.mark.parametrize("gap", [IMPATIENCE, 3, 600])
async def test_a_later_one_is_impatience(autojump_clock: MockClock, gap: float) -> None:
    told = Told()
    await told.hear((5, TERM), (5.9, TERM), (5 + gap, INT), (2000, TERM))
    assert (told.stopped_at, told.ended_by, told.ended_at) == (5, INT, 5 + gap)


async def test_a_worker_never_loses_patience(autojump_clock: MockClock) -> None:
    told = Told()
    await told.hear((5, TERM), (6, TERM), (60, INT), (600, HUP), impatience=math.inf)
    assert (told.stopped_at, told.ended_by) == (5, None)


async def test_one_that_came_before_the_start_is_the_first(autojump_clock: MockClock) -> None:
    told = Told()
    await told.hear((0.5, TERM), (2, TERM), told=True)
    assert (told.stopped_at, told.ended_by, told.ended_at) == (0, TERM, 2)


# -- with signals -----------------------------------------------------------------------------------------------------


async def test_a_real_signal_and_a_later_one(autojump_clock: MockClock) -> None:
    logbook = Logbook()
    drained: list[float] = []

    async def run(stop: trio.Event) -> int:
        signal.raise_signal(HUP)
        await stop.wait()
        drained.append(trio.current_time())
        signal.raise_signal(TERM)
        await trio.sleep(IMPATIENCE)
        signal.raise_signal(TERM)
        await trio.sleep(3600)
        return 0

    assert await run_until_told(run, logbook.log) == Exit.FAILED
    assert trio.current_time() - drained[0] == pytest.approx(IMPATIENCE)
    assert [(line["msg"], line["signal"]) for line in logbook.lines] == [("ended by a second signal", "SIGTERM")]


async def test_the_code_is_the_runs_own(autojump_clock: MockClock) -> None:
    async def run(stop: trio.Event) -> int:
        signal.raise_signal(TERM)
        await stop.wait()
        return 7

    assert await run_until_told(run, Logbook().log) == 7


async def test_a_noted_signal_stops_at_once(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "_noted", [TERM])

    async def run(stop: trio.Event) -> int:
        with trio.fail_after(1):
            await stop.wait()
        return 0

    assert await run_until_told(run, Logbook().log) == 0
    assert early.take_noted() == []


async def test_signals_that_end_are_a_bug() -> None:
    async def none() -> AsyncIterator[int]:
        for number in [signal.SIGTERM][1:]:
            yield number

    with pytest.raises(RuntimeError, match="never end"):
        await heed(none(), trio.Event(), IMPATIENCE)
