"""The whole platform: a real Redis, statusd and preflightd with their operator's listeners, and opsd watching them.

statusd listens on TCP and asks for a token, preflightd on a Unix socket. CHAOS_ROUNDS is how often each of the sources
is killed, at random moments.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import sys
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import attrs
import httpx
import jsonschema
import pytest
import trio
from trio_websocket import open_websocket_url

from opsd.schema import SCHEMA
from tests.support.daemon import DaemonProcess, open_daemon
from tests.support.opsd_outside import MOODS, open_outside
from tests.support.ports import free_port
from tests.support.raw import HOST, NO_TLS, PATIENCE, connect, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from trio_websocket import WebSocketConnection

    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

TOKEN: Final = "between-the-daemons"
ROUNDS: Final = 12
CHAOS: Final = int(os.environ.get("CHAOS_ROUNDS", "2"))
"""How often each of them is killed."""

RATE: Final = 20.0
LIVES: Final = (0.3, 1.5)
GAPS: Final = (0.1, 1.0)

# What daemons say whose Redis or whose neighbour goes away.
TROUBLE: Final = (
    "source unavailable",
    "workers changed",
    "telemetry status changed",
    "traffic mode changed",
    "redis unavailable, retrying",
    "redis stream interrupted",
    "redis request timed out",
    "connection ended with error",
    "history not recorded",
    "worker died",
    "configuration",
)

_VALIDATOR: Final = jsonschema.Draft202012Validator(SCHEMA)


@attrs.frozen
class Site:
    """Where everything is."""

    redis: EmbeddedRedis
    port: int
    """Of statusd's operator's listener."""
    socket: Path
    """Of preflightd's."""

    def settings(self, module: str, **more: str) -> dict[str, str]:
        """Those of a daemon."""
        if module == "statusd":
            own = {"admin_listen_addr": f"{HOST}:{self.port}", "admin_token": TOKEN}
        elif module == "preflightd":
            own = {"admin_listen_addr": f"unix:{self.socket}"}
        else:
            targets = f"statusd=http://{HOST}:{self.port},preflightd=unix:{self.socket}"
            return {"targets": targets, "targets_token": TOKEN, "redis_retry_max": "1s", **more}
        return {**own, "redis_max_retries": "0", "redis_retry_max": "1s", **more}

    def open(
        self, module: str, *, code: int = 0, healthy: bool = True, **more: str
    ) -> AbstractAsyncContextManager[DaemonProcess]:
        """A daemon, as long as the block."""
        return open_daemon(
            self.redis, self.settings(module, **more), module=module, expect=TROUBLE, healthy=healthy, code=code
        )


@pytest.fixture
def site(redis_server: EmbeddedRedis, tmp_path: Path) -> Site:
    """A Redis, and places for the daemons."""
    return Site(redis_server, free_port(), tmp_path / "preflightd.sock")


@asynccontextmanager
async def open_platform(
    site: Site, workers: int = 1
) -> AsyncIterator[tuple[DaemonProcess, DaemonProcess, DaemonProcess]]:
    """statusd with that many workers, preflightd, and an opsd that sees both."""
    async with (
        site.open("statusd", workers=str(workers)) as statusd,
        site.open("preflightd") as preflightd,
        site.open("opsd", healthy=False) as opsd,
    ):
        await wait_status(opsd, sees_all, "both are seen")
        yield statusd, preflightd, opsd


async def get(opsd: DaemonProcess, path: str, *, encoding: str = "gzip") -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE, verify=NO_TLS) as client:
        return await client.get(f"http://{HOST}:{opsd.port}{path}", headers={"Accept-Encoding": encoding})


async def read_status(opsd: DaemonProcess) -> dict[str, Any]:
    """The status, which is valid."""
    answer = await get(opsd, "/api/dev/status")
    assert answer.status_code == 200
    document: dict[str, Any] = answer.json()
    _VALIDATOR.validate(document)
    return document


def sees_all(status: dict[str, Any]) -> bool:
    """Whether every source has told what it knows."""
    return status["meta"]["telemetryStatus"] == "healthy" and not status["meta"]["unavailable"]


