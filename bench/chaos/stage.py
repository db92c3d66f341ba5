"""A private Redis, both daemons with their workers, and a fault-injecting proxy on each way, for the length of a block.

A daemon that ends before its time is started again, as a service manager does. Its log is one file through all its
lives. Redis knows the daemons as a user of their own, so that their rights can be taken from them alone.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import sys
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import trio

from bench.chaos.faults import DAEMONS
from bench.exposition import samples
from bench.holdings import look_inside, open_files, sockets_to
from bench.processes import children, health, wait_for
from common.embedded import open_embedded_redis
from common.workers.desk import REPORT_TIMEOUT
from tests.faultproxy import open_fault_proxy
from tests.support.daemon import environment, spawn
from tests.support.ports import free_port
from tests.support.raw import HOST, PATIENCE, fetch, open_redis

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator, Mapping

    from common.embedded import EmbeddedRedis
    from tests.faultproxy import FaultProxy

WORKERS: Final = 2
RETRY_MAX: Final = 2
CONNECT_TIMEOUT: Final = 2
REQUEST_TIMEOUT: Final = 1
RESYNC_INTERVAL: Final = 5
DRAIN_TIMEOUT: Final = 3
"""Seconds, all of them."""

START_AGAIN: Final = 0.5
"""Seconds until a daemon that has ended is started again."""

USER: Final = "daemon"
PASSWORD: Final = "chaos"  # noqa: S105 - of a private server
ALLOWED: Final = ("ACL", "SETUSER", USER, "reset", "on", f">{PASSWORD}", "~*", "&*", "+@all")

DATABASES: Final = {"statusd": 2, "preflightd": 0}
PREFIXES: Final = {"statusd": "status2", "preflightd": "preflight2"}

_SETTINGS: Final = {
    "workers": f"{WORKERS}",
    "metrics_enabled": "1",
    "redis_retry_base": "100ms",
    "redis_retry_max": f"{RETRY_MAX}s",
    "redis_max_retries": "0",
    "redis_connect_timeout": f"{CONNECT_TIMEOUT}s",
    "redis_request_timeout": f"{REQUEST_TIMEOUT}s",
    "ping_interval": "1s",
    "write_timeout": "5s",
    "handshake_timeout": "5s",
    "max_backlog": "256KB",
    "drain_timeout": f"{DRAIN_TIMEOUT}s",
}
_OWN: Final[Mapping[str, Mapping[str, str]]] = {
    "statusd": {},
    "preflightd": {"resync_interval": f"{RESYNC_INTERVAL}s"},
}
_TAIL: Final = 12


class Service:
    """One daemon through all its lives; made by `open_stage`, whose nursery keeps it alive."""

    def __init__(
        self, name: str, log: IO[bytes], errors: IO[bytes], redis_way: FaultProxy, pong_timeout: float
    ) -> None:
        self.name = name
        self.port = free_port()
        self.admin_port = free_port()
        self.redis_way = redis_way
        self.starts = 0
        self.code: int | None = None
        """How it ended, when it was told to."""
        self._log = log
        self._errors = errors
        self._pong_timeout = pong_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = False

    @property
    def pids(self) -> list[int]:
        """The parent and its workers, the parent first; nobody between two lives."""
        process = self._process
        if process is None or process.poll() is not None:
            return []
        with suppress(OSError):
            return [process.pid, *self.workers]
        return []

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers that there are now."""
        with suppress(OSError):
            return [] if self._process is None else children(self._process.pid)
        return []

    def descriptors(self) -> int:
        """What parent and workers have open together, without connections to Redis: those for reads are kept."""
        return sum(len(open_files(pid) - sockets_to(pid, self.redis_way.port)) for pid in self.pids)

    @property
    def log_size(self) -> int:
        """Bytes of its log so far."""
        return os.fstat(self._log.fileno()).st_size

    def lines(self) -> list[dict[str, Any]]:
        """Its log so far. A line that a full disk cut is left out."""
        data = os.pread(self._log.fileno(), self.log_size, 0)
        lines: list[dict[str, Any]] = []
        for line in data.splitlines():
            with suppress(ValueError):
                lines.append(json.loads(line))
        return lines

    def stderr(self) -> str:
        """What it wrote to standard error: nothing, if all is well."""
        number = self._errors.fileno()
        return os.pread(number, os.fstat(number).st_size, 0).decode(errors="replace")

    def tail(self) -> str:
        """The last it said, for whoever reads a failure."""
        return "\n".join([*map(json.dumps, self.lines()[-_TAIL:]), self.stderr()])

    async def keep(self) -> None:
        """Start it, and again whenever it ends, until `end`."""
        places = {"listen_addr": f"{HOST}:{self.port}", "admin_listen_addr": f"{HOST}:{self.admin_port}"}
        settings = {**_SETTINGS, **_OWN[self.name], **places, "pong_timeout": f"{self._pong_timeout:g}s"}
        url = f"redis://{USER}:{PASSWORD}@{HOST}:{self.redis_way.port}/{DATABASES[self.name]}"
        environ = environment(url, settings, module=self.name)
        try:
            while not self._ending:
                self.starts += 1
                command = [sys.executable, "-W", "default", "-P", "-m", self.name]
                self._process = spawn(command, environ, self._log.fileno(), self._errors.fileno())
                await wait_for(self._has_ended, math.inf)
                if not self._ending:
                    await trio.sleep(START_AGAIN)
            self.code = None if self._process is None else self._process.returncode
        finally:
            for pid in self.pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self._process is not None:
                self._process.wait()

    async def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def kill_parent(self) -> None:
        """SIGKILL to the parent: its workers notice it by themselves."""
        if self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """Tell it to drain and to end."""
        self._ending = True
        if self._process is not None:
            self._process.terminate()

    async def healthy(self) -> bool:
        """Whether `/health` says so."""
        return await health(self.port) == 200

    async def figures(self) -> dict[str, float]:
        """Its metrics, by name with labels, without the prefix. Raises OSError if it can't be asked.

        A worker that gets no time does not hold up the page for longer than `REPORT_TIMEOUT`, and is on it as it was:
        such a page is asked for again, for `PATIENCE` seconds.
        """
        with trio.move_on_after(PATIENCE):
            while True:
                asked = trio.current_time()
                page = await fetch(self.port, "/metrics")
                if page.status == HTTPStatus.OK and trio.current_time() - asked < REPORT_TIMEOUT:
                    return samples(page.body.decode(), PREFIXES[self.name])
        raise OSError(f"no figures of all workers within {PATIENCE:g} s")

    async def tasks(self) -> int:
        """How many tasks there are in all its workers, by their own snapshots. Raises OSError if it can't be asked."""
        return (await look_inside(self.admin_port, WORKERS)).tasks


