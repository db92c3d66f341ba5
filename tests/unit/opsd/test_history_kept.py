"""What the history asks of Redis, and what it makes of the answers and refusals (opsd/history.py), without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest
import trio

from common.redis.errors import NoPermissionError, RedisConnectionError, RedisError, ResponseError
from opsd.history import _PAGE, INTERVAL, RECONNECT_GAP, History, HistoryUnavailableError, Sample
from tests.support.logbook import Logbook
from tests.support.opsd_board import KEYS, open_board

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from common.redis.links import RedisLink

NOW = 1_800_000_000.0
ENTRY = Sample(NOW, 1.0, 2.0, 3.0, 0.5, "degraded").encoded().encode()


@attrs.define
class Answering:
    """Of a link, what the history uses: each request ends as `answer` says."""

    answer: Callable[[tuple[object, ...]], object] = lambda _args: b"ok"
    asked: list[tuple[object, ...]] = attrs.field(factory=list)
    runs: list[float] = attrs.field(factory=list)
    online: bool = True

    async def request(self, *args: object, key: str) -> object:
        # Every question is put to the server of the key that it is about; TIME to that of the samples.
        assert key in args or args == ("TIME",)
        await trio.lowlevel.checkpoint()
        self.asked.append(args)
        outcome = self.answer(args)
        if isinstance(outcome, RedisError):
            raise outcome
        return outcome

    async def run(self) -> None:
        self.runs.append(trio.current_time())
        await trio.sleep_forever()

    def as_link(self) -> RedisLink:
        return cast("RedisLink", self)


def history_of(link: Answering, logbook: Logbook | None = None, keep: float = 3600.0) -> History:
    """A history at the time `NOW`."""
    return History(link.as_link(), KEYS, keep, (logbook or Logbook()).log, wall=lambda: NOW)


def entries(*ids: bytes, value: bytes = ENTRY, at: bytes | None = None) -> list[list[object]]:
    """What XRANGE answers."""
    return [[name, [b"v", value, *([] if at is None else [b"t", at])]] for name in ids]


def answering(pages: list[object]) -> Callable[[tuple[object, ...]], object]:
    """TIME is `NOW`; each XRANGE gets the next of `pages`."""
    left = iter(pages)
    return lambda args: [b"%d" % int(NOW), b"500000"] if args[0] == "TIME" else next(left)


def milliseconds(before: float) -> bytes:
    """An id's time, seconds before `NOW`."""
    return b"%d" % int((NOW - before) * 1000)


async def test_a_sample_is_kept_with_its_time_and_the_old_ones_go(autojump_clock: MockClock) -> None:
    link = Answering()
    async with open_board([]) as (board, _):
        await history_of(link, keep=INTERVAL * 2.5).record(board.status, 12.5)
    [(command, key, *limit, field, value, time_field, time)] = link.asked
    assert (command, key) == ("XADD", KEYS.history)
    assert limit == ["MAXLEN", "~", 3, "*"]
    assert (field, time_field, time) == ("v", "t", int(NOW * 1000))
    sample = Sample.decoded(NOW, str(value).encode())
    assert sample is not None
    assert (sample.messages_per_second, sample.connections) == (12.5, 0)


async def test_it_goes_on_after_refusals_and_says_once_that_they_began_and_ended(autojump_clock: MockClock) -> None:
    logbook = Logbook()
    link = Answering()
    history = history_of(link, logbook)
    async with open_board([]) as (board, _), trio.open_nursery() as nursery:
        nursery.start_soon(history.run, board)
        worked = [history.working]
        for answer, samples in ((b"ok", 1), (ResponseError("OOM command not allowed"), 3), (b"ok", 2)):
            link.answer = lambda _args, answer=answer: answer  # type: ignore[misc]
            await trio.sleep(INTERVAL * (samples + (0.5 if len(worked) == 1 else 0)))
            worked.append(history.working)
        nursery.cancel_scope.cancel()
    assert worked == [False, True, False, True], "not before the first"
    assert [(line["level"], line["msg"]) for line in logbook.lines] == [
        ("warn", "history not recorded"),
        ("info", "history recorded again"),
    ]
    assert len(link.asked) == 6


async def test_that_redis_is_away_is_the_links_to_say(autojump_clock: MockClock) -> None:
    logbook = Logbook()
    link = Answering(lambda _args: RedisConnectionError("closed by Redis"), online=False)
    async with open_board([]) as (board, _), trio.open_nursery() as nursery:
        nursery.start_soon(history_of(link, logbook).run, board)
        await trio.sleep(INTERVAL * 3.5)
        nursery.cancel_scope.cancel()
    assert len(link.asked) == 3
    assert logbook.lines == []


