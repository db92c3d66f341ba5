"""The command line of statusd: `statusd`, or `python -m statusd`."""

from __future__ import annotations

import sys

from common.cli import run
from statusd.daemon import STATUSD
from statusd.watch import WATCH


def main() -> None:
    """Run and exit with the code that SPEC 6 gives."""
    sys.exit(run(STATUSD, [WATCH]))


if __name__ == "__main__":
    main()
