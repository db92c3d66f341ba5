"""sdist, and from it the wheel: made twice, in different places, and the same byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.made import VARIABLE
from tools.release.archive import normalised
from tools.release.source import copy_source

if TYPE_CHECKING:
    from collections.abc import Mapping


FRONTEND: Final = ("-m", "build", "--no-isolation")
"""What this interpreter is told: to build with what the lock has, and to fetch nothing for it."""

_UMASK: Final = 0o022
"""A wheel holds the rights of its files, also of those that are made while it is built."""


class ReleaseError(Exception):
    """What was built is not fit for a release; the message is for the user."""


def build(tree: Path, share: Path, epoch: int) -> dict[str, bytes]:
    """The files by name. Raises OSError, CalledProcessError, and ReleaseError if they come out differently."""
    first, second = _build_once(tree, share, epoch), _build_once(tree, share, epoch)
    differing = sorted(name for name in {*first, *second} if first.get(name) != second.get(name))
    if differing:
        raise ReleaseError(f"built twice, and not the same: {', '.join(differing)}")
    return first


def _build_once(tree: Path, share: Path, epoch: int) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="release-") as scratch:
        source, out = Path(scratch) / "source", Path(scratch) / "dist"
        copy_source(tree, share, source)
        command = [sys.executable, *FRONTEND, "--outdir", str(out), str(source)]
        _run(command, {**os.environ, VARIABLE: str(epoch)})
        return {path.name: _content(path, epoch) for path in out.iterdir()}


def _content(path: Path, epoch: int) -> bytes:
    content = path.read_bytes()
    return normalised(content, epoch) if path.name.endswith(".tar.gz") else content


def _run(command: list[str], environ: Mapping[str, str]) -> None:
    done = subprocess.run(
        command, env=environ, umask=_UMASK, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.stderr.write(done.stdout)
        done.check_returncode()
