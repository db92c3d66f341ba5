"""Tiny wheels, made on the spot, and locks of them: an index without a network."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

BASE_PYTHON = str(getattr(sys, "_base_executable", sys.executable))
"""The interpreter that the tests' environment was made with: it may have a pip, the environment has none."""


def make_wheel(
    directory: Path,
    name: str,
    version: str,
    needs: Sequence[str] = (),
    extras: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write a wheel of one module, `name`, which needs what `needs` and, with an extra, what `extras` say."""
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {need}" for need in needs]
    for extra, more in (extras or {}).items():
        metadata.append(f"Provides-Extra: {extra}")
        metadata += [f"Requires-Dist: {need} ; extra == '{extra}'" for need in more]
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{about}/METADATA": "\n".join(metadata) + "\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{about}/RECORD"))
    wheel = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


def lock_text(directory: Path, requirements: Iterable[str]) -> str:
    """A lock of requirements (`name[extra]==version`), with the hashes of their wheels in `directory`."""
    lines = []
    for requirement in requirements:
        name, _, version = requirement.partition("==")
        wheel = directory / f"{name.partition('[')[0]}-{version}-py3-none-any.whl"
        lines.append(f"{requirement} \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    return "".join(lines)
