"""`opsd check` (opsd/check.py): the rights that the history needs, tried without writing, and silent sources."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from common import check as module
from common.config import load
from common.exits import Exit
from common.redis.links import make_link
from opsd.check import MARGIN, check
from opsd.keys import keys_of
from opsd.settings import OpsSettings
from opsd.tmux.session import Tmux
from opsd.tmux.status import TmuxSession, TmuxStatus
from tests.support.opsd_board import HandSource
from tests.support.scripted_redis import Command, Peer, ScriptedRedis, open_scripted_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

SETTINGS = load(OpsSettings, {}).settings
KEYS = keys_of(SETTINGS)
PATIENCE = SETTINGS.workers_timeout + MARGIN

USUAL = {
    b"TIME": b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n",
    b"XRANGE": b"*0\r\n",
    b"XADD": b"-ERR Invalid stream ID specified as stream command argument\r\n",
}


@pytest.fixture
async def redis(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedRedis]:
    """A server that has streams, and is found by `check`; there is no tmux, and no source is asked."""

    async def no_tmux(_: Tmux) -> TmuxStatus:
        return TmuxStatus(available=False, reason="not installed", sessions=(), name="run-status", attach="")

    monkeypatch.setattr(Tmux, "status", no_tmux)
    monkeypatch.setattr("opsd.check.make_sources", lambda _settings, _rng: [])
    async with open_scripted_redis() as scripted:
        scripted.answers = lambda _peer, command: USUAL.get(command[0])
        monkeypatch.setattr(module, "make_link", partial(make_link, connect=scripted.connect))
        yield scripted


async def checked() -> tuple[int, list[str]]:
    """The exit code and the lines of `check`."""
    out = io.StringIO()
    code = await check(SETTINGS, out)
    return code, out.getvalue().splitlines()


async def test_what_is_kept_is_asked_for_and_nothing_is_written(
    autojump_clock: MockClock, redis: ScriptedRedis
) -> None:
    code, lines = await checked()
    assert code == Exit.OK
    assert lines == ["redis: OK", f"history: {KEYS.history}", "tmux: none: not installed"]
    kept = [KEYS.history.encode(), KEYS.alerts.encode()]
    assert [command[1] for command in redis.asked(b"XRANGE")] == kept
    assert [command[1] for command in redis.asked(b"XADD")] == kept
    assert all(command[2] == b"not-an-id" for command in redis.asked(b"XADD")), "no server takes that"
    assert {command[0] for command in redis.commands} == {b"HELLO", b"SELECT", b"PING", *USUAL}


@pytest.mark.parametrize("command", [b"TIME", b"XRANGE", b"XADD"])
async def test_a_right_that_is_missing_fails(autojump_clock: MockClock, redis: ScriptedRedis, command: bytes) -> None:
    def answers(_peer: Peer, asked: Command) -> bytes | None:
        if asked[0] == command:
            return b"-NOPERM User ops has no permissions to run the '%b' command\r\n" % command.lower()
        return USUAL.get(asked[0])

    redis.answers = answers
    code, lines = await checked()
    assert code == Exit.FAILED
    assert lines[0].startswith("redis: FAILED: ")
    assert f"permissions to run the '{command.decode().lower()}' command" in lines[0]
    assert lines[1:] == [f"history: {KEYS.history}", "tmux: none: not installed"], "the rest is said all the same"


async def test_a_key_of_another_kind_fails(autojump_clock: MockClock, redis: ScriptedRedis) -> None:
    wrong = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
    redis.answers = lambda _peer, asked: wrong if asked[0] == b"XADD" else USUAL.get(asked[0])
    code, lines = await checked()
    assert code == Exit.FAILED
    assert lines[0].startswith("redis: FAILED: ")
    assert "wrong kind of value" in lines[0]


async def test_sources_have_their_time_together_and_tmux_its_line(
    autojump_clock: MockClock, redis: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, slow = HandSource("statusd"), HandSource("preflightd")

    async def has_tmux(_: Tmux) -> TmuxStatus:
        session = TmuxSession("run-status", windows=2, attached=0, created=datetime(2026, 1, 1, tzinfo=UTC))
        return TmuxStatus(available=True, reason="", sessions=(session,), name="run-status", attach="tmux attach")

    monkeypatch.setattr(Tmux, "status", has_tmux)
    monkeypatch.setattr("opsd.check.make_sources", lambda _settings, _rng: [silent, slow])
    start = trio.current_time()
    code, lines = await checked()
    assert PATIENCE <= trio.current_time() - start < 2 * PATIENCE, "not one after the other"
    assert code == Exit.OK
    assert lines[2:] == [
        f"warning: statusd: unavailable: {silent.reading.problem}",
        f"warning: preflightd: unavailable: {slow.reading.problem}",
        "tmux: OK, 1 sessions",
    ]


async def test_nobody_waits_for_a_source_that_has_answered(
    autojump_clock: MockClock, redis: ScriptedRedis, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    source = HandSource("statusd")
    monkeypatch.setattr("opsd.check.make_sources", lambda _settings, _rng: [source])

    async def answers() -> None:
        await trio.sleep(PATIENCE / 6)
        source.news()
        await trio.sleep(PATIENCE / 6)
        source.shows()

    nursery.start_soon(answers)
    start = trio.current_time()
    code, lines = await checked()
    assert trio.current_time() - start == pytest.approx(PATIENCE / 3)
    assert (code, lines[2]) == (Exit.OK, "statusd: OK, 1 workers")
