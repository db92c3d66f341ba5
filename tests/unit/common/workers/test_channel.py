"""Questions and answers between a parent and a worker: deadlines, death, bounds, nonsense (common/workers/channel)."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from common.workers import channel as module
from common.workers.channel import MOST_QUESTIONS, PIECE, NoAnswerError, Question, WorkerChannel
from common.workers.lines import ChannelError, GoneError
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trio.testing import MockClock

    from common.workers.channel import Answers

ECHO: Question[object] = Question("echo", lambda value: value)
WAIT: Question[object] = Question("wait", lambda value: value)


class Side:
    """One side, what it is asked, and how it ended."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.logbook = Logbook()
        self.channel = WorkerChannel(stream, self.logbook.log)
        self.waiting = 0
        self.orders: list[str] = []
        self.ended: ChannelError | None = None
        self.scope = trio.CancelScope()

    async def run(self, more: Answers | None = None) -> None:
        answers = {"echo": self._echo, "wait": self._wait, **(more or {})}
        heed: dict[str, Callable[[], None]] = {"drain": lambda: self.orders.append("drain")}
        with self.scope:
            try:
                await self.channel.run(answers, heed)
            except ChannelError as error:
                self.ended = error
        await self.channel.aclose()

    async def _echo(self, of: object) -> object:
        await trio.lowlevel.checkpoint()
        return of

    async def _wait(self, _of: object) -> object:
        self.waiting += 1
        try:
            await trio.sleep_forever()
        finally:
            self.waiting -= 1