@pytest.mark.parametrize(
    "refusal", ["READONLY You can't write against a read only replica.", "MASTERDOWN Link is down"]
)
async def test_what_is_no_primary_is_left_and_connected_to_anew_but_not_in_a_storm(
    refusal: str, autojump_clock: MockClock
) -> None:
    logbook = Logbook()
    link = Answering(lambda _args: ResponseError(refusal))
    history = history_of(link, logbook)
    async with open_board([]) as (board, _), trio.open_nursery() as nursery:
        nursery.start_soon(history.run, board)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            with pytest.raises(HistoryUnavailableError, match=refusal.split(maxsplit=1)[0]):
                await history.keep("x")
        await trio.testing.wait_all_tasks_blocked()
        assert len(link.runs) == 2, "three refusals at one time are one reason to leave"
        await trio.sleep(RECONNECT_GAP)
        with pytest.raises(HistoryUnavailableError):
            await history.keep("x")
        await trio.testing.wait_all_tasks_blocked()
        assert len(link.runs) == 3
        nursery.cancel_scope.cancel()
    assert [line["msg"] for line in logbook.lines] == ["history: redis is no primary, connecting anew"] * 2


async def test_a_right_that_is_missing_leaves_the_connection_alone(autojump_clock: MockClock) -> None:
    link = Answering(lambda _args: NoPermissionError("NOPERM no XADD"))
    history = history_of(link)
    async with open_board([]) as (board, _), trio.open_nursery() as nursery:
        nursery.start_soon(history.run, board)
        await trio.sleep(INTERVAL * 4.5)
        nursery.cancel_scope.cancel()
    assert len(link.runs) == 1


# -- what is asked for -------------------------------------------------------------------------------------------------


async def test_the_last_minutes_are_asked_for_from_where_redis_has_them() -> None:
    link = Answering(answering([entries(milliseconds(30) + b"-0", milliseconds(10) + b"-0")]))
    points = await history_of(link).query(1, 100)
    assert [point["errorRate"] for point in points] == [0.5, 0.5]
    assert link.asked == [
        ("TIME",),
        ("XRANGE", KEYS.history, f"{int((NOW + 0.5 - 60) * 1000)}-0", "+", "COUNT", _PAGE),
    ]


async def test_no_more_is_asked_for_than_is_kept() -> None:
    link = Answering(answering([[]]))
    assert await history_of(link, keep=10.0).query(60, 100) == []
    assert link.asked[1][2] == f"{int((NOW + 0.5 - 10) * 1000)}-0"


async def test_a_full_page_is_followed_by_the_next_from_behind_its_last_entry() -> None:
    first = entries(*(milliseconds(20) + b"-%d" % number for number in range(_PAGE)))
    link = Answering(answering([first, entries(milliseconds(5) + b"-0")]))
    assert len(await history_of(link).query(1, 60)) == 2
    assert [args[2] for args in link.asked[2:]] == [f"{milliseconds(20).decode()}-{_PAGE}"]


async def test_a_samples_own_time_counts_and_what_is_of_another_is_left_out() -> None:
    page = [
        *entries(milliseconds(5) + b"-0", at=milliseconds(50)),
        *entries(milliseconds(5) + b"-1", at=milliseconds(70)),
        *entries(milliseconds(5) + b"-2", at=milliseconds(-10)),
    ]
    [point] = await history_of(Answering(answering([page]))).query(1, 100)
    assert point["time"] == "2027-01-15T07:59:10.000Z"


@pytest.mark.parametrize(
    "page",
    [
        b"no list",
        [b"no entry"],
        [[b"no-id", [b"v", ENTRY]]],
        [[b"1-1", b"no fields"]],
        [[milliseconds(5) + b"-0", [b"x", ENTRY]]],
        entries(milliseconds(5) + b"-0", value=b"somebody else's"),
        entries(milliseconds(5) + b"-0", at=b"yesterday"),
    ],
    ids=str,
)
async def test_what_somebody_else_keeps_there_is_passed_over(page: object) -> None:
    assert await history_of(Answering(answering([page]))).query(1, 100) == []


@pytest.mark.parametrize("reply", [b"now", [], [b"1"], [1, 2]], ids=str)
async def test_a_time_that_is_none_is_an_answer_to_nothing(reply: Any) -> None:
    with pytest.raises(HistoryUnavailableError, match="TIME"):
        await history_of(Answering(lambda _args: reply)).query(1, 100)


async def test_the_alerts_keep_one_text() -> None:
    link = Answering()
    await history_of(link).keep("what was sent")
    assert link.asked == [("XADD", KEYS.alerts, "MAXLEN", 1, "*", "v", "what was sent")]


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ([], None),
        (b"no list", None),
        ([[b"1-0", [b"v", b"old"]], [b"2-0", [b"v", b"new \xff"]]], "new \ufffd"),
        ([[b"1-0", [b"v", 5]]], None),
    ],
    ids=str,
)
async def test_the_last_text_is_recalled(reply: object, text: str | None) -> None:
    assert await history_of(Answering(lambda _args: reply)).recall() == text


async def test_without_redis_nothing_is_recalled_and_it_says_why() -> None:
    history = history_of(Answering(lambda _args: RedisConnectionError("closed by\nRedis")))
    with pytest.raises(HistoryUnavailableError, match=r"closed by\\u000aRedis"):
        await history.recall()
