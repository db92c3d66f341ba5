"""What a run's watcher says (preflightd/watcher.py): each line with its level and its fields, and when it says none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from common.disconnect import RUN_TOO_BIG
from common.redis.errors import NoPermissionError, ProtocolError, ReplyTooLargeError
from preflightd.watcher import RETRY, TOO_BIG_PAUSE
from tests.support.recording import RecordingRandom
from tests.support.watching import LATENCY, OTHER, FakeLink, frame_of, running

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from tests.support.watching import Setting


def lines(setting: Setting, message: str) -> list[dict[str, Any]]:
    """The fields of the lines with this message, without what every line has."""
    common = {"time", "component", "daemon", "msg"}
    return [
        {name: value for name, value in line.items() if name not in common} for line in setting.logbook.said(message)
    ]


async def test_each_diff_is_told_with_its_run_and_how_many_got_it(autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.open()
        setting.open()
        setting.open(OTHER)
        await trio.sleep(1)
        await setting.write()
        await trio.sleep(1)
        await setting.notify()
        await trio.sleep(1)
        told = lines(setting, "diff sent")
        assert [line for line in told if line["run_id"] == "run"] == [
            {"level": "debug", "run_id": "run", "clients": 2}
        ] * 2
        assert [line for line in told if line["run_id"] != "run"] == [
            {"level": "debug", "run_id": "other", "clients": 1}
        ]
        assert setting.logbook.at_least("info", "warn", "error") == []


@pytest.mark.parametrize(
    ("error", "levels"),
    [
        (RedisTimeoutError("no answer\nat all"), ["debug"] * 4),
        (ResponseError("no answer\nat all"), ["warn", *["debug"] * 3]),
        (ProtocolError("no answer\nat all"), ["warn", *["debug"] * 3]),
    ],
    ids=["absent", "refusing", "talking nonsense"],
)
async def test_a_read_that_fails_is_told_once_if_redis_is_there(
    error: RedisError, levels: list[str], autojump_clock: MockClock
) -> None:
    rng = RecordingRandom(2)
    async with running(rng=rng) as setting:
        setting.link.errors[b"run"] = error
        setting.open()
        # The fourth comes 0.7 s after the first at the latest, the fifth 0.75 s at the earliest.
        await trio.sleep(0.72)
        assert len(setting.reads) == 4
        waits = [(low, high) for low, high, _ in rng.drawn if high > 0]
        assert waits == [(RETRY.base * 2**k / 2, RETRY.base * 2**k) for k in range(4)]
        drawn = [value for _, high, value in rng.drawn if high > 0]
        assert lines(setting, "read failed") == [
            {"level": level, "run_id": "run", "error": r"no answer\u000aat all", "backoff": round(value, 3)}
            for level, value in zip(levels, drawn, strict=True)
        ]


@pytest.mark.parametrize(
    "error",
    [NoPermissionError("NOPERM\nno"), ResponseError("WRONGTYPE\nno")],
    ids=["NOPERM", "WRONGTYPE"],
)
async def test_a_refusal_is_told_in_a_line_of_its_own(error: RedisError, autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.link.errors[b"run"] = error
        setting.open()
        await trio.sleep(LATENCY * 1.5)
        shown = str(error).replace("\n", r"\u000a")
        assert lines(setting, "run hash refused") == [{"level": "warn", "run_id": "run", "error": shown}]
        assert lines(setting, "read failed") == []


async def test_wrongtype_is_one_only_where_redis_begins_with_it(autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.link.errors[b"run"] = ResponseError("ERR no WRONGTYPE")
        peer = setting.open()
        await trio.sleep(LATENCY * 1.5)
        assert (lines(setting, "run hash refused"), peer.ends) == ([], [])


async def test_a_hash_that_is_too_big_is_told_with_the_limit(autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.link.errors[b"run"] = ReplyTooLargeError("HGETALL", 5)
        setting.open()
        await trio.sleep(LATENCY * 1.5)
        assert lines(setting, "run hash too big") == [{"level": "warn", "run_id": "run", "limit": 5}]


@pytest.mark.parametrize(("after", "reads"), [(TOO_BIG_PAUSE - 0.25, 1), (TOO_BIG_PAUSE + 0.25, 2)])
async def test_the_pause_after_it_has_an_end(after: float, reads: int, autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.link.errors[b"run"] = ReplyTooLargeError("HGETALL", 5)
        # In the middle of a read there is nobody to turn away: the topic goes on for who has not left.
        first = setting.open()
        await trio.sleep(after)
        again = setting.open()
        await trio.sleep(LATENCY * 1.5)
        assert (len(setting.reads), first.ends[0], again.ends[0]) == (reads, RUN_TOO_BIG, RUN_TOO_BIG)


async def test_a_notification_in_the_pause_asks_nothing(autojump_clock: MockClock) -> None:
    async with running() as setting:
        setting.link.errors[b"run"] = ReplyTooLargeError("HGETALL", 5)
        peer = setting.open()
        await trio.sleep(1)
        await setting.notify()
        await trio.sleep(1)
        assert (len(setting.reads), set(peer.ends), len(peer.ends)) == (1, {RUN_TOO_BIG}, 2)


async def test_an_answer_that_is_no_hash_is_an_empty_one(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_link: FakeLink, *_args: object, sending: Callable[[], None]) -> None:
        sending()
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(FakeLink, "read", nothing)
    async with running() as setting:
        peer = setting.open()
        await trio.sleep(1)
        assert peer.wire.sent == [frame_of({})]
