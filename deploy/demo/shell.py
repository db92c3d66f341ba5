"""The commands that the demo names for a second terminal."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def redis_command(cli: str, client: str, command: str, *arguments: str) -> str:
    """The shell's command for a Redis command: `redis-cli` with the options `cli` where it is there, else this
    interpreter with the expression `client`."""
    if shutil.which("redis-cli"):
        return f"redis-cli {cli} {command} " + " ".join(f"'{argument}'" for argument in arguments)
    return f'{python()} -c "import redis; {client}.{command}({", ".join(map(repr, arguments))})"'


def python() -> str:
    """This interpreter, as short as a shell in this directory understands it."""
    here = f"{Path.cwd()}{os.sep}"
    return shlex.quote(sys.executable.removeprefix(here))
