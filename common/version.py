"""Which version of the daemons this is: for `--version`, the log line `starting` and the metric `*_build_info`."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Final

DISTRIBUTION: Final = "run-status-daemons"

UNKNOWN: Final = "unknown"
"""What is said of code that was copied without its metadata."""

_PROJECT: Final = Path(__file__).resolve().parent.parent / "pyproject.toml"


@cache
def version() -> str:
    """The version of the code that runs: the source tree's own where it runs from one, else the installed package's.

    The tree goes first, since metadata may be another copy's, or older than the tree that it links to.
    """
    return tree_version(_PROJECT) or package_version()


def tree_version(project: Path) -> str | None:
    """What the `pyproject.toml` at `project` says, if there is one and it is ours."""
    try:
        about = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError):
        return None
    return str(about["version"]) if about.get("name") == DISTRIBUTION else None


def package_version(distribution: str = DISTRIBUTION) -> str:
    """The version of the installed package, or `UNKNOWN`."""
    try:
        return installed_version(distribution)
    except PackageNotFoundError:
        return UNKNOWN
