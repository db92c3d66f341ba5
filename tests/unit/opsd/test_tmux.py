"""The life of opsd's tmux session, and what is said when there is none. The program is scripted: no tmux is started."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from opsd.tmux.errors import TmuxConflictError, TmuxError, TmuxUnavailableError
from opsd.tmux.program import Output
from opsd.tmux.script import Window, make_script
from opsd.tmux.session import CALL_TIMEOUT, STOP_TIMEOUT, WATCH_INTERVAL, WATCH_INTERVAL_WITHOUT, Tmux
from opsd.tmux.status import LONGEST_NAME, MOST_SESSIONS
from tests.support.tmux import OK, Program, unquote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.testing import MockClock

NO_SERVER = Output(1, (), "no server running on /tmp/tmux-0/default")
OURS = Output(0, ("2 0 1795344550 ours",), "")
WINDOW = Window("statusd", ("python", "-m", "statusd"), {"A": "1"})


@pytest.fixture(autouse=True)
def sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where this test's tmux would have its sockets."""
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.setenv("TMUX_TMPDIR", str(tmp_path))
    return tmp_path / f"tmux-{os.getuid()}"


def ignore(*arguments: object) -> None:
    """Nothing."""


async def test_names_and_lists_are_bounded() -> None:
    many = tuple(f"1 0 1795344550 {'x' * 500}{number}" for number in range(MOST_SESSIONS * 2))
    program = Program(
        list_sessions=Output(0, (*many, "1 0 1795344550 ours"), ""),
        list_panes=lambda: Output(0, (f"0 0 0 [] [] 12 %0 {'c' * 500}|{'w' * 500}", f"%0 {'t' * 500}"), ""),
    )
    document: dict[str, Any] = (await Tmux("ours", program=program).status()).document()
    assert document["online"] is True
    assert len(document["sessions"]) == MOST_SESSIONS
    (pane,) = document["panes"]
    names = [document["sessions"][0]["name"], *(pane[key] for key in ("command", "window", "title"))]
    assert [len(name) for name in names] == [LONGEST_NAME] * 4


def test_the_attach_command_is_one_for_a_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    strange = tmp_path / "a b'c"
    strange.mkdir()
    monkeypatch.setenv("TMUX_TMPDIR", str(strange))
    words = shlex.split(Tmux("ours")._attach)
    assert words == ["tmux", "-S", f"{strange}/tmux-{os.getuid()}/default", "attach", "-t", "ours"]


@pytest.mark.parametrize("name", ["", "a:b", "a.b", "a b", "=x", "x" * 65, "é", "-t;kill-server", "a\n"])
def test_names_that_tmux_would_understand_otherwise_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a name has"):
        Tmux(name)
    with pytest.raises(ValueError, match="names of"):
        make_script("ours", [Window(name, ("true",), {})], Path("/"))


