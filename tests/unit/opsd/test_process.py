"""opsd's tasks (opsd/process.py): a bug in one of them ends none of the others, and it is started again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from opsd.process import RESTART_DELAY, _keep
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_a_task_that_fails_is_said_and_started_again_for_as_long_as_it_takes(autojump_clock: MockClock) -> None:
    logbook, begun = Logbook(), list[float]()

    async def fails() -> None:
        begun.append(trio.current_time())
        await trio.sleep(10)
        raise LookupError("a bug")

    start = trio.current_time()
    with trio.move_on_after(3 * (10 + RESTART_DELAY) - 0.5):
        await _keep("history", fails, logbook.log)
    assert [at - start for at in begun] == pytest.approx([0, 10 + RESTART_DELAY, 2 * (10 + RESTART_DELAY)])
    assert [(line["level"], line["msg"], line["task"]) for line in logbook.lines] == [
        ("error", "task failed", "history")
    ] * 3
    assert all("LookupError: a bug" in line["traceback"] for line in logbook.lines)


async def test_a_task_that_is_done_is_started_again_without_a_word(autojump_clock: MockClock) -> None:
    logbook, begun = Logbook(), list[float]()

    async def returns() -> None:
        begun.append(trio.current_time())
        await trio.lowlevel.checkpoint()

    with trio.move_on_after(RESTART_DELAY * 1.5):
        await _keep("tmux", returns, logbook.log)
    assert len(begun) == 2
    assert logbook.lines == []


async def test_the_end_of_the_process_is_no_bug(autojump_clock: MockClock) -> None:
    logbook = Logbook()
    with trio.move_on_after(1) as scope:
        await _keep("board", trio.sleep_forever, logbook.log)
    assert scope.cancelled_caught
    assert logbook.lines == []
