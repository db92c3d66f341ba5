"""How many clients follow a run: who is asked, how often, and what becomes of those who don't answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from common.telemetry.fields import GarbageError
from common.telemetry.parse import parse_audience, parse_status
from common.telemetry.values import Audience
from opsd.sources.interface import AudienceError, Reading
from opsd.viewers import AT_ONCE, FRESH, MOST_NAMES, TIMEOUT, Count, Viewers
from tests.support.opsd_telemetry import encoded, telemetry

if TYPE_CHECKING:
    from trio.testing import MockClock

NAME = "run:log"


@attrs.define(eq=False)
class Source:
    """A daemon that counts, fails or hangs."""

    name: str
    answer: Audience | Exception | None = None
    """None hangs."""
    daemon: str | None = "statusd"
    """What it says that it is; None when it says nothing."""
    outside: bool = False
    seconds: float = 0.0
    asked: list[str] = attrs.field(factory=list)
    at_once: int = 0
    most_at_once: int = 0

    @property
    def reading(self) -> Reading:
        if self.daemon is None:
            return Reading()
        return Reading(parse_status(encoded(telemetry(daemon=self.daemon))))

    async def audience(self, name: str) -> Audience:
        self.asked.append(name)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await trio.sleep(self.seconds)
            if self.answer is None:
                await trio.sleep_forever()
            if isinstance(self.answer, Exception):
                raise self.answer
            assert self.answer is not None
            return self.answer
        finally:
            self.at_once -= 1


async def test_all_daemons_of_the_kind_are_asked_and_no_others(autojump_clock: MockClock) -> None:
    first, second = Source("one", Audience(3)), Source("two", Audience(4))
    # One that says nothing is what the operator calls it.
    silent = Source("statusd", Audience(5), daemon=None)
    others = [Source("preflightd", Audience(50), daemon="preflightd"), Source("statusd", Audience(500), outside=True)]
    viewers = Viewers([first, second, silent, *others])
    assert await viewers.count("statusd", NAME) == Count(12, ())
    assert [source.asked for source in others] == [[], []]
    assert await viewers.count("nobody", NAME) == Count(None, ())


async def test_who_is_not_in_the_number_is_named(autojump_clock: MockClock) -> None:
    sources = [
        Source("whole", Audience(1)),
        Source("partial", Audience(2, silent=("1",))),
        Source("fails", AudienceError("no")),
        Source("hangs"),
    ]
    begun = trio.current_time()
    assert await Viewers(sources).count("statusd", NAME) == Count(3, ("partial", "fails", "hangs"))
    assert trio.current_time() - begun == pytest.approx(TIMEOUT)
    assert await Viewers(sources[2:]).count("statusd", NAME) == Count(None, ("fails", "hangs"))


async def test_an_answer_serves_everybody_for_a_second(autojump_clock: MockClock) -> None:
    source = Source("one", Audience(3), seconds=0.2)
    viewers = Viewers([source])
    counts: list[Count] = []

    async def ask() -> None:
        counts.append(await viewers.count("statusd", NAME))

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(ask)
    assert counts == [Count(3, ())] * 100
    assert source.asked == [NAME]
    await trio.sleep(FRESH - 0.1)
    source.answer = Audience(4)
    assert await viewers.count("statusd", NAME) == Count(3, ())
    await trio.sleep(0.2)
    assert await viewers.count("statusd", NAME) == Count(4, ())
    assert source.asked == [NAME] * 2


async def test_one_who_goes_away_while_asking_leaves_the_question_to_the_next(autojump_clock: MockClock) -> None:
    source = Source("one", Audience(3), seconds=1)
    viewers = Viewers([source])
    counts: list[Count] = []

    async def ask(patience: float) -> None:
        with trio.move_on_after(patience):
            counts.append(await viewers.count("statusd", NAME))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 0.5)
        nursery.start_soon(ask, 5)
    assert counts == [Count(3, ())]


async def test_a_source_is_asked_few_things_at_a_time_and_few_are_remembered(autojump_clock: MockClock) -> None:
    source = Source("one", Audience(1), seconds=0.001)
    viewers = Viewers([source])
    async with trio.open_nursery() as nursery:
        for number in range(MOST_NAMES * 2):
            nursery.start_soon(viewers.count, "statusd", f"run{number}:log")
    assert len(source.asked) == MOST_NAMES * 2
    assert source.most_at_once == AT_ONCE
    assert len(viewers._kept) == MOST_NAMES


@pytest.mark.parametrize(
    ("body", "audience"),
    [
        (b'{"clients":3,"silent":[]}', Audience(3)),
        (b'{"clients":0}', Audience(0)),
        (b'{"name":"x","clients":2.0,"silent":["1"],"more":1}', Audience(2, silent=("1",))),
    ],
)
def test_a_daemons_answer_is_read(body: bytes, audience: Audience) -> None:
    assert parse_audience(body) == audience


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b"nonsense", b'{"clients":-1}', b'{"clients":true}', b'{"clients":"3"}'),
        *(b'{"clients":NaN}', b'{"clients":1e400}', b'{"clients":1,"silent":"no"}', b"[" * 5000),
    ],
)
def test_nonsense_is_not_believed(body: bytes) -> None:
    with pytest.raises(GarbageError):
        parse_audience(body)
