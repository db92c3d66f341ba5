"""A real tmux under `opsd.tmux`: the window that follows all logs, what is said of dead panes, the way to attach."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from opsd.tmux import session
from opsd.tmux.errors import TmuxUnavailableError
from opsd.tmux.logs import KEEP
from opsd.tmux.program import LARGEST_OUTPUT, call
from opsd.tmux.script import LOGS, Window
from opsd.tmux.session import Tmux
from tests.support import needs
from tests.support.raw import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from opsd.tmux.status import TmuxStatus

pytestmark = pytest.mark.integration

SESSION = "platform"
STRANGE = "opsd #{pane_id} %d 'a' $(b) "
"""The beginning of a directory's name that tmux, its shell and strftime would each like to understand."""


@pytest.fixture(params=["opsd-", STRANGE], ids=["plain", "strange"])
def directory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a tmux server of the test's own has its socket; the server ends with the test."""
    program = needs.program("tmux")
    with tempfile.TemporaryDirectory(prefix=request.param) as name:
        monkeypatch.setenv("TMUX_TMPDIR", name)
        monkeypatch.delenv("TMUX", raising=False)
        yield Path(name)
        subprocess.run([program, "kill-server"], check=False, capture_output=True, timeout=PATIENCE)


@pytest.fixture
async def tmux(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tmux]:
    """It, with the task that finishes what a stop began; on a busy machine tmux may take its time."""
    del directory
    monkeypatch.setattr(session, "CALL_TIMEOUT", PATIENCE)
    tmux = Tmux(SESSION)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tmux.run, lambda _: None)
        yield tmux
        nursery.cancel_scope.cancel()


def shell(name: str, script: str) -> Window:
    """A window in which a shell does what it is told."""
    return Window(name, ("sh", "-c", script), {"PATH": os.environ["PATH"]})


def pane_of(status: TmuxStatus, window: str) -> dict[str, Any]:
    """What is said of the pane of a window."""
    (pane,) = [pane.document() for pane in status.panes if pane.window == window]
    return pane


