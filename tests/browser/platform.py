"""What the page shows: an opsd, and the redis-server and the daemons that it looks at, each a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from common.daemons import WATCHED
from common.embedded import open_embedded_redis
from tests.support.daemon import open_daemon
from tests.support.raw import HOST, fetch, open_redis, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from common.embedded import EmbeddedRedis
    from tests.browser.stage import Stage
    from tests.support.daemon import DaemonProcess

SESSION = "run-status-test"

PATIENT = {"redis_request_timeout": "60s"}
"""A machine that is busy elsewhere for a second has not lost Redis."""

# Nothing listens before it is started, and after it was stopped; and a source that is late on a busy machine is away.
# And who logs in may mistype.
AWAY = frozenset({"source unavailable", "workers changed", "telemetry status changed", "wrong tokens"})


@attrs.frozen
class Platform:
    """Those that run; `opsd` shows the others."""

    stage: Stage
    redis: EmbeddedRedis
    statusd: DaemonProcess
    preflightd: DaemonProcess
    opsd: DaemonProcess

    @property
    def page(self) -> str:
        """The page's address."""
        return address_of(self.opsd)

    def publish(self, channel: str, *lines: str) -> None:
        """Publish the lines as a run does."""

        async def publish() -> None:
            async with open_redis(self.redis) as redis:
                await redis.call("SELECT", 2)
                await redis.publish(channel, lines)

        self.stage.call(publish)

    def write(self, run: str, **fields: str) -> None:
        """Write fields of the run's hash; `__` stands for `:`."""

        async def write() -> None:
            async with open_redis(self.redis) as redis:
                await redis.call("SELECT", 0)
                for name, value in fields.items():
                    await redis.call("HSET", run, name.replace("__", ":"), value)

        self.stage.call(write)


def tmux_status(*panes: dict[str, Any]) -> dict[str, Any]:
    """What opsd tells of a tmux in which the session runs, with these panes: what is not given is as of a live one."""
    session = {"name": SESSION, "windows": 1, "attached": 0, "created": "2026-01-15T14:03:09Z"}
    pane = {"window": "statusd", "title": "statusd", "index": "0.0", "command": "python", "pid": 2}
    pane |= {"dead": False, "exitCode": None, "exitSignal": None, "lines": []}
    return {
        "available": True,
        "reason": "",
        "running": True,
        "online": True,
        "changing": False,
        "sessions": [session],
        "session": SESSION,
        "sessionName": SESSION,
        "panes": [pane | one for one in panes],
        "attach": "tmux attach",
    }


def address_of(opsd: DaemonProcess) -> str:
    """Where its page is."""
    return f"http://{HOST}:{opsd.port}/"


def open_platform(stage: Stage, directory: Path, program: Path) -> Platform:
    """Start everything on the stage. The admin listeners are sockets in `directory`, whose path must be short."""
    redis = stage.open(open_embedded_redis(program=program))
    daemons = {}
    for name in (known.name for known in WATCHED):
        settings = {
            **PATIENT,
            "write_timeout": "60s",
            "admin_listen_addr": f"unix:{directory / name}",
            "metrics_enabled": "true",
            "ping_interval": "1s",
        }
        daemons[name] = stage.open(open_daemon(redis, settings, module=name))
    settings = {
        "targets": targets(directory),
        "status_ws_url": f"ws://{HOST}:{daemons['statusd'].port}",
        "preflight_ws_url": f"ws://{HOST}:{daemons['preflightd'].port}",
    }
    opsd = stage.open(open_opsd(redis, settings, tmux_directory=directory))
    return Platform(stage, redis, daemons["statusd"], daemons["preflightd"], opsd)


def targets(directory: Path) -> str:
    """`OPS_TARGETS` for daemons whose admin listeners are in the directory."""
    return ",".join(f"{known.name}=unix:{directory / known.name}" for known in WATCHED)


@asynccontextmanager
async def open_opsd(
    redis: EmbeddedRedis,
    settings: Mapping[str, str],
    *,
    tmux_directory: Path,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[DaemonProcess]:
    """An opsd with a tmux of its own, entered when it has asked its sources once and has Redis for its history.

    `environ` is for the daemons that it starts: they get opsd's own environment.
    """
    variables = {"TMUX_TMPDIR": str(tmux_directory), **(environ or {})}
    env = shutil.which("env")
    assert env is not None
    command = [
        env,
        *(f"{name}={value}" for name, value in variables.items()),
        sys.executable,
        "-W",
        "default",
        "-m",
        "opsd",
    ]
    async with open_daemon(
        redis,
        {**PATIENT, "tmux_session": SESSION, **settings},
        module="opsd",
        command=command,
        # opsd refuses the Host header with which the daemons are asked.
        healthy=False,
        expect=AWAY,
    ) as opsd:

        async def is_ready() -> bool:
            headers = {"Host": f"{HOST}:{opsd.port}", "Connection": "close"}
            return (await fetch(opsd.port, "/health", headers=headers)).status == 200

        await wait_until(is_ready, "opsd is ready")
        await opsd.wait_said("redis online")
        yield opsd


@contextmanager
def short_directory() -> Iterator[Path]:
    """A directory for sockets, whose paths are limited to about a hundred bytes; a tmux server in it ends with it."""
    with tempfile.TemporaryDirectory(prefix="opsd-") as name:
        try:
            yield Path(name)
        finally:
            tmux = shutil.which("tmux")
            if tmux is not None:
                environ = os.environ | {"TMUX_TMPDIR": name}
                subprocess.run([tmux, "kill-server"], env=environ, capture_output=True, check=False, timeout=60)
