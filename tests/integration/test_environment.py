"""`make environment` with the very Makefile, from an index that is a folder: what is installed, and what is refused.

The index holds newer releases than the lock, as any index does some days later.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from deploy.environment import READY
from tests.support.wheels import BASE_PYTHON, lock_text, make_wheel

TREE: Final = Path(__file__).resolve().parents[2]
DAEMONS: Final = ("statusd", "preflightd", "opsd")
VERSION: Final = "{}.{}".format(*sys.version_info)
DEADLINE: Final = 300.0
"""Seconds that no step takes, on however slow a machine."""

LOCKED: Final = {"plugin": "1.0", "measure": "1.0", "reader": "1.0"}

pytestmark = [
    pytest.mark.integration,
    pytest.mark.xdist_group("packaging"),
    pytest.mark.skipif(shutil.which("make") is None, reason="needs make (apt-get install make)"),
]


class Project:
    """A source tree with a lock of three packages, one of them with an extra, and the folder that they come from."""

    def __init__(self, directory: Path) -> None:
        self.index = directory / "index"
        self.tree = directory / "ein Baum mit Ä"
        self.venv = directory / "venv"
        self.index.mkdir()
        write_tree(self.tree)
        make_wheel(self.index, "plugin", "1.0", ["measure[toml]>=1.0"])
        make_wheel(self.index, "measure", "1.0", extras={"toml": ["reader>=1.0"]})
        make_wheel(self.index, "reader", "1.0")
        self.lock("plugin==1.0", "measure[toml]==1.0", "reader==1.0")
        self.environ = {
            **os.environ,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": self.index.as_uri(),
            "PIP_CACHE_DIR": str(directory / "cache"),
        }
        for name in ("MAKEFLAGS", "MAKELEVEL", "PYTHON", "VENV", "DEV"):
            self.environ.pop(name, None)

    def lock(self, *requirements: str) -> None:
        (self.tree / "requirements-demo.lock").write_text(lock_text(self.index, requirements))

    def publish_newer(self) -> None:
        """A later day: every package has newer releases, which need packages that are not in the lock."""
        for version in ("1.0.1", "1.1", "2.0"):
            make_wheel(self.index, "plugin", version, ["measure[toml]>=1.1", "novelty"])
            make_wheel(self.index, "measure", version, ["novelty"], extras={"toml": ["reader>=1.1"]})
            make_wheel(self.index, "reader", version)
        make_wheel(self.index, "novelty", "1.0")

    def command(self, *arguments: str, python: str = BASE_PYTHON, place: Path | None = None) -> list[str]:
        place = place or self.venv
        return ["make", "-C", str(self.tree), "environment", f"PYTHON={python}", f"VENV={place}", *arguments]

    def make(
        self, *arguments: str, python: str = BASE_PYTHON, place: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, python=python, place=place),
            env=self.environ,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
        )

    def pretend(self) -> str:
        """Leave what an environment that is ready is known by; returns what its file says."""
        (self.venv / "bin").mkdir(parents=True)
        (self.venv / "bin" / "python").symlink_to(BASE_PYTHON)
        stamp = f"{BASE_PYTHON} {VERSION} {self.tree}\n"
        (self.venv / READY).write_text(stamp)
        return stamp

    def is_stale(self) -> bool:
        """Whether the environment would be made again."""
        done = self.make("--dry-run")
        assert done.returncode == 0, done.stdout
        return "deploy/environment.py" in done.stdout


def write_tree(tree: Path) -> None:
    """Copy what `make environment` reads, with daemons that say how they were called."""
    (tree / "deploy").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "deploy/environment.py"):
        shutil.copy(TREE / name, tree / name)
    for package in ("common", *DAEMONS):
        (tree / package).mkdir()
        (tree / package / "__init__.py").touch()
    for daemon in DAEMONS:
        (tree / daemon / "__main__.py").write_text(
            f"import sys\nimport common\ndef main():\n    print('{daemon}', common.__file__, sys.argv[1:])\n"
        )


def installed(place: Path) -> dict[str, str]:
    names = [path.name.removesuffix(".dist-info") for path in place.glob("lib/python3.*/site-packages/*.dist-info")]
    return {name: version for name, _, version in (name.partition("-") for name in names)}


def written(path: Path) -> tuple[int, int]:
    """Differs when the file was written again; reading it changes no more than the time at which it was read."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose environment was made when newer releases were there already. Tests leave it as it is."""
    project = Project(tmp_path_factory.mktemp("made"))
    project.publish_newer()
    # A pip that resolves stumbles over an extra that the lock does not name, as soon as there is a newer release.
    project.lock("plugin==1.0", "measure==1.0", "reader==1.0")
    before = sorted(project.tree.rglob("*"))
    done = project.make()
    assert done.returncode == 0, done.stdout
    assert sorted(project.tree.rglob("*")) == before
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_newer_releases_beside_the_locked_ones_change_nothing(made: Project, tmp_path: Path) -> None:
    assert installed(made.venv) == LOCKED

    # They can be had from there: a lock that names them gets them.
    project = Project(tmp_path)
    project.publish_newer()
    project.lock("plugin==2.0", "measure[toml]==2.0", "reader==2.0", "novelty==1.0")
    assert project.make().returncode == 0
    assert installed(project.venv) == {"plugin": "2.0", "measure": "2.0", "reader": "2.0", "novelty": "1.0"}


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_commands_run_the_tree_from_a_directory_with_packages_of_the_same_names(
    made: Project, tmp_path: Path, locale: str
) -> None:
    for name in ("common", *DAEMONS):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong one')\n")
    for name in DAEMONS:
        command = [str(made.venv / "bin" / name), "a b", "--c"]
        environ = {**os.environ, "LC_ALL": locale}
        output = subprocess.run(command, cwd=tmp_path, env=environ, check=True, capture_output=True, timeout=DEADLINE)
        assert output.stdout.decode() == f"{name} {made.tree}/common/__init__.py ['a b', '--c']\n"


