"""How children of ours are started (common/modules.py)."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.modules import module_command

ROOT = str(Path(__file__).parents[3])


@pytest.mark.parametrize(
    ("safe", "first", "cwd", "expected"),
    [
        (False, "/usr/local/bin", "/", ["-P"]),
        (False, "/usr/local/bin", ROOT, ["-P"]),
        (False, "/tmp", "/tmp", ["-P"]),  # noqa: S108 - never touched
        (False, ROOT, "/", ["-P"]),
        (True, ROOT, ROOT, ["-P"]),
        (False, ROOT, ROOT, []),
    ],
    ids=["script", "script-in-checkout", "python -m elsewhere", "from elsewhere", "python -P -m", "checkout"],
)
def test_only_code_from_the_working_directory_has_children_there(
    monkeypatch: pytest.MonkeyPatch, safe: bool, first: str, cwd: str, expected: list[str]
) -> None:
    monkeypatch.setattr(sys, "flags", SimpleNamespace(safe_path=safe))
    monkeypatch.setattr(sys, "path", [first, *sys.path])
    monkeypatch.setattr(Path, "cwd", lambda: Path(cwd))
    assert module_command("statusd", "serve") == [sys.executable, *expected, "-m", "statusd", "serve"]
