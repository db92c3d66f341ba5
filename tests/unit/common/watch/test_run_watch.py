"""`watch` as a process (`run_watch` of common/watch/client.py): what ends it, and with which exit code."""

from __future__ import annotations

import math
import signal
from typing import TYPE_CHECKING, Any

import pytest
import trio

from common.watch import client
from common.watch.client import run_watch
from common.watch.show import Codes, FinishedError, OutputClosedError, Show

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

CODES = Codes(refused=21, time_up=22, hung_up=23)


class Nobody:
    """A show that nobody looks at."""

    def frame(self, frame: Mapping[str, object]) -> None:
        """See `Show`."""

    def notice(self, note: object, text: str) -> None:
        """See `Show`."""


def code_of(monkeypatch: pytest.MonkeyPatch, watch: Callable[[], Awaitable[int]], **given: Any) -> int:
    """The exit code where the conversation does what `watch` does."""

    async def stand_in(_url: str, _path: str, show: Show, *, lossy: bool, codes: Codes) -> int:
        assert isinstance(show, Nobody)
        assert (lossy, codes) == (True, given.get("codes", Codes()))
        return await watch()

    monkeypatch.setattr(client, "watch", stand_in)
    return run_watch("ws://h", "r:c", Nobody(), **given)


def test_the_conversations_code_is_the_processs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused() -> int:
        await trio.lowlevel.checkpoint()
        return 21

    assert code_of(monkeypatch, refused, codes=CODES) == 21


@pytest.mark.parametrize(("codes", "code"), [(Codes(), 0), (CODES, 22)])
def test_its_time_may_be_up(codes: Codes, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def goes_on() -> int:
        await trio.sleep(math.inf)
        return 1

    assert code_of(monkeypatch, goes_on, seconds=0.0, codes=codes) == code


def test_what_was_seen_may_be_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def seen() -> int:
        raise FinishedError(5)

    assert code_of(monkeypatch, seen, seconds=1000.0) == 5


def test_a_reader_that_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    given_up: list[bool] = []
    monkeypatch.setattr(client, "discard_output", lambda: given_up.append(True))

    async def unread() -> int:
        raise OutputClosedError("gone")

    assert code_of(monkeypatch, unread) == 0
    assert given_up == [True]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    async def told() -> int:
        signal.raise_signal(number)
        await trio.sleep(math.inf)
        return 1

    assert code_of(monkeypatch, told) == 0


def test_a_url_that_is_none_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[bool] = []

    async def starts(*_: object, **__: object) -> int:
        started.append(True)
        return 0

    monkeypatch.setattr(client, "watch", starts)
    with pytest.raises(ValueError, match="ws"):
        run_watch("gopher://h", "r:c", Nobody())
    assert started == []
