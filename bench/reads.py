"""preflightd's reads under strain: `python -m bench.reads`. Not a row of the catalogue: it has no peers.

    resync   many runs with large hashes, one client each; every hash is changed unheard, the subscriber is killed, and
             the time is taken until every client knows. Each run should be read once, and Redis be connected to once.
    giant    one client after the other opens a run whose hash is far over the limit, while others are watched: how
             late their updates come, and what `/health` says meanwhile, beside a stretch of the same length without.

`--root` is the checkout whose preflightd is measured, so that two can be compared on the same machine.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from bench.stats import percentile
from common.embedded import open_embedded_redis
from common.logs import make_logger
from common.redis.handler import Deaf
from common.redis.link import Link, LinkPolicy
from common.redis.url import parse_redis_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from common.embedded import EmbeddedRedis

HOST: Final = "127.0.0.1"
PORT: Final = 19_001
FIELD: Final = "timestamps:build_channels"
PATIENCE: Final = 60.0
"""Seconds after which what has not happened is reported as such."""
_HANDSHAKE: Final = (
    "GET /{} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Silence:
    """A log that goes nowhere."""

    def write(self, line: str) -> None:
        pass


class Viewer:
    """One client. `frames` counts checklists, `told_at` is when the last came, `close_code` what the server ended with.

    It answers nothing: the daemon's patience is set to be longer than the bench.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.told_at = 0.0
        self.close_code: int | None = None
        self.changed = trio.Event()

    async def run(self, run_id: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with await trio.open_tcp_stream(HOST, PORT) as stream:
            await stream.send_all(_HANDSHAKE.format(run_id).encode())
            task_status.started()
            data = bytearray()
            while b"\r\n\r\n" not in data:
                data += await stream.receive_some(65536)
            del data[: data.index(b"\r\n\r\n") + 4]
            while True:
                self._take(data)
                piece = await stream.receive_some(65536)
                if not piece:
                    return
                data += piece

    def _take(self, data: bytearray) -> None:
        """Count the frames that are whole, and take them off; a server's frames are not masked."""
        while len(data) >= 4:
            length, start = (int.from_bytes(data[2:4], "big"), 4) if data[1] == 126 else (data[1], 2)
            if len(data) < start + length:
                return
            payload = data[start : start + length]
            if data[0] & 15 == 8:
                self.close_code = int.from_bytes(payload[:2], "big")
            elif payload.startswith(b'{"type":"preflight"'):
                self.frames += 1
                self.told_at = trio.current_time()
            del data[: start + length]
            self.changed.set()
            self.changed = trio.Event()

    async def wait_frames(self, count: int) -> None:
        while self.frames < count:
            await self.changed.wait()


@asynccontextmanager
async def preflightd(redis: EmbeddedRedis, root: Path) -> AsyncIterator[Path]:
    """The daemon of that checkout; what is yielded is its log."""
    settings = {
        "PREFLIGHT_REDIS_URL": redis.url(0),
        "PREFLIGHT_LISTEN_ADDR": f"{HOST}:{PORT}",
        "PREFLIGHT_RESYNC_INTERVAL": "0",
        "PREFLIGHT_PING_INTERVAL": "15s",
        "PREFLIGHT_PONG_TIMEOUT": "10m",
        "PREFLIGHT_REDIS_MAX_RETRIES": "0",
    }
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs yet
                [sys.executable, "-m", "preflightd"], cwd=root, env=os.environ | settings, stdout=out, stderr=out
            )
        try:
            with trio.fail_after(PATIENCE):
                while await health() != 200:  # noqa: ASYNC110 - another process
                    await trio.sleep(0.05)
            yield log
        finally:
            process.kill()
            process.wait()


