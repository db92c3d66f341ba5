"""The commands that make the session: no word in them is syntax. And which daemons are in it."""

from __future__ import annotations

import re
import shlex
import shutil
from functools import partial
from pathlib import Path

import pytest

from opsd.launch import admin_address, platform_windows
from opsd.sources.target import parse_target
from opsd.tmux.logs import LogFiles
from opsd.tmux.script import LOGS, Window, make_script
from tests.support.tmux import unquote


def test_no_word_from_outside_is_syntax() -> None:
    evil = "'; kill-server \" $(touch /tmp/x) #{pane_id} \n\\ ; é"
    window = Window("statusd", ("python", evil), {"VALUE": evil, "bad name": "x", "TERM": "dumb"})
    script = make_script("ours", [window], Path("/dir/#{x}"))
    make, *options, title = script.splitlines()
    assert len(options) == 3
    assert unquote(title)[0] == ["select-pane", "-t", "=ours:=statusd", "-T", "statusd"]
    assert re.fullmatch(r'("(\\\d{3})*"|--| )+', make)
    words = unquote(script)[0]
    decoded = [word.encode("latin-1").decode() for word in words]
    assert decoded[:5] == ["new-session", "-d", "-s", "ours", "-x"]
    assert f"VALUE={evil}" in decoded
    assert decoded[decoded.index("--") + 1 :] == ["python", evil]
    assert not any(word.startswith(("bad name", "TERM=")) for word in decoded)
    assert "/dir/##{x}" in decoded


def test_windows_come_without_the_variables_that_are_not_theirs() -> None:
    window = Window("statusd", ("python",), {}, without=("OPS_TOKEN",))
    words = unquote(make_script("ours", [window, window], Path("/")))
    assert words[0][words[0].index("--") + 1 :][1:] == ["-u", "OPS_TOKEN", "python"]
    assert words[5][:4] == ["new-window", "-d", "-t", "=ours:"]


def test_one_window_more_follows_all_logs(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path / "a b #{pane_id} %d 'c'")
    windows = [Window(name, ("python",), {}, without=("OPS_TOKEN",)) for name in ("statusd", "preflightd")]
    words = unquote(make_script("ours", windows, Path("/"), logs))
    pipes = [command for command in words if command[0] == "pipe-pane"]
    assert [command[2] for command in pipes] == ["=ours:=statusd", "=ours:=preflightd"]
    for window, (*_, command) in zip(windows, pipes, strict=True):
        # What tmux makes of it goes to a shell.
        expanded = command.replace("##", "#").replace("%%", "%")
        assert shlex.split(expanded)[-2] == str(logs.of(window.name))
        assert command.count("%") == 2 * expanded.count("%")
        assert command.count("#") == 2 * expanded.count("#")
    last = words[-5]
    assert (last[0], last[last.index("-n") + 1]) == ("new-window", LOGS)
    assert last[-5:] == ["+1", "-F", "--", *(str(logs.of(window.name)) for window in windows)]


def test_without_a_tail_there_is_no_such_window(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    script = make_script("ours", [Window("statusd", ("python",), {})], Path("/"), LogFiles(tmp_path))
    assert not any(command[0] in {"pipe-pane", "new-window"} for command in unquote(script))


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("statusd=http://127.0.0.1:9102", "127.0.0.1:9102"),
        ("statusd=http://[::1]:9102", "[::1]:9102"),
        ("statusd=http://localhost", "localhost:80"),
        ("statusd=unix:/run/s.sock", "unix:/run/s.sock"),
        ("statusd=http://10.0.0.1:9102", None),
        ("statusd=https://127.0.0.1:9102", None),
        ("statusd=http://127.0.0.1:9102/prefix", None),
    ],
)
def test_where_a_daemon_is_expected_it_is_told_to_listen(target: str, address: str | None) -> None:
    assert admin_address(parse_target(target)) == address


def test_the_platform_is_what_the_targets_expect_on_this_machine() -> None:
    parse = partial(map, parse_target)
    targets = list(parse(["statusd=http://127.0.0.1:9102", "preflightd=unix:/run/p.sock", "other=http://127.0.0.1:1"]))
    environ = {"PATH": "/bin", "OPS_TOKEN": "secret", "STATUS_WORKERS": "2", "PREFLIGHT_ADMIN_LISTEN_ADDR": "::1:7"}
    status, preflight = platform_windows(targets, environ)
    assert (status.name, status.argv[1:]) == ("statusd", ("-m", "statusd"))
    assert status.environ["STATUS_ADMIN_LISTEN_ADDR"] == "127.0.0.1:9102"
    assert status.environ["STATUS_WORKERS"] == "2"
    assert "OPS_TOKEN" not in status.environ
    assert status.without == ("OPS_TOKEN",)
    # What the operator has said stays.
    assert preflight.environ["PREFLIGHT_ADMIN_LISTEN_ADDR"] == "::1:7"
    assert platform_windows(list(parse(["statusd=http://10.0.0.1:1"])), environ) == ()