@asynccontextmanager
async def open_sides(more: Answers | None = None) -> AsyncIterator[tuple[Side, Side]]:
    """Two sides that hear each other; `more` is what both answer besides."""
    one, other = (Side(stream) for stream in trio.testing.memory_stream_pair())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, more)
        nursery.start_soon(other.run, more)
        yield one, other
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_side() -> AsyncIterator[tuple[Side, trio.abc.Stream]]:
    """One side, and the bytes of the other."""
    ours, theirs = trio.testing.memory_stream_pair()
    side = Side(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(side.run)
        yield side, theirs
        nursery.cancel_scope.cancel()


async def test_either_side_asks_and_each_gets_its_own_answer(autojump_clock: MockClock) -> None:
    async with open_sides() as (one, other), trio.open_nursery() as nursery:
        found: dict[tuple[str, int], object] = {}

        async def ask(name: str, side: Side, of: int) -> None:
            found[name, of] = await side.channel.ask(ECHO, of)

        for of in range(20):
            nursery.start_soon(ask, "one", one, of)
            nursery.start_soon(ask, "other", other, of)
        await trio.testing.wait_all_tasks_blocked()
        assert found == {(name, of): of for name in ("one", "other") for of in range(20)}


async def test_an_answer_that_does_not_come_in_time_is_none_and_is_no_longer_worked_at(
    autojump_clock: MockClock,
) -> None:
    async with open_sides() as (one, other):
        start = trio.current_time()
        with pytest.raises(NoAnswerError, match="in time"):
            await one.channel.ask(WAIT, within=3.0)
        assert trio.current_time() - start == pytest.approx(3.0)
        await trio.testing.wait_all_tasks_blocked()
        assert other.waiting == 0
        assert await one.channel.ask(ECHO, "still there") == "still there"


async def test_an_asker_who_goes_away_is_not_answered(autojump_clock: MockClock) -> None:
    async with open_sides() as (one, other):
        with trio.move_on_after(1):
            await one.channel.ask(WAIT)
        await trio.testing.wait_all_tasks_blocked()
        assert other.waiting == 0


async def test_a_side_that_ends_ends_every_question(autojump_clock: MockClock) -> None:
    async with open_sides() as (one, other), trio.open_nursery() as nursery:
        ended: list[float] = []

        async def ask() -> None:
            with pytest.raises(GoneError):
                await one.channel.ask(WAIT, within=100.0)
            ended.append(trio.current_time())

        start = trio.current_time()
        for _ in range(3):
            nursery.start_soon(ask)
        await trio.sleep(5)
        other.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert ended == [start + 5] * 3
        with pytest.raises(GoneError):
            await one.channel.ask(ECHO)
        with pytest.raises(GoneError):
            await one.channel.order("drain")


async def test_bytes_come_in_pieces_between_which_others_are_answered(autojump_clock: MockClock) -> None:
    image = bytes(range(256)) * (PIECE // 16)

    async def snapshot(_of: object) -> bytes:
        await trio.lowlevel.checkpoint()
        return image

    question: Question[Any] = Question("snapshot", lambda value: value)
    ours, theirs = trio.testing.lockstep_stream_pair()
    one, other = Side(ours), Side(theirs)
    order: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        nursery.start_soon(other.run, {"snapshot": snapshot})

        async def ask_snapshot() -> None:
            assert await one.channel.ask(question) == image
            order.append("snapshot")

        nursery.start_soon(ask_snapshot)
        await trio.lowlevel.checkpoint()
        for beat in range(3):
            assert await one.channel.ask(ECHO, beat) == beat
            order.append("beat")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert order == ["beat", "beat", "beat", "snapshot"]


async def test_an_order_is_heeded_and_one_that_nobody_knows_is_nonsense(autojump_clock: MockClock) -> None:
    async with open_sides() as (one, other):
        await one.channel.order("drain")
        await trio.testing.wait_all_tasks_blocked()
        assert other.orders == ["drain"]
        await one.channel.order("dance")
        await trio.testing.wait_all_tasks_blocked()
        assert other.ended is not None


@pytest.mark.parametrize("what", ["unknown", "buggy"])
async def test_what_can_not_be_answered_is_said_so_and_logged_over_there(what: str, autojump_clock: MockClock) -> None:
    async def bug(_of: object) -> object:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError("bug")

    async with open_sides({"buggy": bug}) as (one, other):
        with pytest.raises(NoAnswerError, match="no answer"):
            await one.channel.ask(Question(what, lambda value: value))
        assert [line["question"] for line in other.logbook.said("question failed")] == [what]
        assert await one.channel.ask(ECHO, 1) == 1


async def test_so_many_questions_wait_and_no_more(autojump_clock: MockClock) -> None:
    async with open_sides() as (one, other), trio.open_nursery() as nursery:
        for _ in range(MOST_QUESTIONS):
            nursery.start_soon(one.channel.ask, WAIT)
        await trio.testing.wait_all_tasks_blocked()
        assert other.waiting == MOST_QUESTIONS
        with pytest.raises(NoAnswerError, match="too many"):
            await one.channel.ask(ECHO)
        assert await other.channel.ask(ECHO, "the other way") == "the other way"
        nursery.cancel_scope.cancel()
    assert other.ended is None


async def test_who_asks_too_much_at_once_talks_nonsense(autojump_clock: MockClock) -> None:
    async with open_side() as (side, theirs):
        for number in range(MOST_QUESTIONS + 1):
            await theirs.send_all(json.dumps({"ask": number, "what": "wait"}).encode() + b"\n")
        await trio.testing.wait_all_tasks_blocked()
        assert "too many" in str(side.ended)


async def test_what_is_dropped_at_once_is_no_question(autojump_clock: MockClock) -> None:
    async with open_side() as (side, theirs):
        messages: list[dict[str, object]] = []
        for number in range(2 * MOST_QUESTIONS):
            messages += [{"ask": number, "what": "wait"}, {"drop": number}]
        # All are read before one of them can be heeded, as by a side that was stopped.
        await theirs.send_all(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
        await trio.testing.wait_all_tasks_blocked()
        assert side.ended is None
        assert side.waiting == 0


async def test_who_asks_again_at_once_does_not_ask_too_much(autojump_clock: MockClock) -> None:
    async with open_sides() as (one, other), trio.open_nursery() as nursery:

        async def ask_twice() -> None:
            with pytest.raises(NoAnswerError, match="in time"):
                await one.channel.ask(WAIT, within=1)
            with pytest.raises(NoAnswerError, match="too many"):
                await one.channel.ask(ECHO, within=1)

        for _ in range(MOST_QUESTIONS):
            nursery.start_soon(ask_twice)
        await trio.sleep(2)
        assert other.ended is None
        assert await one.channel.ask(ECHO, 1) == 1


async def test_two_questions_of_one_number_are_nonsense(autojump_clock: MockClock) -> None:
    async with open_side() as (side, theirs):
        await theirs.send_all(2 * b'{"ask":1,"what":"wait"}\n')
        await trio.testing.wait_all_tasks_blocked()
        assert "of one number" in str(side.ended)


NONSENSE = [
    b"what?",
    b"[]",
    b"[" * 100_000,
    b"{}",
    b'{"ask":"1","what":"echo"}',
    b'{"ask":1}',
    b'{"answer":"0"}',
    b'{"answer":0}',
    b'{"answer":0,"piece":1}',
    b'{"answer":0,"piece":"?"}',
    b'{"answer":0,"piece":"\xc3\xa9"}',
    b'{"answer":0,"failed":false}',
    b'{"answer":0,"value":"no number"}',
    b'{"drop":"1"}',
    b'{"order":1}',
]


@pytest.mark.parametrize("line", NONSENSE, ids=range(len(NONSENSE)))
async def test_nonsense_ends_the_channel_and_who_asked(line: bytes, autojump_clock: MockClock) -> None:
    def number(value: object) -> int:
        if not isinstance(value, int):
            raise ValueError("no number")  # noqa: TRY004 - nonsense is a ValueError
        return value

    async with open_side() as (side, theirs), trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(GoneError):
                await side.channel.ask(Question("number", number))

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert side.ended is None
        await theirs.send_all(line + b"\n")
        await trio.testing.wait_all_tasks_blocked()
        assert side.ended is not None


async def test_an_answer_to_what_nobody_asks_any_more_is_nobodys(autojump_clock: MockClock) -> None:
    async with open_side() as (side, theirs):
        for line in (b'{"answer":7}', b'{"answer":7,"piece":"?"}', b'{"drop":7}'):
            await theirs.send_all(line + b"\n")
        await trio.testing.wait_all_tasks_blocked()
        assert side.ended is None


async def test_an_answer_without_end_is_nonsense(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_LIMIT", 100)
    async with open_side() as (side, theirs), trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(GoneError):
                await side.channel.ask(WAIT)

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(11):
            await theirs.send_all(b'{"answer":0,"piece":"MDEyMzQ1Njc4OQ=="}\n')
        await trio.testing.wait_all_tasks_blocked()
        assert "does not end" in str(side.ended)