async def wait_pane(tmux: Tmux, window: str, holds: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
    """Wait until the pane of a window is as it has to be, and return what is said of it."""
    found: list[dict[str, Any]] = []

    async def is_so() -> bool:
        found[:] = [pane_of(await tmux.status(), window)]
        return holds(found[0])

    await wait_until(is_so, what)
    return found[0]


def has_ended(pane: dict[str, Any], code: int | None) -> bool:
    """Whether its process is gone, with this exit code as far as tmux knows."""
    return bool(pane["dead"]) and pane["exitCode"] == code


def shows(pane: dict[str, Any], text: str) -> bool:
    """Whether it is on the pane."""
    return text in "\n".join(pane["lines"])


def names_in(directory: Path) -> list[str]:
    """The files in a directory."""
    return sorted(found.name for found in directory.iterdir())


async def test_one_window_follows_all_logs(tmux: Tmux, directory: Path) -> None:
    script = "echo first of {0}; while read -r line; do echo {0} heard $line; done < {1}"
    pipes = [directory / name for name in ("one.fifo", "two.fifo")]
    for pipe in pipes:
        os.mkfifo(pipe)
    one, two = (
        shell(name, script.format(name, shlex.quote(str(pipe))))
        for name, pipe in zip(("one", "two"), pipes, strict=True)
    )
    status = await tmux.start([one, two])
    assert [pane.window for pane in status.panes] == ["one", "two", LOGS]
    assert [pane.document()["title"] for pane in status.panes] == ["one", "two", LOGS]
    for name in ("one", "two"):
        await wait_pane(tmux, LOGS, partial(shows, text=f"first of {name}"), "what was said at once")
    for name, pipe in zip(("one", "two"), pipes, strict=True):
        with trio.fail_after(PATIENCE):
            await trio.to_thread.run_sync(pipe.write_text, "a word\n", abandon_on_cancel=True)
        await wait_pane(tmux, LOGS, partial(shows, text=f"{name} heard a word"), "what is said later")
    logs = directory / f"tmux-{os.getuid()}" / f"default-{SESSION}-logs"
    assert names_in(logs) == ["one.log", "two.log"]
    assert "one heard a word" in (logs / "one.log").read_text()
    await tmux.stop()

    async def is_gone() -> bool:
        return not (await tmux.status()).running

    await wait_until(is_gone, "the session's end")


async def test_how_windows_ended_is_said_with_their_last_words(tmux: Tmux) -> None:
    windows = [
        shell("good", "echo good"),
        shell("bad", "echo the reason; exit 3"),
        shell("killed", "echo killed; kill -9 $$"),
        shell("alive", "echo alive; exec sleep 1000"),
    ]
    await tmux.start(windows)
    for name, code, signal in (("good", 0, None), ("bad", 3, None), ("killed", None, 9)):
        # tmux sees the end of what it says before that of the process.
        pane = await wait_pane(tmux, name, partial(has_ended, code=code), f"{name} has ended")
        # tmux tells the signal from 3.3 on.
        assert pane["exitSignal"] in {signal, None}
        assert shows(pane, "the reason" if name == "bad" else name)
    pane = pane_of(await tmux.status(), "alive")
    assert (pane["dead"], pane["exitCode"], pane["exitSignal"]) == (False, None, None)


async def test_the_attach_command_names_the_socket(tmux: Tmux, monkeypatch: pytest.MonkeyPatch) -> None:
    await tmux.start([shell("alive", "exec sleep 1000")])
    status = await tmux.status()
    assert status.document()["online"] is True
    # Whoever types it has another environment.
    monkeypatch.delenv("TMUX_TMPDIR")
    words = shlex.split(status.attach)
    assert words[3:] == ["attach", "-t", SESSION]
    asked = await trio.run_process(
        [*words[:3], "display-message", "-p", "-t", SESSION, "#{socket_path} #{session_name}"], capture_stdout=True
    )
    assert asked.stdout.decode().strip() == f"{words[2]} {SESSION}"


async def test_a_log_begins_anew_when_it_is_full_and_one_older_is_kept(tmp_path: Path) -> None:
    file, older = tmp_path / "a b.log", tmp_path / "a b.log.1"
    pieces = 4
    text = b"".join(b"%06d\n" % number for number in range(1000))
    source = tmp_path / "input"
    source.write_bytes(text)
    with source.open("rb") as input_file:
        await trio.run_process(["sh", "-c", KEEP, "keep", str(file), str(pieces)], stdin=input_file)
    size = pieces * 512
    whole = len(text) // size
    assert file.read_bytes() == text[whole * size :]
    assert older.read_bytes() == text[(whole - 1) * size : whole * size]
    assert names_in(tmp_path) == [file.name, older.name, source.name]


async def test_a_log_that_ends_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "a b.log"
    command = [sys.executable, "-c", "print('the last word')"]
    printed = await trio.run_process(command, capture_stdout=True)
    await trio.run_process(["sh", "-c", KEEP, "keep", str(file), "1000"], stdin=printed.stdout)
    assert file.read_text() == "the last word\n"
    assert names_in(tmp_path) == [file.name]


def put_program(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str, mode: int = 0o755) -> None:
    """Have this shell script for a tmux."""
    program = directory / "tmux"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(mode)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


async def test_a_program_that_hangs_is_killed_with_its_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = tmp_path / "pid"
    # It would take no heed of being asked to end.
    put_program(tmp_path, monkeypatch, f"trap '' TERM\necho $$ > {said}.new\nmv {said}.new {said}\nexec sleep 1000")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, None, ["list-sessions"])
        await wait_until(said.exists, "it runs")
        nursery.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(int(said.read_text()), 0)


async def test_what_a_program_says_without_end_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_program(tmp_path, monkeypatch, f"head -c {3 * LARGEST_OUTPUT} /dev/zero\nhead -c 3000000 /dev/zero >&2\nexit 3")
    with trio.fail_after(PATIENCE):
        output = await call(None, ["list-sessions"])
    assert (output.code, [len(line) for line in output.lines]) == (3, [LARGEST_OUTPUT])
    assert len(output.error) == LARGEST_OUTPUT


async def test_arguments_and_output_are_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_program(tmp_path, monkeypatch, "printf '%s\\n' \"$@\"\nprintf '\\377 a  b\\n\\n'\necho ' why ' >&2")
    output = await call("private", ["a b", "$(c)", "#{d}"])
    assert output.lines == ("-L", "private", "a b", "$(c)", "#{d}", "\\xff a  b", "")
    assert (output.code, output.error) == (0, "why")


async def test_without_a_program_it_is_said_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TmuxUnavailableError, match="not installed here"):
        await call(None, ["list-sessions"])
    put_program(tmp_path, monkeypatch, "", mode=0o644)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TmuxUnavailableError, match="can't be started: Permission denied"):
        await call(None, ["list-sessions"])
    status = await Tmux(SESSION).status()
    assert (status.available, status.sessions) == (False, ())
