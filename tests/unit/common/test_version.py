"""What every daemon says of its version, and where that comes from."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from common.cli import run as run_daemon
from common.daemon_cli import program
from common.version import DISTRIBUTION, UNKNOWN, package_version, tree_version, version
from opsd.cli import OPSD
from preflightd.daemon import PREFLIGHTD
from statusd.daemon import STATUSD

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("statusd", lambda: run_daemon(program(STATUSD), ["--version"], {})),
        ("preflightd", lambda: run_daemon(program(PREFLIGHTD), ["--version"], {})),
        ("opsd", lambda: run_daemon(OPSD, ["--version"], {})),
    ],
)
def test_every_daemon_prints_its_name_and_the_projects_version(
    name: str, run: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 0
    project = tomllib.loads(PROJECT.read_text())["project"]
    assert capsys.readouterr().out == f"{name} {project['version']}\n"


def test_the_distribution_is_the_projects() -> None:
    assert tomllib.loads(PROJECT.read_text())["project"]["name"] == DISTRIBUTION
    assert version() == tree_version(PROJECT)


@pytest.mark.parametrize(
    "content",
    [None, "", "not toml [", "[project]\nname = 'another'\nversion = '9'\n", "[tool.ruff]\n"],
    ids=["none", "empty", "broken", "another project's", "no project"],
)
def test_only_our_own_project_file_counts(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "pyproject.toml").write_text(content)
    assert tree_version(tmp_path / "pyproject.toml") is None


def test_without_a_tree_the_installed_package_says_it_and_without_that_nobody_does() -> None:
    assert package_version("trio")[0].isdigit()
    assert package_version("run-status-daemons-that-nobody-installed") == UNKNOWN