class Stage:
    """See the module; made by `open_stage`."""

    def __init__(self, redis: EmbeddedRedis, services: dict[str, Service], client_ways: dict[str, FaultProxy]) -> None:
        self.redis = redis
        self.services = services
        self.client_ways = client_ways

    async def admit_daemons(self) -> None:
        """Let Redis, which has just been started, know the daemons."""
        async with open_redis(self.redis) as control:
            await control.call(*ALLOWED)

    async def healthy(self) -> bool:
        """Whether both daemons are."""
        return all([await service.healthy() for service in self.services.values()])


@asynccontextmanager
async def open_stage(seed: int, *, pong_timeout: float, logs: Path | None = None) -> AsyncIterator[Stage]:
    """Everything but the clients; the daemons may not be healthy yet. `seed` is for the chance in the weather; the
    daemons' logs are written into `logs`, and thrown away without it."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_embedded_redis())
        directory = logs or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        services: dict[str, Service] = {}
        client_ways: dict[str, FaultProxy] = {}
        for number, name in enumerate(DAEMONS):
            rng = random.Random(seed + number)
            redis_way = await stack.enter_async_context(open_fault_proxy(redis.port, rng=rng))
            # Read and appended to by one descriptor: a log that is full must not lose its place.
            log = stack.enter_context((directory / f"{name}.log").open("a+b"))
            errors = stack.enter_context((directory / f"{name}.err").open("a+b"))
            services[name] = Service(name, log, errors, redis_way, pong_timeout)
            client_ways[name] = await stack.enter_async_context(open_fault_proxy(services[name].port, rng=rng))
        stage = Stage(redis, services, client_ways)
        await stage.admit_daemons()
        async with trio.open_nursery() as nursery:
            for service in services.values():
                nursery.start_soon(service.keep)
            yield stage
            nursery.cancel_scope.cancel()
