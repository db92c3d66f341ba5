"""opsd's tmux: what is made of the program's output, and what is said when there is none. No tmux is started here."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from opsd.launch import admin_address, platform_windows
from opsd.sources.target import parse_target
from opsd.tmux import (
    CALL_TIMEOUT,
    LINES,
    LONGEST_LINE,
    LONGEST_NAME,
    MOST_SESSIONS,
    STOP_TIMEOUT,
    WATCH_INTERVAL,
    WATCH_INTERVAL_WITHOUT,
    Output,
    Tmux,
    TmuxConflictError,
    TmuxError,
    TmuxUnavailableError,
    last_lines,
    parse_panes,
    parse_sessions,
    parse_titles,
    socket_path,
)
from opsd.tmux_script import LOGS, LogFiles, Window, make_script

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NO_SERVER = Output(1, (), "no server running on /tmp/tmux-0/default")
OURS = Output(0, ("2 0 1795344550 ours",), "")
OK = Output(0, (), "")
WINDOW = Window("statusd", ("python", "-m", "statusd"), {"A": "1"})


_OCTAL = re.compile(r"\\(\d{3})")


@pytest.fixture(autouse=True)
def sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where this test's tmux would have its sockets."""
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.setenv("TMUX_TMPDIR", str(tmp_path))
    return tmp_path / f"tmux-{os.getuid()}"


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is called at once: a clock that jumps knows nothing of threads."""

    async def call(run: Callable[[Sequence[str]], Output], arguments: Sequence[str], **options: object) -> Output:
        await trio.lowlevel.checkpoint()
        return run(arguments)

    monkeypatch.setattr("trio.to_thread.run_sync", call)


def ignore(*arguments: object) -> None:
    """Nothing."""


class Program:
    """A scripted tmux: answers by command, remembers what it was asked."""

    def __init__(self, **answers: Output | Callable[[], Output]) -> None:
        self.answers = {name.replace("_", "-"): answer for name, answer in answers.items()}
        self.calls: list[Sequence[str]] = []
        self.scripts: list[str] = []

    def __call__(self, arguments: Sequence[str]) -> Output:
        self.calls.append(arguments)
        if "source-file" in arguments:
            file = Path(arguments[-1])
            assert file.stat().st_mode & 0o077 == 0
            self.scripts.append(file.read_text())
        answer = self.answers.get(arguments[0], OK)
        return answer() if callable(answer) else answer

    def names(self) -> list[str]:
        return [arguments[0] for arguments in self.calls]


def unquote(script: str) -> list[list[str]]:
    """The words of each command of a script."""
    lines = [line.split(" ") for line in script.splitlines()]
    return [[_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), word).strip('"') for word in line] for line in lines]


def test_sessions_are_parsed_with_any_name() -> None:
    found = parse_sessions(["2 1 1795344550 run-status", "1 0 0 with space", "nonsense", "", "x 1 2 three"])
    assert [(session.name, session.windows, session.attached) for session in found] == [
        ("run-status", 2, 1),
        ("with space", 1, 0),
    ]
    assert found[0].created.isoformat() == "2026-11-22T10:49:10+00:00"


def test_panes_are_parsed_with_any_names() -> None:
    lines = [
        "0 0 1 [2] [] 12968 %0 python|statusd",
        "1 0 0 [] [] 12970 %1 sleep|a | b",
        "2 1  [] [] 12971 %2 a b|c",
        "3 0 0 [0] [] 1 notanid sh|x",
        "garbage",
    ]
    dead, alive, other = parse_panes(lines)
    assert (dead.window, dead.index, dead.command, dead.dead, dead.exit_code) == ("statusd", "0.0", "python", True, 2)
    assert (alive.window, alive.dead, alive.exit_code, alive.pid) == ("a | b", False, None, 12970)
    assert (other.id, other.index, other.command) == ("%2", "2.1", "a b")


@pytest.mark.parametrize(
    ("said", "code", "number"),
    [("[0] []", 0, None), ("[2] []", 2, None), ("[] [9]", None, 9), ("[] []", None, None)],
    ids=["0", "2", "a signal", "unknown"],
)
def test_how_a_pane_ended_is_what_tmux_knows_of_it(said: str, code: int | None, number: int | None) -> None:
    (pane,) = parse_panes([f"0 0 1 {said} 12968 %0 python|statusd"])
    assert (pane.dead, pane.exit_code, pane.exit_signal) == (True, code, number)
    document = pane.document()
    assert (document["exitCode"], document["exitSignal"]) == (code, number)


def test_titles_may_hold_anything() -> None:
    assert parse_titles(["%0 a | b [1] %3 x", "%1 ", "%2", "nonsense", ""]) == {
        "%0": "a | b [1] %3 x",
        "%1": "",
        "%2": "",
    }


async def test_names_and_lists_are_bounded() -> None:
    many = tuple(f"1 0 1795344550 {'x' * 500}{number}" for number in range(MOST_SESSIONS * 2))
    program = Program(
        list_sessions=Output(0, (*many, "1 0 1795344550 ours"), ""),
        list_panes=lambda: Output(0, (f"0 0 0 [] [] 12 %0 {'c' * 500}|{'w' * 500}", f"%0 {'t' * 500}"), ""),
    )
    document: dict[str, Any] = (await Tmux("ours", run=program).status()).document()
    assert document["online"] is True
    assert len(document["sessions"]) == MOST_SESSIONS
    (pane,) = document["panes"]
    names = [document["sessions"][0]["name"], *(pane[key] for key in ("command", "window", "title"))]
    assert [len(name) for name in names] == [LONGEST_NAME] * 4


@pytest.mark.parametrize(
    ("environ", "name", "found"),
    [
        ({}, None, "TMP/tmux-7/default"),
        ({}, "mine", "TMP/tmux-7/mine"),
        ({"TMUX_TMPDIR": "/"}, None, "/tmux-7/default"),
        ({"TMUX_TMPDIR": "/nowhere/at/all"}, None, "TMP/tmux-7/default"),
        ({"TMUX": "/run/a b/sock,123,0", "TMUX_TMPDIR": "/"}, None, "/run/a b/sock"),
        ({"TMUX": "/run/sock,123,0", "TMUX_TMPDIR": "/"}, "mine", "/tmux-7/mine"),
        ({"TMUX": ",1,0"}, None, "TMP/tmux-7/default"),
    ],
)
def test_the_socket_is_where_tmux_has_it(environ: dict[str, str], name: str | None, found: str) -> None:
    # Where /tmp is a link, tmux names what it leads to.
    assert socket_path(environ, name, 7) == Path(found.replace("TMP", os.path.realpath("/tmp")))  # noqa: S108


def test_the_attach_command_is_one_for_a_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    strange = tmp_path / "a b'c"
    strange.mkdir()
    monkeypatch.setenv("TMUX_TMPDIR", str(strange))
    words = shlex.split(Tmux("ours")._attach)
    assert words == ["tmux", "-S", f"{strange}/tmux-{os.getuid()}/default", "attach", "-t", "ours"]


def test_the_last_lines_say_something_and_are_cut() -> None:
    lines = [str(number) for number in range(20)] + ["x" * 5000, "", "  ", ""]
    shown = last_lines(lines)
    assert len(shown) == LINES
    assert shown[-2:] == ("19", "x" * LONGEST_LINE)
    assert last_lines(["", " "]) == ()
    # tmux says that a pane is dead in its last row.
    assert last_lines(["the reason", *[""] * 48, "Pane is dead (status 2)"]) == (
        "the reason",
        "Pane is dead (status 2)",
    )


@pytest.mark.parametrize("name", ["", "a:b", "a.b", "a b", "=x", "x" * 65, "é", "-t;kill-server", "a\n"])
def test_names_that_tmux_would_understand_otherwise_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a name has"):
        Tmux(name)
    with pytest.raises(ValueError, match="names of"):
        make_script("ours", [Window(name, ("true",), {})], Path("/"))


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
        assert shlex.split(expanded)[-2] == str(logs.of(window))
        assert command.count("%") == 2 * expanded.count("%")
        assert command.count("#") == 2 * expanded.count("#")
    last = words[-5]
    assert (last[0], last[last.index("-n") + 1]) == ("new-window", LOGS)
    assert last[-5:] == ["+1", "-F", "--", *(str(logs.of(window)) for window in windows)]


def test_without_a_tail_there_is_no_such_window(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    script = make_script("ours", [WINDOW], Path("/"), LogFiles(tmp_path))
    assert not any(command[0] in {"pipe-pane", "new-window"} for command in unquote(script))


async def test_the_logs_are_the_users_own_and_begin_empty(sockets: Path) -> None:
    program = Program(list_sessions=NO_SERVER)
    directory = sockets / "default-ours-logs"
    await Tmux("ours", run=program).start([WINDOW])
    file = directory / "statusd.log"
    assert (directory.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    file.write_text("of the last time")
    (directory / "statusd.log.1").write_text("older")
    await Tmux("ours", run=program).start([WINDOW])
    assert [(found.name, found.read_text()) for found in directory.iterdir()] == [("statusd.log", "")]


def put_link(place: Path) -> None:
    (place.parent / "elsewhere").mkdir(mode=0o700)
    place.symlink_to(place.parent / "elsewhere")


def put_open_directory(place: Path) -> None:
    place.mkdir()
    place.chmod(0o755)


@pytest.fixture
def squatted(request: pytest.FixtureRequest, sockets: Path) -> None:
    """Something is where the logs would be kept."""
    sockets.mkdir()
    request.param(sockets / "default-ours-logs")


@pytest.mark.usefixtures("squatted")
@pytest.mark.parametrize("squatted", [put_link, Path.touch, put_open_directory], indirect=True)
async def test_logs_are_not_kept_where_others_can_read_them() -> None:
    program = Program(list_sessions=NO_SERVER)
    with pytest.raises(TmuxError, match=r"the logs can't be kept in .*-logs: it is not a directory"):
        await Tmux("ours", run=program).start([WINDOW])
    assert program.names() == ["list-sessions"]


@pytest.mark.parametrize(
    ("answer", "available", "reason"),
    [
        (NO_SERVER, True, ""),
        (Output(1, (), "error connecting to /tmp/tmux-0/default (No such file or directory)"), True, ""),
        (Output(1, (), "error connecting to /tmp/tmux-0/default (Permission denied)"), True, "denied"),
        (Output(1, (), ""), True, "ended with 1"),
    ],
)
async def test_without_a_server_there_are_no_sessions(answer: Output, available: bool, reason: str) -> None:
    status = await Tmux("ours", run=Program(list_sessions=answer)).status()
    assert (status.available, status.sessions, status.running) == (available, (), False)
    assert reason in status.reason
    assert status.document()["session"] is None


async def test_without_tmux_nothing_is_available_and_nothing_raises() -> None:
    def absent() -> Output:
        raise TmuxUnavailableError("tmux is not installed here")

    def forbidden() -> Output:
        raise PermissionError(13, "Permission denied")

    for answer, reason in ((absent, "not installed"), (forbidden, "Permission denied")):
        tmux = Tmux("ours", run=Program(list_sessions=answer))
        status = await tmux.status()
        assert not status.available
        assert reason in status.reason
        with pytest.raises(TmuxUnavailableError):
            await tmux.start([WINDOW])


async def test_a_tmux_that_hangs_is_left_alone(mock_clock: trio.testing.MockClock) -> None:
    release, called = threading.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    def hang() -> Output:
        token.run_sync_soon(called.set)
        release.wait(30)
        return OK

    program = Program(list_sessions=hang)
    tmux = Tmux("ours", run=program)
    try:
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                assert not (await tmux.status()).available

            nursery.start_soon(ask)
            await called.wait()
            mock_clock.jump(CALL_TIMEOUT)
        # The thread is still busy: no second one is started beside it.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(CALL_TIMEOUT)
        assert len(program.calls) == 1
    finally:
        release.set()


async def test_the_status_shows_our_panes(sockets: Path) -> None:
    program = Program(
        list_sessions=Output(0, ("2 0 1795344550 ours", "1 1 1795344550 other"), ""),
        list_panes=lambda: Output(0, ("0 0 0 [] [] 12 %0 python|statusd", "%0 the | log"), ""),
        capture_pane=Output(0, ("one", "two", ""), ""),
    )
    document = (await Tmux("ours", socket_name="private", run=program).status()).document()
    assert document["session"] == "ours"
    assert document["online"] is True
    assert document["attach"] == f"tmux -S {sockets}/private attach -t ours"
    assert document["panes"] == [
        {
            "window": "statusd",
            "title": "the | log",
            "index": "0.0",
            "command": "python",
            "pid": 12,
            "dead": False,
            "exitCode": None,
            "exitSignal": None,
            "lines": ["one", "two"],
        }
    ]


async def test_start_gives_tmux_a_private_file_and_no_secret_argument() -> None:
    program = Program(list_sessions=NO_SERVER)
    window = Window("statusd", ("python",), {"STATUS_REDIS_PASSWORD": "hunter2"}, without=("OPS_TOKEN",))
    await Tmux("ours", run=program).start([window])
    assert not any("hunter2" in word for arguments in program.calls for word in arguments)
    (script,) = program.scripts
    assert script.startswith("set-environment -g -u OPS_TOKEN\n")
    assert unquote(script)[1][-7:-5] == ["-e", "STATUS_REDIS_PASSWORD=hunter2"]


async def test_start_leaves_a_server_of_others_as_it_is() -> None:
    program = Program(list_sessions=Output(0, ("1 0 1795344550 other",), ""))
    await Tmux("ours", run=program).start([Window("statusd", ("python",), {}, without=("OPS_TOKEN",))])
    assert "set-environment" not in program.scripts[0]


async def test_start_twice_is_a_conflict_and_a_refusal_is_said() -> None:
    with pytest.raises(TmuxConflictError, match="runs already"):
        await Tmux("ours", run=Program(list_sessions=OURS)).start([WINDOW])
    program = Program(list_sessions=NO_SERVER, start_server=Output(1, (), "no space\nfor a new pane"))
    with pytest.raises(TmuxError, match="tmux refused: no space for a new pane"):
        await Tmux("ours", run=program).start([WINDOW])
    assert program.calls[-1] == ("kill-session", "-t", "=ours")


async def test_stop_of_what_does_not_run_is_a_conflict() -> None:
    with pytest.raises(TmuxConflictError, match="does not run"):
        await Tmux("ours", run=Program(list_sessions=NO_SERVER)).stop()


async def test_stop_asks_each_process_once_and_then_ends_the_session(
    monkeypatch: pytest.MonkeyPatch, no_threads: None, autojump_clock: trio.testing.MockClock
) -> None:
    alive = {101: 3, 102: 1}
    told: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda pid, number: told.append((pid, number)))

    def panes() -> Output:
        lines = [f"0 0 {int(looks <= 0)} [] [] {pid} %{pid} python|x" for pid, looks in alive.items()]
        for pid in alive:
            alive[pid] -= 1
        return Output(0, tuple(lines), "")

    program = Program(list_sessions=OURS, list_panes=panes)
    tmux = Tmux("ours", run=program)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tmux.run, ignore)
        await trio.testing.wait_all_tasks_blocked()
        await tmux.stop()
        nursery.cancel_scope.cancel()
    assert sorted(told) == [(101, signal.SIGTERM), (102, signal.SIGTERM)]
    assert ("kill-session", "-t", "=ours") in program.calls


async def test_stop_is_answered_before_a_process_that_stays_is_given_up(
    monkeypatch: pytest.MonkeyPatch, no_threads: None, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr("os.kill", ignore)
    program = Program(list_sessions=OURS, list_panes=Output(0, ("0 0 0 [] [] 101 %1 python|x",), ""))
    tmux = Tmux("ours", run=program)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tmux.run, ignore)
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        status = await tmux.stop()
        assert trio.current_time() - start < STOP_TIMEOUT / 2
        assert status.changing
        with pytest.raises(TmuxConflictError, match="at this moment"):
            await tmux.start([WINDOW])
        await trio.sleep(STOP_TIMEOUT)
        assert "kill-session" in program.names()
        assert not (await tmux.status()).changing
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answer", "interval", "sessions"), [(OURS, WATCH_INTERVAL, 1), (None, WATCH_INTERVAL_WITHOUT, 0)]
)
async def test_the_watcher_looks_again_and_again(
    answer: Output | None, interval: float, sessions: int, no_threads: None, autojump_clock: trio.testing.MockClock
) -> None:
    def absent() -> Output:
        raise TmuxUnavailableError("none")

    told: list[int] = []
    tmux = Tmux("ours", run=Program(list_sessions=answer or absent))
    with trio.move_on_after(interval * 2.5):
        await tmux.run(told.append)
    assert told == [sessions] * 3


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
