"""`python -m tools.release`: build sdist and wheel, and check them; see the package. Needs `make release-check`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.made import moment_made
from tools.release.build import ReleaseError, build
from tools.release.installed import check_installed, install
from tools.release.versions import UNRELEASED, disagreements, notes

if TYPE_CHECKING:
    from collections.abc import Sequence

TREE: Final = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the versions, build, check what was built, and install it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=sys.modules["tools.release"].__doc__)
    parser.add_argument("--tag", help="what is to be released, such as v1.2.3 [nothing yet]")
    parser.add_argument(
        "--share", type=Path, default=TREE / "build/share", help="what tools.manuals made [build/share]"
    )
    parser.add_argument("--output", type=Path, default=TREE / "dist", help="where sdist and wheel go [dist]")
    parser.add_argument("--notes", type=Path, help="where the changelog's words for this version go [nowhere]")
    options = parser.parse_args(arguments)
    try:
        _check(options.tag or None, options.share, options.output, options.notes)
    except (OSError, subprocess.CalledProcessError, tarfile.TarError, ReleaseError) as error:
        print(f"no release: {error}", file=sys.stderr)
        return 1
    return 0


def _check(tag: str | None, share: Path, output: Path, notes_file: Path | None) -> None:
    version = str(tomllib.loads((TREE / "pyproject.toml").read_text("utf-8"))["project"]["version"])
    changelog = (TREE / "CHANGELOG.md").read_text("utf-8")
    found = disagreements(version, changelog, (TREE / "Containerfile").read_text("utf-8"), tag)
    if found:
        raise ReleaseError("; ".join(found))
    print(f"version {version}{' as the tag has it' if tag else ', no tag'}: agreed", flush=True)
    if notes_file is not None:
        notes_file.write_text(f"{notes(changelog, version) or notes(changelog, UNRELEASED)}\n", encoding="utf-8")
    pages = sorted(path.relative_to(share).as_posix() for path in share.rglob("*") if path.is_file())
    if not pages:
        raise ReleaseError(f"nothing below {share}: make manuals")
    built = build(TREE, share, int(moment_made().timestamp()))
    files = _store(built, output)
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=True)
    [wheel] = [file for file in files if file.suffix == ".whl"]
    with tempfile.TemporaryDirectory(prefix="installed-") as home:
        install(wheel, Path(home))
        for line in check_installed(Path(home), version, pages):
            print(f"installed: {line}")


def _store(built: dict[str, bytes], output: Path) -> list[Path]:
    """Write what was built, and nothing of an earlier build beside it, for all of it will be published."""
    output.mkdir(parents=True, exist_ok=True)
    for old in (*output.glob("*.whl"), *output.glob("*.tar.gz")):
        old.unlink()
    files = []
    for name, content in sorted(built.items()):
        (output / name).write_bytes(content)
        print(f"{output / name}: {len(content)} bytes, sha256 {sha256(content).hexdigest()}", flush=True)
        files.append(output / name)
    return files


if __name__ == "__main__":
    sys.exit(main())
