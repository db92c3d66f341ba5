"""`python -m tools.image DIRECTORY`: assemble the root file system there; see the package."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.image.bill import write_bill
from tools.image.contents import LEFT_OUT, USER
from tools.image.debian import unpack_packages
from tools.image.python import compile_all, install_wheels, own_packages, write_programs

if TYPE_CHECKING:
    from collections.abc import Sequence

TREE: Final = Path(__file__).resolve().parents[2]

_FILES: Final = {
    "etc/passwd": f"root:x:0:0::/:/none\nnonroot:x:{USER}:{USER}::/:/none\n",
    "etc/group": f"root:x:0:\nnonroot:x:{USER}:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
_EMPTY: Final = ("dev", "proc", "run", "sys", "tmp")
_CERTIFICATES: Final = "etc/ssl/certs/ca-certificates.crt"


def main(arguments: Sequence[str] | None = None) -> int:
    """Assemble and say how large it is; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.image", description=sys.modules["tools.image"].__doc__)
    parser.add_argument("directory", type=Path, metavar="DIRECTORY")
    root: Path = parser.parse_args(arguments).directory.absolute()
    try:
        assemble(root)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no image: {error}", file=sys.stderr)
        return 1
    print(f"{root}: {size(root) / 1e6:.1f} MB")
    return 0


def assemble(root: Path) -> None:
    """Make the root file system at `root`, anew. Raises OSError, CalledProcessError."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="image-") as scratch:
        unpack_packages(root, Path(scratch))
        install_wheels(root, TREE, Path(scratch))
        write_bill(root, TREE, Path(scratch))
    leave_out(root)
    compile_all(root, own_packages(TREE))
    write_programs(root)
    for name in _EMPTY:
        (root / name).mkdir()
    (root / "tmp").chmod(0o1777)
    for name, text in _FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    _gather_certificates(root)


def leave_out(root: Path) -> None:
    """Remove what the image does without, and the directories that are empty then."""
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif any(fnmatchcase(str(path.relative_to(root)), pattern) for pattern in LEFT_OUT):
            path.unlink()
    for link in root.iterdir():
        if link.is_symlink() and not link.exists():
            link.unlink()


def size(root: Path) -> int:
    """Bytes of all files below `root`, those included that only its owner could read."""
    return sum(path.lstat().st_size for path in root.rglob("*") if not path.is_dir() or path.is_symlink())


def _gather_certificates(root: Path) -> None:
    """One file of all authorities, where OpenSSL looks for it; what the package's script would do."""
    authorities = root / "usr" / "share" / "ca-certificates"
    texts = [path.read_text("ascii") for path in sorted(authorities.rglob("*.crt"))]
    bundle = root / _CERTIFICATES
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_text("".join(texts))
    shutil.rmtree(authorities)
    default = root / "usr" / "lib" / "ssl" / "cert.pem"
    default.parent.mkdir(exist_ok=True)
    default.unlink(missing_ok=True)
    default.symlink_to(f"/{_CERTIFICATES}")


if __name__ == "__main__":
    sys.exit(main())
