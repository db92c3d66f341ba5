"""The units of `deploy/systemd`, as systemd itself reads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support import needs
from tests.support.raw import PATIENCE

pytestmark = pytest.mark.integration

UNITS: Final = Path(__file__).parents[2] / "deploy" / "systemd"
DAEMONS: Final = ("statusd", "preflightd", "opsd")

EXPOSURE: Final = 20
"""Tenths of systemd's score of what a process could do, from 0 to 100; a unit without a word about it has 96."""


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as they are shipped, but for the programs, which must be there: this environment's."""
    for path in UNITS.iterdir():
        name, text = path.stem, path.read_text("utf-8")
        if path.suffix == ".service":
            assert f"ExecStart=/usr/bin/{name}\n" in text
            text = text.replace("/usr/bin/", f"{Path(sys.executable).parent}/")
        (tmp_path / path.name).write_text(text)
    return tmp_path


def analyzed(*arguments: str) -> str:
    """What `systemd-analyze` says; it fails the test unless all is well."""
    ended = subprocess.run(
        [needs.program("systemd-analyze", "systemd"), *arguments],
        check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def test_there_is_a_service_and_a_socket_for_each_daemon() -> None:
    assert {path.name for path in UNITS.iterdir()} == {
        f"{name}.{kind}" for name in DAEMONS for kind in ("service", "socket")
    }


def test_systemd_has_nothing_to_say_against_them(units: Path) -> None:
    assert analyzed("verify", "--man=no", *map(str, sorted(units.iterdir()))) == ""


@pytest.mark.parametrize("name", DAEMONS)
def test_a_daemon_can_do_little_besides_its_work(units: Path, name: str) -> None:
    analyzed("security", "--offline=true", f"--threshold={EXPOSURE}", str(units / f"{name}.service"))