def test_an_environment_that_is_ready_is_left_alone(made: Project) -> None:
    assert not made.is_stale()
    done = made.make()
    assert (done.returncode, "making" in done.stdout) == (0, False), done.stdout


def test_it_is_made_again_for_another_lock_tree_or_interpreter(project: Project) -> None:
    good = project.pretend()
    python, ready = project.venv / "bin" / "python", project.venv / READY
    assert not project.is_stale()

    os.utime(project.tree / "requirements-demo.lock", (ready.stat().st_mtime + 10,) * 2)
    assert project.is_stale()
    os.utime(project.tree / "requirements-demo.lock", (0, 0))
    assert not project.is_stale()

    for other in (
        f"python3 {VERSION} {project.tree}\n",
        f"{BASE_PYTHON} 3.9 {project.tree}\n",
        f"{BASE_PYTHON} {VERSION} /elsewhere\n",
        "",
    ):
        ready.write_text(other)
        assert project.is_stale(), other
    ready.write_text(good)
    assert not project.is_stale()

    python.unlink()
    python.symlink_to("/nonexistent/python")
    assert project.is_stale()


def test_a_place_that_cannot_be_written_is_one_line_that_says_how_to_name_another(project: Project) -> None:
    done = project.make(place=Path("/dev/null/venv"))
    assert done.returncode != 0
    [line] = [line for line in done.stdout.splitlines() if not line.startswith("make:")]
    assert "/dev/null/venv" in line
    assert "VENV=" in line


def test_a_directory_with_something_else_in_it_is_left_alone(project: Project) -> None:
    project.venv.mkdir()
    (project.venv / "thesis.tex").write_text("years of work")
    done = project.make()
    assert done.returncode != 0
    assert "something else" in done.stdout
    assert [path.name for path in project.venv.iterdir()] == ["thesis.tex"]


def test_a_lock_that_is_not_complete_is_no_environment(project: Project) -> None:
    project.lock("plugin==1.0", "reader==1.0")
    done = project.make()
    assert done.returncode != 0
    assert "plugin 1.0 requires measure" in done.stdout
    assert not (project.venv / READY).exists()


def test_a_package_that_is_not_the_locked_one_is_no_environment(project: Project) -> None:
    make_wheel(project.index, "reader", "1.0", ["novelty"])
    done = project.make()
    assert done.returncode != 0
    assert "HASH" in done.stdout
    assert not (project.venv / READY).exists()


def test_who_comes_second_waits_for_the_first_and_takes_what_it_made(project: Project) -> None:
    project.venv.mkdir()
    first = os.open(project.venv, os.O_RDONLY)
    try:
        fcntl.flock(first, fcntl.LOCK_EX)
        with subprocess.Popen(
            project.command(), env=project.environ, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as second:
            assert second.stderr is not None
            assert "waiting for another process" in second.stderr.readline()
            project.pretend()
            made = written(project.venv / READY)
            fcntl.flock(first, fcntl.LOCK_UN)
            assert second.wait(DEADLINE) == 0
            assert second.stderr.read() == ""
    finally:
        os.close(first)
    assert written(project.venv / READY) == made


def test_an_interpreter_without_a_pip_borrows_one(project: Project) -> None:
    """The environment of these tests has none."""
    done = project.make(python=sys.executable)
    assert done.returncode == 0, done.stdout
    assert installed(project.venv) == LOCKED
