"""What statusd is on the command line: the value that `common.cli` runs."""

from __future__ import annotations

from typing import Final

from common.daemon_cli import program
from statusd.daemon import STATUSD
from statusd.watch import WATCH

PROGRAM: Final = program(STATUSD, [WATCH])
