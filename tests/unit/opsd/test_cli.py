"""opsd's command line: what it prints, and the exit codes of a configuration that can't be used."""

from __future__ import annotations

import io
import json
import socket
from typing import TYPE_CHECKING, TextIO

import pytest
import trio

from common.cli import run
from common.config import load, rows
from opsd.check import MARGIN, check
from opsd.cli import OPSD
from opsd.keys import keys_of
from opsd.settings import OpsSettings
from opsd.tmux.session import Tmux
from opsd.tmux.status import TmuxStatus
from tests.support.opsd_board import HandSource

if TYPE_CHECKING:
    from trio.testing import MockClock


def test_help_names_every_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(OPSD, ["--help"], {})
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(row.variable in text for row in rows(OpsSettings))


def test_an_unknown_command_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(OPSD, ["watch"], {})
    assert ended.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OPS_LISTEN_ADDR": ":9003"}, "set OPS_TOKEN or OPS_TOKEN_FILE"),
        ({"OPS_LISTEN_ADDR": "10.0.0.1:9003"}, "set OPS_TOKEN or OPS_TOKEN_FILE"),
        ({"OPS_TOKEN_FILE": "/nonexistent"}, "can't be read"),
        ({"OPS_REDIS_URL": "redis://h/x"}, "OPS_REDIS_URL"),
    ],
)
@pytest.mark.parametrize("command", [[], ["serve"], ["check"]])
def test_a_configuration_that_cannot_be_used_is_one_line_and_exit_2(
    command: list[str], environ: dict[str, str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(OPSD, command, environ) == 2
    out, err = capfd.readouterr()
    if command == ["check"]:
        assert out == ""
        assert err.startswith("opsd: ")
        assert (said in err, err.count("\n")) == (True, 1)
    else:
        (line,) = map(json.loads, out.splitlines())
        assert (line["level"], line["msg"], line["component"]) == ("error", "bad configuration", "opsd")
        assert said in line["error"]


def test_a_taken_port_is_one_line_and_exit_2(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert run(OPSD, [], {"OPS_LISTEN_ADDR": address}) == 2
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["msg"] for line in lines] == ["open files limit", "can't listen"]
    assert (lines[-1]["level"], lines[-1]["address"]) == ("error", address)


@pytest.mark.parametrize(("given", "seconds"), [("100ms", 0.1), ("5s", 5.0)])
async def test_a_check_waits_as_long_as_a_source_may_take(
    given: str, seconds: float, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def finds_redis(*_: object, **__: object) -> bool:
        return True

    async def no_tmux(_: Tmux) -> TmuxStatus:
        return TmuxStatus(available=False, reason="not installed", sessions=(), name="run-status", attach="")

    monkeypatch.setattr("opsd.check.check_redis", finds_redis)
    monkeypatch.setattr("opsd.check.make_sources", lambda _settings, _rng: [HandSource("statusd"), HandSource("other")])
    monkeypatch.setattr(Tmux, "status", no_tmux)
    out, begun = io.StringIO(), trio.current_time()
    assert await check(load(OpsSettings, {"OPS_WORKERS_TIMEOUT": given}).settings, out) == 0
    assert trio.current_time() - begun == pytest.approx(seconds + MARGIN)
    assert out.getvalue().splitlines()[1:3] == [
        "warning: statusd: unavailable: not asked yet",
        "warning: other: unavailable: not asked yet",
    ]


async def test_a_check_that_finds_redis_says_what_each_source_and_tmux_have_to_say(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    well, away = HandSource("statusd"), HandSource("preflightd")
    well.shows()
    away.fails()

    async def finds_redis(daemon: str, settings: object, out: TextIO, channels: object, probe: object) -> bool:
        del settings, channels, probe
        out.write(f"{daemon}\nredis: OK\n")
        return True

    async def no_tmux(_: Tmux) -> TmuxStatus:
        return TmuxStatus(
            available=False, reason="not installed", sessions=(), name="run-status", attach="tmux attach -t run-status"
        )

    monkeypatch.setattr("opsd.check.check_redis", finds_redis)
    monkeypatch.setattr("opsd.check.make_sources", lambda _settings, _rng: [well, away])
    monkeypatch.setattr(Tmux, "status", no_tmux)
    out = io.StringIO()
    settings = load(OpsSettings, {}).settings
    assert await check(settings, out) == 0
    assert out.getvalue().splitlines() == [
        "opsd",
        "redis: OK",
        f"history: {keys_of(settings).history}",
        "statusd: OK, 1 workers",
        "warning: preflightd: unavailable: gone",
        "tmux: none: not installed",
    ]
