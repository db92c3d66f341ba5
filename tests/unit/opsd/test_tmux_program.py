"""Where there is no tmux to call (opsd/tmux/program.py): no process is started here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from opsd.tmux.errors import TmuxUnavailableError
from opsd.tmux.program import call

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
