"""What a daemon that serves has loaded: a start, and a worker's replacement, take as long as their imports."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.daemon import open_daemon

if TYPE_CHECKING:
    from pathlib import Path

    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

NOTE: Final = """
import atexit, runpy, sys
from pathlib import Path
atexit.register(lambda: Path({note!r}).write_text("\\n".join(name for name in sys.modules if sys.modules[name])))
sys.argv = [{module!r}]
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""

NEEDLESS: Final = {
    *("jsonschema", "opentelemetry"),
    # What a command needs.
    *("trio_websocket", "common.watch.client"),
    # What opsd is made of.
    *("opsd", "httpx", "starlette", "hypercorn"),
    # What an operator's listener, and several workers, need.
    *("psutil", "common.admin.server", "common.admin.probe", "common.telemetry"),
    *("common.workers.supervisor", "common.workers.worker"),
}


@pytest.mark.parametrize("module", ["statusd", "preflightd"])
async def test_a_daemon_loads_what_serving_needs(redis_server: EmbeddedRedis, module: str, tmp_path: Path) -> None:
    note = tmp_path / "modules"
    command = [sys.executable, "-P", "-c", NOTE.format(note=str(note), module=module)]
    async with open_daemon(redis_server, module=module, command=command):
        pass
    loaded = set(note.read_text().split())
    assert {f"{module}.daemon", "common.serving.server", "trio", "hiredis"} <= loaded
    assert loaded & NEEDLESS == set()
