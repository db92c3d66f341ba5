"""sdist and wheel as a release builds them, with what `make manuals` makes: complete, and the same each time."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from datetime import date
from pathlib import Path
from typing import Final

import pytest

from tools.manuals.tree import write
from tools.release import build as building

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("packaging")]

TREE: Final = Path(__file__).resolve().parents[2]
EPOCH: Final = 1_580_473_800

# As `python -m build --no-isolation` asks setuptools, when it is called as that is. (setuptools changes the arguments.)
BUILD: Final = """
import os, sys
from setuptools import build_meta
_, _, out, source = sys.argv
os.makedirs(out)
os.chdir(source)
build_meta.build_sdist(out)
build_meta.build_wheel(out)
"""


def built(share: Path, umask: int) -> dict[str, bytes]:
    """The files by their kind, as somebody with that `umask` builds them."""
    before = os.umask(umask)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(building, "FRONTEND", ("-c", BUILD))
            files = building._build_once(TREE, share, EPOCH)
    finally:
        os.umask(before)
    return {Path(name).suffix: content for name, content in files.items()}


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "share"
    write(directory, date(2020, 1, 31))
    return directory


@pytest.fixture(scope="module")
def release(share: Path) -> dict[str, bytes]:
    return built(share, 0o022)


def pages(share: Path) -> set[str]:
    return {path.relative_to(share).as_posix() for path in share.rglob("*") if path.is_file()}


def test_the_wheel_puts_pages_and_completion_where_they_are_looked_for(release: dict[str, bytes], share: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(release[".whl"])) as wheel:
        held = {
            name.partition(".data/data/share/")[2]: wheel.read(name) for name in wheel.namelist() if ".data/" in name
        }
    assert held.keys() == pages(share)
    assert all(content == (share / name).read_bytes() for name, content in held.items())


def test_the_sdist_has_them_too_so_that_a_wheel_of_it_does(release: dict[str, bytes], share: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(release[".gz"])) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert names >= {f"share/{page}" for page in pages(share)}
    assert names >= {
        "pyproject.toml",
        "LICENSE",
        "statusd/__main__.py",
        "preflightd/checklist.toml",
        "opsd/web/index.html",
    }


def test_somebody_else_gets_the_same_bytes(release: dict[str, bytes], share: Path, tmp_path: Path) -> None:
    """With other habits of rights, of files that were written anew."""
    before = os.umask(0o077)
    try:
        write(tmp_path / "share", date(2020, 1, 31))
    finally:
        os.umask(before)
    assert built(tmp_path / "share", 0o077) == release
    assert built(share, 0o002) == release
