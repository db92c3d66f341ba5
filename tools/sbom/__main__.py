"""`python -m tools.sbom [FILE]`: write the document of what the daemons need at run time, from its lock."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from common.version import version
from tools.made import moment_made
from tools.sbom.document import document
from tools.sbom.lock import LockError, read_lock
from tools.sbom.python import installed_licences, packages, project

if TYPE_CHECKING:
    from collections.abc import Sequence

LOCK: Final = Path(__file__).resolve().parents[2] / "requirements-runtime.lock"
DEFAULT: Final = Path("build") / "sbom.cdx.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write it and say what has no known licence here; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.sbom", description=sys.modules["tools.sbom"].__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT, metavar="FILE")
    file: Path = parser.parse_args(arguments).file
    subject = project(version())
    try:
        parts = packages(read_lock(LOCK.read_text("utf-8")), installed_licences(), subject)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(document("application", subject, parts, moment_made()), encoding="utf-8")
    except (OSError, LockError) as error:
        print(f"no SBOM: {error}", file=sys.stderr)
        return 1
    unknown = sorted(part.name for part in parts if not part.licence)
    print(f"{file}: {len(parts)} packages; licence not known: {', '.join(unknown) or 'of none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
