"""The wheel, as `pipx` and `uvx` install it: what is in it, and that its commands run anywhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import site
import subprocess
import sys
import threading
import zipfile
from email import message_from_string
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from common.version import version
from tests.support.wheels import BASE_PYTHON

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TREE: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = ("common", "opsd", "preflightd", "statusd")
DAEMONS: Final = ("opsd", "preflightd", "statusd")
DEADLINE: Final = 300.0
"""Seconds that no step takes, on however slow a machine."""

BUILD: Final = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("packaging")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network, from a copy: setuptools writes into its source."""
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    source.mkdir()
    for package in (*PACKAGES, "tests", "bench", "deploy", "fuzz"):
        shutil.copytree(TREE / package, source / package, ignore=shutil.ignore_patterns("__pycache__", "results"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TREE / name, source / name)
    command = [sys.executable, "-c", BUILD, str(directory)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=DEADLINE)
    [built] = directory.glob("*.whl")
    return built


def test_it_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(TREE))
        for package in PACKAGES
        for path in (TREE / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == expected
    assert {f"{package}/py.typed" for package in PACKAGES} <= held
    assert any(name.startswith("opsd/web/vendor/") for name in held)


def test_its_metadata_names_the_licence_the_commands_and_the_version(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [about] = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = message_from_string(archive.read(f"{about}/METADATA").decode())
        commands = archive.read(f"{about}/entry_points.txt").decode()
        assert f"{about}/licenses/LICENSE" in archive.namelist()
    assert (metadata["Name"], metadata["Version"]) == ("run-status-daemons", version())
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert set(metadata.get_all("Provides-Extra", [])) == {"bench", "cli", "dev", "embedded", "otel"}
    for daemon in DAEMONS:
        assert f"{daemon} = {daemon}.__main__:main" in commands


@pytest.fixture(scope="module")
def commands(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the commands in an environment of their own, which borrows the dependencies of this one."""
    place = tmp_path_factory.mktemp("installed")
    # Of the interpreter that the tests have, since what is borrowed is compiled for it; with a pip, as pipx makes it.
    subprocess.run([BASE_PYTHON, "-m", "venv", str(place)], check=True, capture_output=True, timeout=DEADLINE)
    pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True, timeout=DEADLINE
    )
    [packages] = place.glob("lib/python3.*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return place / "bin"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A directory with modules of the names that the commands import."""
    for name in (*PACKAGES, "trio", "redis", "h11"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong one')\n")
        (tmp_path / name / "__main__.py").write_text("raise SystemExit('the wrong one')\n")
    return tmp_path


def ask(command: list[str], directory: Path, given: str = "", **environ: str) -> str:
    done = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **environ},
        input=given,
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize("daemon", DAEMONS)
def test_every_command_runs_from_anywhere(daemon: str, commands: Path, hostile: Path) -> None:
    assert ask([str(commands / daemon), "--version"], hostile) == f"{daemon} {version()}\n"
    assert ask([str(commands / daemon), "--help"], hostile).startswith(f"usage: {daemon} ")
    [packages] = commands.parent.glob("lib/python3.*/site-packages")
    code = f"import {daemon}, common; print({daemon}.__file__, common.__file__)"
    expected = f"{packages}/{daemon}/__init__.py {packages}/common/__init__.py\n"
    assert ask([str(commands / "python"), "-P", "-c", code], hostile) == expected


def test_the_checklist_is_evaluated_anywhere(commands: Path, hostile: Path) -> None:
    given = '{"timestamps:build_channels": "5", "locked:wepp.nodb": "true"}'
    said = json.loads(ask([str(commands / "preflightd"), "evaluate"], hostile, given))
    assert said["checklist"]["channels"] is True
    assert said["lock_statuses"] == {"wepp.nodb": True}


@pytest.mark.usefixtures("redis_program")
def test_workers_run_the_code_that_their_parent_runs(commands: Path, hostile: Path) -> None:
    environ = {
        **os.environ,
        "STATUS_WORKERS": "2",
        "STATUS_LISTEN_ADDR": "127.0.0.1:0",
        "STATUS_LOG_LEVEL": "info",
        "PYTHONUNBUFFERED": "1",
    }
    with subprocess.Popen(
        [str(commands / "statusd"), "--embedded-redis"],
        cwd=hostile,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        deadline = threading.Timer(DEADLINE, process.kill)
        deadline.start()
        try:
            for message in messages(process.stdout):
                assert message != "worker died"
                if message == "all workers ready":
                    break
            else:
                pytest.fail("ended before its workers were ready")
        finally:
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
            code = process.wait()
            deadline.cancel()
        assert code == 0


def messages(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield json.loads(line)["msg"]
