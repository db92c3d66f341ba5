"""What opsd is on the command line: the value that `common.cli` runs."""

from __future__ import annotations

from typing import Final

from common.cli import Program
from common.daemons import OPS
from common.exits import WORDS, Exit
from opsd.check import check
from opsd.process import serve_process
from opsd.settings import OpsSettings

OPSD: Final = Program(
    name=OPS.name,
    summary="Shows operators the state of statusd, preflightd and their workers, live: a page and an API.",
    settings=OpsSettings,
    serve=serve_process,
    serve_help="serve until SIGTERM or Ctrl-C",
    check=check,
    check_help="Redis, the sources and tmux",
    # It serves without Redis.
    exit_codes={**WORDS, Exit.FAILED: "a second signal"},
)
