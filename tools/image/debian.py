"""Debian's packages: fetched by apt, unpacked without running anything of them."""

from __future__ import annotations

import subprocess
import tarfile
from typing import IO, TYPE_CHECKING, Final

from tools.image.contents import PACKAGES

if TYPE_CHECKING:
    from pathlib import Path

_MERGED: Final = ("bin", "lib", "lib64", "sbin")
"""Directories that are links into /usr: a package may still name either."""


def unpack_packages(root: Path, downloads: Path) -> None:
    """Fetch `PACKAGES` into `downloads` and unpack them below `root`. Raises CalledProcessError."""
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    subprocess.run(["apt-get", "-qq", "download", *PACKAGES], cwd=downloads, check=True, stderr=subprocess.DEVNULL)
    for package in sorted(downloads.glob("*.deb")):
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as unpacking:
            assert unpacking.stdout is not None  # noqa: S101 - a pipe was asked for
            _unpack(unpacking.stdout, root)
        if unpacking.returncode:
            raise subprocess.CalledProcessError(unpacking.returncode, unpacking.args)


def _unpack(data: IO[bytes], root: Path) -> None:
    with tarfile.open(fileobj=data, mode="r|") as archive:
        for member in archive:
            path = _usr_merged(member.name.removeprefix("./"))
            if member.isdir():
                continue
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if member.issym():
                target.symlink_to(member.linkname)
            elif (content := archive.extractfile(member)) is not None:
                target.write_bytes(content.read())
                target.chmod(member.mode & 0o755)


def _usr_merged(path: str) -> str:
    return f"usr/{path}" if path.partition("/")[0] in _MERGED else path
