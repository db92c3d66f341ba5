"""The command line of preflightd: `preflightd`, or `python -m preflightd`."""

from __future__ import annotations

import sys

from common.cli import run
from preflightd.daemon import PREFLIGHTD
from preflightd.evaluate import EVALUATE
from preflightd.watch import WATCH


def main() -> None:
    """Run and exit with the code that SPEC 6 gives."""
    sys.exit(run(PREFLIGHTD, [EVALUATE, WATCH]))


if __name__ == "__main__":
    main()
