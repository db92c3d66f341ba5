"""That the locks are complete and agree, and that the image is built from files that its builder gets to see."""

from __future__ import annotations

import re
import tomllib
import venv
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Final

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from common.daemons import DAEMONS
from tools.image import contents, python

TREE: Final = Path(__file__).resolve().parents[3]
PROJECT: Final = tomllib.loads((TREE / "pyproject.toml").read_text())

EXTRAS: Final = {
    "requirements-runtime.lock": [],
    "requirements-demo.lock": ["cli", "embedded"],
    "requirements.lock": ["bench", "cli", "dev", "embedded", "otel"],
}
"""What each lock serves, beside the daemons."""


def locked(name: str) -> dict[str, Requirement]:
    """The requirements of a lock, by canonical name; of each a hash is demanded."""
    found: dict[str, Requirement] = {}
    for entry in re.split(r"\n(?=\S)", (TREE / name).read_text()):
        if not entry.startswith("#"):
            requirement = Requirement(entry.partition(" \\\n")[0])
            assert "--hash=sha256:" in entry, requirement
            found[canonicalize_name(requirement.name)] = requirement
    return found


def version(requirement: Requirement) -> str:
    [pin] = requirement.specifier
    assert pin.operator == "=="
    return pin.version


def wanted(extras: list[str]) -> list[Requirement]:
    """What pyproject.toml asks for; its own extras among them stand for what is in them."""
    optional: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
    texts = [*PROJECT["project"]["dependencies"], *(text for extra in extras for text in optional[extra])]
    requirements = [Requirement(text) for text in texts]
    return [requirement for requirement in requirements if requirement.name != PROJECT["project"]["name"]]


def applies(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""})


@pytest.mark.parametrize("name", EXTRAS)
def test_a_lock_has_what_the_project_asks_for(name: str) -> None:
    lock = locked(name)
    for requirement in wanted(EXTRAS[name]):
        pinned = lock[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version(pinned)), requirement
        # An extra that is not written down would be resolved anew, if anything were.
        assert requirement.extras <= pinned.extras, requirement


@pytest.mark.parametrize("name", EXTRAS)
def test_a_lock_has_what_its_packages_ask_for_and_nothing_else(name: str) -> None:
    """By the metadata of the packages, which are installed here from the largest of the locks."""
    lock = locked(name)
    environment = {key: str(value) for key, value in default_environment().items()}
    here = {
        package: requirement
        for package, requirement in lock.items()
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }
    needed = {canonicalize_name(requirement.name) for requirement in wanted(EXTRAS[name])}
    for package, requirement in here.items():
        for text in requires(package) or []:
            dependency = Requirement(text)
            if applies(dependency, requirement.extras):
                assert canonicalize_name(dependency.name) in here, f"{package} needs {text}"
                assert dependency.specifier.contains(version(here[canonicalize_name(dependency.name)])), package
                needed.add(canonicalize_name(dependency.name))
    assert here.keys() <= needed


def test_the_locks_agree() -> None:
    largest = locked("requirements.lock")
    for name in (*EXTRAS, "requirements-build.lock"):
        for package, requirement in locked(name).items():
            assert version(requirement) == version(largest[package]), (name, package)


def test_the_tests_run_on_what_is_locked() -> None:
    for package, requirement in locked("requirements.lock").items():
        if requirement.marker is None or requirement.marker.evaluate():
            try:
                requires(package)
            except PackageNotFoundError:
                pytest.fail(f"{package} is locked and not installed")


def test_the_image_is_built_from_files_that_its_builder_sees() -> None:
    ignored = [
        line for line in (TREE / ".dockerignore").read_text().splitlines() if line and not line.startswith(("#", "**"))
    ]
    copied = [
        source
        for line in (TREE / "Containerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from=" not in line
        for source in line.split()[1:-1]
    ]
    assert len(copied) >= 8
    for source in copied:
        assert (TREE / source).exists(), source
        verdict = [not line.startswith("!") for line in ignored if fnmatch(source, line.removeprefix("!"))]
        assert not verdict[-1], f"{source} is copied, and .dockerignore hides it"
    packages = {path.parent.name for path in TREE.glob("*/py.typed")}
    assert packages <= set(copied)


def test_the_image_has_every_daemon() -> None:
    assert tuple(DAEMONS) == contents.DAEMONS


def test_the_image_resolves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands: list[list[str]] = []
    pip = tmp_path / "build" / "lib" / "python3" / "site-packages" / "pip"
    monkeypatch.setattr(venv, "create", lambda *_, **__: pip.mkdir(parents=True))
    monkeypatch.setattr(python, "_run", commands.append)
    monkeypatch.setattr(python, "_run_inside", lambda _root, command: commands.append(command))
    (tmp_path / "own.whl").touch()
    python.install_wheels(tmp_path / "root", TREE, tmp_path)
    assert len(commands) == 4
    for command in commands:
        assert "--no-deps" in command, command
        assert ("--require-hashes" in command) == ("--requirement" in command), command
        assert "--requirement" in command or "--no-index" in command, command


def test_the_image_is_labelled_with_the_projects_version() -> None:
    assert f"ARG VERSION={PROJECT['project']['version']}\n" in (TREE / "Containerfile").read_text()


def test_classifiers_name_the_pythons_that_are_tried() -> None:
    tried = re.search(r"^VERSIONS := (.*)$", (TREE / "Makefile").read_text(), re.MULTILINE)
    assert tried is not None
    named = {text.rpartition(" ")[2] for text in PROJECT["project"]["classifiers"] if "Python :: 3." in text}
    assert named == set(tried[1].split())