async def test_the_logs_are_the_users_own_and_begin_empty(sockets: Path) -> None:
    program = Program(list_sessions=NO_SERVER)
    directory = sockets / "default-ours-logs"
    await Tmux("ours", program=program).start([WINDOW])
    file = directory / "statusd.log"
    assert (directory.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    file.write_text("of the last time")
    (directory / "statusd.log.1").write_text("older")
    await Tmux("ours", program=program).start([WINDOW])
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
        await Tmux("ours", program=program).start([WINDOW])
    assert program.names() == ["list-sessions"]


@pytest.mark.parametrize(
    ("answer", "available", "reason"),
    [
        (NO_SERVER, True, ""),
        (Output(1, (), "error connecting to /tmp/tmux-0/default (No such file or directory)"), True, ""),
        # It ended while it was asked.
        (Output(1, (), "server exited unexpectedly"), True, ""),
        (Output(1, (), "error connecting to /tmp/tmux-0/default (Permission denied)"), True, "denied"),
        (Output(1, (), ""), True, "ended with 1"),
    ],
)
async def test_without_a_server_there_are_no_sessions(answer: Output, available: bool, reason: str) -> None:
    status = await Tmux("ours", program=Program(list_sessions=answer)).status()
    assert (status.available, status.sessions, status.running) == (available, (), False)
    assert reason in status.reason
    assert status.document()["session"] is None


async def test_without_tmux_nothing_is_available_and_nothing_raises() -> None:
    def absent() -> Output:
        raise TmuxUnavailableError("tmux is not installed here")

    tmux = Tmux("ours", program=Program(list_sessions=absent))
    status = await tmux.status()
    assert not status.available
    assert "not installed" in status.reason
    with pytest.raises(TmuxUnavailableError):
        await tmux.start([WINDOW])


async def test_a_tmux_that_hangs_is_given_up_in_time_however_many_ask(autojump_clock: MockClock) -> None:
    running = most = 0

    async def hang(arguments: Sequence[str]) -> Output:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        try:
            await trio.Event().wait()
        finally:
            running -= 1
        return OK

    tmux = Tmux("ours", program=hang)

    async def ask() -> None:
        start = trio.current_time()
        status = await tmux.status()
        assert (status.available, status.reason) == (False, "tmux does not answer within 3 s")
        assert trio.current_time() - start == pytest.approx(CALL_TIMEOUT)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert (running, most) == (0, 1)


async def test_the_status_shows_our_panes(sockets: Path) -> None:
    program = Program(
        list_sessions=Output(0, ("2 0 1795344550 ours", "1 1 1795344550 other"), ""),
        list_panes=lambda: Output(0, ("0 0 0 [] [] 12 %0 python|statusd", "%0 the | log"), ""),
        capture_pane=Output(0, ("one", "two", ""), ""),
    )
    document = (await Tmux("ours", socket_name="private", program=program).status()).document()
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


async def test_how_a_pane_ended_is_asked_again_after_tmux_has_looked_at_its_processes() -> None:
    ended = "0 0 1 [{}] [] 12 %0 python|statusd"
    program = Program(
        list_sessions=Output(0, ("2 0 1795344550 ours",), ""),
        list_panes=lambda: Output(0, (ended.format("2" if "run-shell" in program.names() else ""), "%0 statusd"), ""),
    )
    [pane] = (await Tmux("ours", program=program).status()).panes
    assert (pane.dead, pane.exit_code) == (True, 2)
    assert program.names().count("run-shell") == 1
    # Known, it is not asked for again.
    await Tmux("ours", program=program).status()
    assert program.names().count("run-shell") == 1


@pytest.mark.parametrize("ending", ["0 [] []", "1 [2] []", "1 [] [9]"])
async def test_nothing_is_run_where_all_is_known(ending: str) -> None:
    program = Program(
        list_sessions=Output(0, ("2 0 1795344550 ours",), ""),
        list_panes=Output(0, (f"0 0 {ending} 12 %0 python|statusd",), ""),
    )
    await Tmux("ours", program=program).status()
    assert "run-shell" not in program.names()


async def test_start_gives_tmux_a_private_file_and_no_secret_argument() -> None:
    program = Program(list_sessions=NO_SERVER)
    window = Window("statusd", ("python",), {"STATUS_REDIS_PASSWORD": "hunter2"}, without=("OPS_TOKEN",))
    await Tmux("ours", program=program).start([window])
    assert not any("hunter2" in word for arguments in program.calls for word in arguments)
    (script,) = program.scripts
    assert script.startswith("set-environment -g -u OPS_TOKEN\n")
    assert unquote(script)[1][-7:-5] == ["-e", "STATUS_REDIS_PASSWORD=hunter2"]


async def test_start_leaves_a_server_of_others_as_it_is() -> None:
    program = Program(list_sessions=Output(0, ("1 0 1795344550 other",), ""))
    await Tmux("ours", program=program).start([Window("statusd", ("python",), {}, without=("OPS_TOKEN",))])
    assert "set-environment" not in program.scripts[0]


async def test_start_after_a_stop_begins_a_server_anew_where_that_of_before_was_ending() -> None:
    answers = [Output(1, (), "server exited unexpectedly"), OK]
    program = Program(list_sessions=NO_SERVER, start_server=lambda: answers.pop(0))
    await Tmux("ours", program=program).start([WINDOW])
    first, second = program.scripts
    assert first == second
    assert "kill-session" not in program.names()
    program = Program(list_sessions=NO_SERVER, start_server=Output(1, (), "server exited unexpectedly"))
    with pytest.raises(TmuxError, match="tmux refused: server exited unexpectedly"):
        await Tmux("ours", program=program).start([WINDOW])


async def test_start_twice_is_a_conflict_and_a_refusal_is_said() -> None:
    with pytest.raises(TmuxConflictError, match="runs already"):
        await Tmux("ours", program=Program(list_sessions=OURS)).start([WINDOW])
    program = Program(list_sessions=NO_SERVER, start_server=Output(1, (), "no space\nfor a new pane"))
    with pytest.raises(TmuxError, match="tmux refused: no space for a new pane"):
        await Tmux("ours", program=program).start([WINDOW])
    assert program.calls[-1] == ("kill-session", "-t", "=ours")


async def test_stop_of_what_does_not_run_is_a_conflict() -> None:
    with pytest.raises(TmuxConflictError, match="does not run"):
        await Tmux("ours", program=Program(list_sessions=NO_SERVER)).stop()


async def test_stop_asks_each_process_once_and_then_ends_the_session(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
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
    tmux = Tmux("ours", program=program)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tmux.run, ignore)
        await trio.testing.wait_all_tasks_blocked()
        await tmux.stop()
        nursery.cancel_scope.cancel()
    assert sorted(told) == [(101, signal.SIGTERM), (102, signal.SIGTERM)]
    assert ("kill-session", "-t", "=ours") in program.calls


async def test_stop_is_answered_before_a_process_that_stays_is_given_up(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr("os.kill", ignore)
    program = Program(list_sessions=OURS, list_panes=Output(0, ("0 0 0 [] [] 101 %1 python|x",), ""))
    tmux = Tmux("ours", program=program)
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
    answer: Output | None, interval: float, sessions: int, autojump_clock: MockClock
) -> None:
    def absent() -> Output:
        raise TmuxUnavailableError("none")

    told: list[int] = []
    tmux = Tmux("ours", program=Program(list_sessions=answer or absent))
    with trio.move_on_after(interval * 2.5):
        await tmux.run(told.append)
    assert told == [sessions] * 3