async def health() -> int:
    """What `/health` says; 0 when nothing within a second."""
    with trio.move_on_after(1):
        try:
            async with await trio.open_tcp_stream(HOST, PORT) as stream:
                await stream.send_all(b"GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                return int((await stream.receive_some(64)).split()[1])
        except (OSError, trio.BrokenResourceError, IndexError):
            return 0
    return 0


@asynccontextmanager
async def writer(redis: EmbeddedRedis) -> AsyncIterator[Link]:
    """A connection to write and look with."""
    policy = LinkPolicy(request_timeout=30.0, retry_base=1.0, retry_max=1.0, max_retries=1)
    url = parse_redis_url(redis.url(0), 0)
    link = Link(
        url=url,
        client_name="bench",
        policy=policy,
        handler=Deaf(),
        log=make_logger("error", "bench", Silence()),
        rng=random.Random(0),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        yield link
        nursery.cancel_scope.cancel()


async def reads(link: Link) -> int:
    """How often HGETALL has been asked since the last reset."""
    info = await link.request("INFO", "commandstats")
    assert isinstance(info, bytes)
    found = [line for line in info.decode().splitlines() if line.startswith("cmdstat_hgetall:")]
    return int(found[0].partition("calls=")[2].partition(",")[0]) if found else 0


async def resync(root: Path, runs: int, size: int) -> None:
    """See the module."""
    async with open_embedded_redis() as redis, writer(redis) as link, preflightd(redis, root) as log:
        for number in range(runs):
            await link.request("HSET", f"run-{number}", FIELD, 1, "note", "x" * size)
        viewers = [Viewer() for _ in range(runs)]
        async with trio.open_nursery() as nursery:
            # One after the other: what many at once cost is not the question here.
            for number, viewer in enumerate(viewers):
                with trio.fail_after(PATIENCE):
                    await nursery.start(viewer.run, f"run-{number}")
                    await viewer.wait_frames(1)
            await link.request("CONFIG", "SET", "notify-keyspace-events", "")
            for number in range(runs):
                await link.request("HSET", f"run-{number}", "attrs:has_sbs", "true")
            await link.request("CONFIG", "SET", "notify-keyspace-events", "Kh")
            await link.request("CONFIG", "RESETSTAT")
            online = log.read_text().count('"redis online"')
            start = trio.current_time()
            await link.request("CLIENT", "KILL", "TYPE", "pubsub")
            with trio.move_on_after(PATIENCE):
                for viewer in viewers:
                    await viewer.wait_frames(2)
            told = [viewer.told_at - start for viewer in viewers if viewer.frames >= 2]
            # Whether it goes on although everybody knows.
            await trio.sleep(5)
            print(
                f"resync of {runs} runs of {size} bytes: {len(told)} current after {max(told, default=0):.1f} s, "
                f"{await reads(link)} reads, {log.read_text().count('redis online') - online} reconnects"
            )
            nursery.cancel_scope.cancel()


async def giant(root: Path, megabytes: int, seconds: int) -> None:
    """See the module."""
    async with open_embedded_redis() as redis, writer(redis) as link, preflightd(redis, root) as log:
        for number in range(megabytes):
            await link.request("HSET", "giant", f"field-{number}", "x" * (1 << 20))
        viewers = [Viewer() for _ in range(50)]
        async with trio.open_nursery() as nursery:
            for number, viewer in enumerate(viewers):
                await nursery.start(viewer.run, f"run-{number}")
                await viewer.wait_frames(1)
            for what in ("without", f"beside a hash of {megabytes} MB"):
                await link.request("CONFIG", "RESETSTAT")
                late: list[float] = []
                states: dict[int, int] = {}
                giants: list[Viewer] = []
                lost = 0
                end = trio.current_time() + seconds
                number = 0
                while trio.current_time() < end:
                    if what != "without" and number % 20 == 0:
                        giants.append(Viewer())
                        nursery.start_soon(giants[-1].run, "giant")
                    viewer = viewers[number % len(viewers)]
                    known, start = viewer.frames, trio.current_time()
                    await link.request("HINCRBY", f"run-{number % len(viewers)}", "last_modified", 1)
                    number += 1
                    with trio.move_on_after(10):
                        await viewer.wait_frames(known + 1)
                    late.append(trio.current_time() - start)
                    lost += viewer.frames < known + 1
                    state = await health()
                    states[state] = states.get(state, 0) + 1
                    await trio.sleep(0.05)
                p50, p99 = (percentile(sorted(late), percent) * 1000 for percent in (50, 99))
                codes = sorted({viewer.close_code or 0 for viewer in giants})
                print(
                    f"{what}: {number} updates, p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {max(late) * 1000:.0f} ms, "
                    f"{lost} not within 10 s; "
                    f"health {states}; giants: {len(giants)} came, close codes {codes}; {await reads(link)} reads, "
                    f"{log.read_text().count('redis stream interrupted')} interruptions so far"
                )
            nursery.cancel_scope.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["resync", "giant"])
    parser.add_argument("--root", type=Path, default=Path.cwd())
    parser.add_argument("--runs", type=int, default=6000)
    parser.add_argument("--size", type=int, default=20_000, help="bytes of each run's hash")
    parser.add_argument("--megabytes", type=int, default=84)
    parser.add_argument("--seconds", type=int, default=15)
    options = parser.parse_args()
    if options.only in {None, "resync"}:
        trio.run(resync, options.root, options.runs, options.size)
    if options.only in {None, "giant"}:
        trio.run(giant, options.root, options.megabytes, options.seconds)


if __name__ == "__main__":
    main()
