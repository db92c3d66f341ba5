"""The wheel as a user gets it: `pipx install`, in a home of its own, and what that puts where."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from tools.release.build import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COMMANDS: Final = ("statusd", "preflightd", "opsd")


def install(wheel: Path, home: Path) -> None:
    """Install as pipx does, dependencies and all, below `home`. Raises CalledProcessError."""
    environ = {
        **os.environ,
        "PIPX_HOME": str(home / "pipx"),
        "PIPX_BIN_DIR": str(home / "bin"),
        "PIPX_MAN_DIR": str(home / "share" / "man"),
        "PIPX_COMPLETION_DIR": str(home / "share"),
    }
    python = getattr(sys, "_base_executable", sys.executable)
    subprocess.run(
        [sys.executable, "-m", "pipx", "install", "--python", python, str(wheel)],
        env=environ, check=True, stdout=sys.stderr,
    )  # fmt: skip


def check_installed(home: Path, version: str, share: Sequence[str]) -> list[str]:
    """What is there, a line each. Raises ReleaseError for what is not, OSError, CalledProcessError.

    `share` are the paths of pages and scripts, as `tools.manuals.tree` lays them.
    """
    told = []
    for command in COMMANDS:
        asked = subprocess.run(
            [home / "bin" / command, "--version"], cwd=home, check=True, stdout=subprocess.PIPE, text=True
        )
        if asked.stdout != f"{command} {version}\n":
            raise ReleaseError(f"{command} --version says {asked.stdout!r}, not {version}")
        told.append(asked.stdout.rstrip())
    missing = [path for path in share if not (home / "share" / path).is_file()]
    if missing:
        raise ReleaseError(f"pipx shows its user no {', '.join(missing)}")
    told.append(f"{len(share)} man pages and completion scripts")
    return told
