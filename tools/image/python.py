"""The wheels of the lock and the project's own, their bytecode, and a program for each daemon."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from typing import TYPE_CHECKING, Final

from tools.image.contents import DAEMONS, PYTHON, SITE, STDLIB

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OPTIONS: Final = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile", "--root-user-action=ignore")

PROGRAM: Final = """\
#!/usr/bin/python{python} -I
from {daemon}.__main__ import main
main()
"""


def install_wheels(root: Path, tree: Path, scratch: Path) -> None:
    """Install the runtime lock and the project, built with the build lock, below `root`. Raises CalledProcessError.

    pip runs in the image's interpreter, whose exact version decides which packages of the lock are needed.
    """
    venv.create(scratch / "build", with_pip=True)
    build = str(scratch / "build" / "bin" / "python")
    [pip] = (scratch / "build").glob("lib/python*/site-packages/pip")
    locked = ("--only-binary", ":all:", "--require-hashes", "--requirement")
    _run([build, "-m", "pip", "install", *OPTIONS, *locked, str(tree / "requirements-build.lock")])
    own = ("--no-index", "--no-build-isolation", "--wheel-dir", str(scratch))
    _run([build, "-m", "pip", "wheel", *OPTIONS[:3], *own, str(_copy(tree, scratch / "source"))])
    [wheel] = scratch.glob("*.whl")
    install = [str(pip), "install", *OPTIONS, "--target", str(root / SITE), "--upgrade"]
    _run_inside(root, [*install, *locked, str(tree / "requirements-runtime.lock")])
    _run_inside(root, [*install, "--no-index", str(wheel)])


def _copy(tree: Path, to: Path) -> Path:
    """What the project's wheel is made of, in a place of its own: setuptools writes into its source."""
    to.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(tree / name, to)
    for package in own_packages(tree):
        shutil.copytree(tree / package, to / package, ignore=shutil.ignore_patterns("__pycache__"))
    return to


def own_packages(tree: Path) -> Sequence[str]:
    """The packages that the project installs."""
    return sorted(path.parent.name for path in tree.glob("*/py.typed"))


def compile_all(root: Path, own: Sequence[str]) -> None:
    """Compile everything, by the image's own interpreter: a read-only file system takes no bytecode later.

    The libraries' sources then go: a traceback names file and line without them. The project's `own` packages keep
    theirs.
    """
    options = ["-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", "/"]
    packages = [root / SITE / name for name in own]
    _run_inside(root, [*options, *map(str, packages)])
    _run_inside(root, [*options, "-b", str(root / STDLIB), str(root / SITE)])
    for path in [*(root / STDLIB).rglob("*.py"), *(root / SITE).rglob("*.py")]:
        bytecode = path.with_suffix(".pyc")
        if any(path.is_relative_to(package) for package in packages):
            bytecode.unlink()
        elif bytecode.exists():
            path.unlink()
    for cache in (root / "usr" / "lib").rglob("__pycache__"):
        if not any(cache.is_relative_to(package) for package in packages):
            shutil.rmtree(cache)


def write_programs(root: Path) -> None:
    """A program for each daemon, in an interpreter that heeds no variable and no directory of whoever starts it."""
    for daemon in DAEMONS:
        program = root / "usr" / "bin" / daemon
        program.write_text(PROGRAM.format(python=PYTHON, daemon=daemon))
        program.chmod(0o755)


def _run_inside(root: Path, arguments: Sequence[str]) -> None:
    """Run the image's interpreter, with the image's libraries, on this machine's files."""
    [loader, *_] = [*(root / "usr" / "lib64").glob("ld-linux*"), *(root / "usr" / "lib").rglob("ld-linux*")]
    libraries = ":".join(map(str, (root / "usr" / "lib").glob("*-linux-gnu")))
    python = [str(loader), "--library-path", libraries, str(root / "usr" / "bin" / f"python{PYTHON}"), "-S"]
    _run([*python, *arguments], {**os.environ, "PYTHONHOME": str(root / "usr"), "PYTHONDONTWRITEBYTECODE": "1"})


def _run(command: Sequence[str], environ: dict[str, str] | None = None) -> None:
    subprocess.run(command, check=True, env=environ, stdout=sys.stderr)
