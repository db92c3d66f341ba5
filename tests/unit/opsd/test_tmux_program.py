"""One call of tmux (opsd/tmux/program.py), played by a script; and where there is none to call."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
import trio

from opsd.tmux.errors import TmuxUnavailableError
from opsd.tmux.program import LARGEST_OUTPUT, Output, call
from tests.support.raw import PATIENCE, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real_time


async def test_without_tmux_on_path_it_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for server in (None, "named"):
        with pytest.raises(TmuxUnavailableError, match=r"^tmux is not installed here$"):
            await call(server, ["list-sessions"])


async def test_what_is_no_program_can_not_be_started_and_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "tmux"
    program.write_bytes(b"\x00 no program")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TmuxUnavailableError, match=r"^tmux can't be started: Exec format error$"):
        await call(None, ["list-sessions"])


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the program is that is called; what it needs itself is beside it."""
    for name in ("cat", "head", "sleep"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "tmux"


def play(script: Path, text: str) -> None:
    """Have the program do this."""
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o700)


@pytest.mark.parametrize(
    ("server", "arguments"), [(None, ["list-sessions"]), ("named", ["-L", "named", "list-sessions"])]
)
async def test_what_it_prints_what_it_complains_of_and_how_it_ends(
    server: str | None, arguments: list[str], script: Path
) -> None:
    play(script, 'for argument; do echo "$argument"; done; echo " no server " >&2; exit 3')
    with trio.fail_after(PATIENCE):
        assert await call(server, ["list-sessions"]) == Output(3, tuple(arguments), "no server")


async def test_it_can_ask_for_nothing_and_what_is_no_text_is_spelled_out(script: Path) -> None:
    play(script, r"cat; printf 'a\377b\n\n'")
    with trio.fail_after(PATIENCE):
        assert await call(None, []) == Output(0, ("a\\xffb", ""), "")


async def test_of_endless_output_so_much_is_kept_and_the_rest_is_read(script: Path) -> None:
    play(script, f"head -c {2 * LARGEST_OUTPUT} /dev/zero; head -c {2 * LARGEST_OUTPUT} /dev/zero >&2")
    with trio.fail_after(PATIENCE):
        output = await call(None, [])
    assert (output.code, len(output.lines[0]), len(output.error)) == (0, LARGEST_OUTPUT, LARGEST_OUTPUT)


async def test_one_that_hangs_and_hears_no_signal_ends_with_the_patience_of_its_caller(
    script: Path, tmp_path: Path
) -> None:
    play(script, f"trap '' TERM; echo $$ >{tmp_path}/pid; while :; do sleep 0.05; done")
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, None, [])
            await wait_until(lambda: _has_text(tmp_path / "pid"), "the program runs")
            nursery.cancel_scope.cancel()
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def _has_text(path: Path) -> bool:
    return path.exists() and path.read_text().endswith("\n")
