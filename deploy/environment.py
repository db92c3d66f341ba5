"""Makes a virtual environment from a lock: `python3 deploy/environment.py LOCK DIRECTORY`, as `make` calls it.

What the lock names is installed, each package as a wheel with one of its hashes, and nothing is resolved: whatever else
the index holds changes nothing. Then `pip check` says whether the lock was complete. The source tree is linked, by a
path file and a launcher for each daemon, so that nothing is written into it.

The environment has no pip of its own, which would be most of it: the interpreter's pip installs into it, or, where it
has none that can, that of an environment which is made for it and removed. Needs nothing but Python 3.11 with venv.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TREE: Final = Path(__file__).resolve().parent.parent

OPTIONS: Final = ("--only-binary", ":all:", "--require-hashes", "--no-deps", "--no-compile")
"""Of `pip install`. Bytecode is made where it is first needed, which is less than all of it."""

READY: Final = "ready"
"""The file that is written last: the interpreter as it was asked for, its version, the source tree."""

INTERRUPTED: Final = 130

_SETTINGS: Final = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    # A user's configuration may ask for it, and a virtual environment refuses it.
    "PIP_USER": "0",
    # pip's lines are the progress.
    "PYTHONUNBUFFERED": "1",
}

_PIP_WITH_PYTHON: Final = (22, 3)
"""The first pip that installs into another interpreter's environment."""

_NUMBERS: Final = re.compile(r"\d+")
_LOCKED: Final = re.compile(r"^[A-Za-z0-9][^ ]*==", re.MULTILINE)
_STEP: Final = re.compile(r"(?:Collecting|Ignoring) ([A-Za-z0-9._-]+)")


class NotMadeError(Exception):
    """The environment could not be made; the message is for the user."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what `arguments` name and return the exit code."""
    parser = argparse.ArgumentParser(prog="deploy/environment.py", description="Make a virtual environment of a lock.")
    parser.add_argument("lock", type=Path, metavar="LOCK")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY")
    parser.add_argument("--asked", default=sys.executable, help="the interpreter as the user named it")
    parser.add_argument("--variable", default="VENV", help="the variable of make that names another DIRECTORY")
    options = parser.parse_args(arguments)
    try:
        make(options.lock, options.directory, options.asked, sys.stderr)
    except NotMadeError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"can't make {options.directory}: {error.strerror or error}; make … {options.variable}=DIRECTORY takes"
            " another place",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def make(lock: Path, directory: Path, asked: str, out: TextIO) -> None:
    """Make `directory` the environment of `lock`; `out` is told how it goes.

    Raises NotMadeError, with a message for the user, when something else is in the directory, or when what the lock
    names can't be installed or is not all that is needed; OSError when the directory can't be written.
    """
    started = time.time()
    directory = directory.absolute()
    if directory.exists() and not (directory / "pyvenv.cfg").exists() and any(directory.iterdir()):
        raise NotMadeError(f"{directory} holds something else than a virtual environment, which would be lost")
    version = "{}.{}".format(*sys.version_info)
    stamp = f"{asked} {version} {TREE}\n"
    with _alone(directory, out):
        # Who had to wait finds that it has been made.
        if _is_ready(directory, stamp, lock):
            return
        total = len(_LOCKED.findall(lock.read_text()))
        print(f"making {directory} with Python {version}: {total} packages", file=out, flush=True)
        venv.create(directory, clear=True, symlinks=True)
        python = directory / "bin" / "python"
        with open_pip(python) as pip:
            _install([*pip, "install", *OPTIONS, "--requirement", str(lock)], total, out)
            _run([*pip, "check"])
        link(directory, TREE)
        (directory / READY).write_text(stamp)
        print(f"made it in {time.time() - started:.0f} s", file=out, flush=True)


@contextmanager
def open_pip(python: Path) -> Iterator[Sequence[str]]:
    """The command of a pip that installs into the environment of `python`."""
    if _pip_version() >= _PIP_WITH_PYTHON:
        yield (sys.executable, "-m", "pip", "--python", str(python))
        return
    with tempfile.TemporaryDirectory(prefix="pip-") as name:
        venv.create(name, with_pip=True)
        yield (str(Path(name) / "bin" / "python"), "-m", "pip", "--python", str(python))


def _pip_version() -> tuple[int, ...]:
    """The first two numbers of the version of the interpreter's pip; (0,) where it has none."""
    try:
        return tuple(int(number) for number in _NUMBERS.findall(metadata.version("pip"))[:2])
    except metadata.PackageNotFoundError:
        return (0,)


def link(directory: Path, tree: Path) -> None:
    """Let the environment in `directory` import the packages of `tree`, and give it their commands.

    A command is started from anywhere, so what lies in the directory where that happens is not imported.
    """
    [packages] = directory.glob("lib/python3.*/site-packages")
    # As a path alone it would be read in whatever encoding the caller's locale has: in C that is ASCII.
    line = f"import os, sys; sys.path.append(os.fsdecode({os.fsencode(tree)!r}))\n"
    (packages / "run-status-daemons.pth").write_text(line, encoding="ascii")
    python = shlex.quote(str(directory / "bin" / "python"))
    for name, target in tomllib.loads((tree / "pyproject.toml").read_text("utf-8"))["project"]["scripts"].items():
        module, _, function = target.partition(":")
        launcher = directory / "bin" / name
        code = shlex.quote(f"from {module} import {function}; {function}()")
        launcher.write_text(f'#!/bin/sh\nexec {python} -P -c {code} "$@"\n')
        launcher.chmod(0o755)


def _is_ready(directory: Path, stamp: str, lock: Path) -> bool:
    """Whether the environment is there, as `stamp` says and not older than what it is made of."""
    ready = directory / READY
    if not ready.exists() or not (directory / "bin" / "python").exists():
        return False
    sources = (lock, TREE / "pyproject.toml", Path(__file__))
    made = ready.stat().st_mtime
    return ready.read_text() == stamp and all(made >= source.stat().st_mtime for source in sources)


@contextmanager
def _alone(directory: Path, out: TextIO) -> Iterator[None]:
    """Hold off whoever else makes the same directory."""
    directory.mkdir(parents=True, exist_ok=True)
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process, which makes {directory}", file=out, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _install(command: Sequence[str], total: int, out: TextIO) -> None:
    """Run pip; on a terminal, one line that changes says which package it is at."""
    said: list[str] = []
    live = out.isatty()
    with subprocess.Popen(
        command, env=_environ(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        done = 0
        for line in process.stdout:
            said.append(line)
            if live and (step := _STEP.match(line)):
                done += 1
                print(f"\r{f'  {done} of {total}: {step[1]}':<60}", end="", file=out, flush=True)
    if live:
        print(f"\r{'':<60}\r", end="", file=out, flush=True)
    _complain(process.returncode, command, "".join(said))


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(
        command,
        env=_environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    _complain(done.returncode, command, done.stdout)


def _complain(code: int, command: Sequence[str], said: str) -> None:
    if code:
        raise NotMadeError(f"{said.rstrip()}\nfailed with status {code}: {shlex.join(command)}")


def _environ() -> dict[str, str]:
    return {**os.environ, **_SETTINGS}


if __name__ == "__main__":
    sys.exit(main())
