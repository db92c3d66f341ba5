"""How a process of ours starts another one of ours: the same interpreter, the same code, nothing from where it stands.

`python -m` looks for every import in the working directory first: a folder named `redis` there would end the start,
and in a directory that others can write to it would be their code.
"""

from __future__ import annotations

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
"""Where the running code is."""


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs `module` with the safe path; see the module for why.

    Only where this process has its own code from the working directory, started with `python -m` in a checkout that is
    not installed, do its children look there too: it is where they are.
    """
    safe = () if _runs_from_working_directory() else ("-P",)
    return [sys.executable, *safe, "-m", module, *arguments]


def _runs_from_working_directory() -> bool:
    """Whether the interpreter has put the working directory first, and the running code is in it."""
    return not sys.flags.safe_path and Path(sys.path[0]) == Path.cwd() == _ROOT
