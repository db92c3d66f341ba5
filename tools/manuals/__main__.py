"""`python -m tools.manuals [SHARE]`: write the man pages and the completion there; see the package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tools.made import day_made
from tools.manuals.tree import write

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Write them and say where; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.manuals", description=sys.modules["tools.manuals"].__doc__)
    parser.add_argument("share", nargs="?", type=Path, default=Path("build/share"), metavar="SHARE")
    share: Path = parser.parse_args(arguments).share
    try:
        written = write(share, day_made())
    except OSError as error:
        print(f"no manuals: {error}", file=sys.stderr)
        return 1
    print(f"{share}: {len(written)} files; man -l {written[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
