"""What the tests of whole daemons can ask for besides."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import needs
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def tmux_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a tmux server of the test's own has its socket; the server ends with the test."""
    program = needs.program("tmux")
    with tempfile.TemporaryDirectory(prefix="opsd-") as directory:
        monkeypatch.setenv("TMUX_TMPDIR", directory)
        monkeypatch.delenv("TMUX", raising=False)
        yield Path(directory)
        subprocess.run([program, "kill-server"], check=False, capture_output=True, timeout=PATIENCE)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What lies in the directory for temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return lambda: [path.name for path in tmp_path.iterdir()]