async def wait_status(opsd: DaemonProcess, holds: Callable[[dict[str, Any]], bool], what: str) -> None:
    async def does() -> bool:
        return holds(await read_status(opsd))

    await wait_until(does, what)


async def workers_of(opsd: DaemonProcess, source: str) -> dict[str, dict[str, Any]]:
    """The workers of one daemon by their ids."""
    listed = (await get(opsd, "/api/dev/workers")).json()["workers"]
    return {worker["id"]: worker for worker in listed if worker["source"] == source}


class Frames:
    """What a live WebSocket brings."""

    def __init__(self, websocket: WebSocketConnection) -> None:
        self._websocket = websocket
        self._counts: list[int] = []

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            text = await self._websocket.get_message()
            document = json.loads(text)
            _VALIDATOR.validate(document)
            self._counts.append(count(document))

    async def wait(self, connections: int) -> None:
        """Wait for a frame that counts so many WebSockets."""
        await wait_until(lambda: connections in self._counts, f"a frame with {connections} connections")


def count(status: dict[str, Any]) -> int:
    """The WebSockets that it counts."""
    number: int = status["vector"]["sessions"]["websocketConnections"]
    return number


async def test_each_client_of_a_daemon_is_told_to_the_live_client(site: Site) -> None:
    async with open_platform(site) as (statusd, preflightd, opsd):
        address = f"ws://{HOST}:{opsd.port}/api/dev/status/live"
        async with (
            open_websocket_url(address, disconnect_timeout=PATIENCE) as websocket,
            trio.open_nursery() as nursery,
        ):
            frames = Frames(websocket)
            nursery.start_soon(frames.run)
            await frames.wait(0)
            for number in range(1, ROUNDS + 1):
                daemon, path = (statusd, "/run:log") if number % 2 else (preflightd, "/run")
                await connect(nursery, daemon.port, path)
                await frames.wait(number)
            await wait_status(opsd, lambda status: sees_all(status) and count(status) == ROUNDS, "all are counted")
            await wait_status(
                opsd, lambda status: status["vector"]["others"]["memory"] > 2 * 10_000_000, "the memory of both"
            )
            nursery.cancel_scope.cancel()


HOLDS: Final = """
import os, time
while os.path.exists({hold!r}):
    time.sleep(0.01)
"""
"""Keeps every Python that starts where it is while there is a file."""


