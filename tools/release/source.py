"""What the sdist is made of, in a place of its own: setuptools writes into its source."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

FILES: Final = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md")


def copy_source(tree: Path, share: Path, to: Path) -> None:
    """Copy the installed packages of `tree`, and below `share` what `tools.manuals` made. Raises OSError.

    Nothing in it is a program, and whoever checked it out may do with it what everybody may.
    """
    to.mkdir(parents=True)
    for name in FILES:
        shutil.copy(tree / name, to)
    for package in sorted(path.parent for path in tree.glob("*/py.typed")):
        shutil.copytree(package, to / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(share, to / "share")
    for path in to.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
