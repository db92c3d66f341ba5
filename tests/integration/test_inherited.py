"""The suite under `nohup`, or in the background of a script: its daemons heed every signal all the same."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.raw import PATIENCE

pytestmark = pytest.mark.integration

ROOT: Final = Path(__file__).parents[2]
SHELL: Final = shutil.which("sh") or "/bin/sh"

SAY: Final = "import signal; print([signal.getsignal(number).name for number in (signal.SIGHUP, signal.SIGTERM)])"
STARTS_ONE: Final = f"""
import signal, subprocess, sys
from tests.support.inherited import let_signals_through
if "let" in sys.argv:
    let_signals_through()
signal.raise_signal(signal.SIGHUP)
signal.raise_signal(signal.SIGINT)
sys.exit(subprocess.run([sys.executable, "-c", {SAY!r}]).returncode)
"""


@pytest.mark.parametrize(("argument", "effect"), [("", "SIG_IGN"), ("let", "SIG_DFL")])
def test_who_ignores_a_signal_starts_processes_that_do_not(argument: str, effect: str) -> None:
    ended = subprocess.run(
        [SHELL, "-c", 'trap "" HUP INT; exec "$@"', "sh", sys.executable, "-c", STARTS_ONE, argument],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"['{effect}', 'SIG_DFL']\n", "")