async def test_every_worker_is_counted_and_one_that_is_killed_comes_back(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, modules = tmp_path / "hold", tmp_path / "modules"
    modules.mkdir()
    (modules / "sitecustomize.py").write_text(HOLDS.format(hold=str(hold)))
    monkeypatch.setenv("PYTHONPATH", str(modules))
    async with open_platform(site, workers=2) as (statusd, _, opsd):
        active = "activeWorkers"
        await wait_status(opsd, lambda status: status["vector"]["sessions"][active] == 3, "2 + 1 workers")
        before: dict[str, dict[str, Any]] = {}

        async def both_are_listed() -> bool:
            before.update(await workers_of(opsd, "statusd"))
            return before.keys() == {"statusd-1", "statusd-2"}

        await wait_until(both_are_listed, "both of statusd's")
        killed: int = before["statusd-1"]["pid"]
        assert killed != statusd.pid

        async def has_come_back() -> bool:
            now = await workers_of(opsd, "statusd")
            return len(now) == 2 and killed not in {worker["pid"] for worker in now.values()}

        hold.touch()
        os.kill(killed, signal.SIGKILL)
        await wait_status(opsd, lambda status: status["vector"]["sessions"][active] == 2, "one is missing")
        hold.unlink()
        await wait_until(has_come_back, "a worker in its place")
        await wait_status(opsd, lambda status: status["vector"]["sessions"][active] == 3, "3 workers again")


async def test_a_snapshot_of_each_worker_can_be_opened(site: Site) -> None:
    async with open_platform(site, workers=2) as (statusd, _, opsd), trio.open_nursery() as nursery:
        await wait_status(opsd, lambda status: status["vector"]["sessions"]["activeWorkers"] == 3, "3 workers")
        await connect(nursery, statusd.port, "/run:log")
        names: list[str] = []

        async def all_are_listed() -> bool:
            names[:] = [*await workers_of(opsd, "statusd"), *await workers_of(opsd, "preflightd")]
            return len(names) == 3

        await wait_until(all_are_listed, "all three are listed")
        for number, name in enumerate(names):
            encoding = "gzip" if number % 2 else "identity"
            answer = await get(opsd, f"/api/workers/snapshot/{name}", encoding=encoding)
            assert answer.status_code == 200
            assert f'attachment; filename="{name}-' in answer.headers["content-disposition"]
            assert answer.headers.get("content-encoding", "identity") == encoding
            document = json.loads(gzip.decompress(answer.content)) if encoding == "identity" else answer.json()
            assert document["tasks"]
            assert TOKEN not in json.dumps(document)
        assert (await get(opsd, "/api/workers/snapshot/statusd-9")).status_code == 404
        nursery.cancel_scope.cancel()


async def test_the_history_survives_a_restart(site: Site) -> None:
    async def times(opsd: DaemonProcess) -> list[str]:
        answer = await get(opsd, "/api/dev/status/history?minutes=5&points=300")
        return [point["time"] for point in answer.json()["points"]] if answer.status_code == 200 else []

    async with site.open("opsd", healthy=False) as first:

        async def has_some() -> bool:
            return bool(await times(first))

        await wait_until(has_some, "a point of the history")
    ended = datetime.now(UTC)
    async with site.open("opsd", healthy=False) as second:
        points: list[str] = []

        async def has_any() -> bool:
            points[:] = await times(second)
            return bool(points)

        await wait_until(has_any, "the history")
        assert datetime.fromisoformat(min(points)) < ended


@pytest.mark.sensitive
async def test_whatever_is_killed_the_status_is_served(site: Site) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    rng = random.Random(seed)
    async with (
        open_outside() as outside,
        site.open("opsd", healthy=False, workers_url=outside.url, workers_timeout="1s") as opsd,
        trio.open_nursery() as nursery,
    ):
        killed: Counter[str] = Counter()

        async def live_and_die(module: str) -> None:
            while True:
                async with site.open(module, healthy=False, code=-signal.SIGKILL) as daemon:
                    try:
                        await trio.sleep(rng.uniform(*LIVES))
                    finally:
                        daemon.signal(signal.SIGKILL)
                killed[module] += 1
                await trio.sleep(rng.uniform(*GAPS))

        async def end_redis() -> None:
            while True:
                await trio.sleep(rng.uniform(*LIVES))
                await site.redis.kill()
                killed["redis"] += 1
                await trio.sleep(rng.uniform(*GAPS))
                await site.redis.start()

        async def change_moods() -> None:
            while True:
                await trio.sleep(rng.uniform(*LIVES))
                outside.mood = rng.choice(MOODS)
                killed["outside"] += 1

        for task in (end_redis, change_moods):
            nursery.start_soon(task)
        for module in ("statusd", "preflightd"):
            nursery.start_soon(live_and_die, module)
        await watch(opsd, lambda: min(killed[name] for name in ("statusd", "preflightd", "redis", "outside")) >= CHAOS)
        nursery.cancel_scope.cancel()


async def watch(opsd: DaemonProcess, enough: Callable[[], bool]) -> None:
    """Ask at `RATE` until it is enough, and something was away: every answer is a 200 and valid, and time goes on."""
    stamps: list[datetime] = []
    seen: set[tuple[str, ...]] = set()
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE, verify=NO_TLS) as client:
        with trio.fail_after(CHAOS * PATIENCE):
            while not enough() or len(seen) < 2:
                answer = await client.get(f"http://{HOST}:{opsd.port}/api/dev/status")
                assert answer.status_code == 200, answer.text
                status = answer.json()
                _VALIDATOR.validate(status)
                stamps.append(datetime.fromisoformat(status["timestamp"]))
                seen.add(tuple(status["meta"]["unavailable"]))
                await trio.sleep(1 / RATE)
    assert stamps == sorted(stamps)
    assert len(set(stamps)) > 1, "always the same status"
