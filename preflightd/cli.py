"""What preflightd is on the command line: the value that `common.cli` runs."""

from __future__ import annotations

from typing import Final

from common.daemon_cli import program
from preflightd.checklist_command import CHECKLIST
from preflightd.daemon import PREFLIGHTD
from preflightd.evaluate import EVALUATE
from preflightd.watch import WATCH

PROGRAM: Final = program(PREFLIGHTD, [CHECKLIST, EVALUATE, WATCH])
