"""`python -m bench.processes [--against DIRECTORY] [--rounds N]`: what signals, hangs and kills cost, in seconds.

Each figure is measured on statusd with two workers, in rounds, and in each round also on the code in DIRECTORY (another
checkout), the two in turn: what else the machine does weighs on both. The first row is the measure of the machine. The
tests assert the mechanisms; how long they take is told here only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from bench import wire
from common.embedded import open_embedded_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

HOST: Final = "127.0.0.1"
ROOT: Final = Path(__file__).resolve().parent.parent
CLIENTS: Final = 20
PATIENCE: Final = 60.0
"""Seconds after which a figure is "more than" that."""

DRAIN: Final = 10
"""DRAIN_TIMEOUT, in seconds: how long a client that never answers holds a drain up."""

SERVES_ON: Final = 5.0
"""Seconds after which a signal counts as lost."""

MOMENTS: Final = (0.1, 0.2, 0.3, 0.4)
"""Seconds after the start of process number 1 at which it is signalled."""

_POLL: Final = 0.01
_LISTEN: Final = "0A"
"""The state in /proc/net/tcp."""
CLOSE: Final = bytes([wire.FIN | wire.CLOSE])
GOING_AWAY: Final = (1001).to_bytes(2)
HANGUP: Final = wire.server_text(b'{"type":"hangup"}')


@attrs.frozen
class CodePlace:
    """Whose code is run, and on which Redis."""

    name: str
    directory: Path
    redis_url: str


class StatusdProcess:
    """A running statusd."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def workers(self) -> list[int]:
        """Their process ids."""
        return children(self.process.pid)

    async def wait_health(self, status: int) -> float:
        """Wait until `/health` says that; return how long it took."""

        async def says_it() -> bool:
            return await health(self.port) == status

        return await wait_for(says_it)

    async def wait_exit(self) -> float:
        """Wait for its end; return how long it took."""
        return await wait_for(self.has_ended)

    async def has_ended(self) -> bool:
        """Whether it has."""
        return self.process.poll() is not None

    def signal_all(self, number: int) -> None:
        """As systemd does: every process of the unit."""
        for pid in (self.process.pid, *self.workers()):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


class Visitor:
    """A client that reads to its end, or (`deaf`) never reads."""

    def __init__(self) -> None:
        self.status = 0
        self.data = bytearray()
        self.ended = trio.Event()

    @property
    def said_goodbye(self) -> bool:
        """Whether a hangup and a close frame with 1001 have come."""
        _, found, close = bytes(self.data).rpartition(HANGUP)
        return bool(found) and close[:1] == CLOSE and close[2:4] == GOING_AWAY

    async def run(self, port: int, *, deaf: bool = False, task_status: trio.TaskStatus[None]) -> None:
        """Connect, shake hands, and read; the goodbye is answered."""
        async with await trio.open_tcp_stream(HOST, port) as stream:
            await stream.send_all(wire.handshake_request(f"{HOST}:{port}", "/run:log"))
            head = b""
            with suppress(trio.BrokenResourceError):
                while b"\r\n\r\n" not in head and (chunk := await stream.receive_some()):
                    head += chunk
            self.status = int(head.split(b" ")[1]) if head else 0
            task_status.started()
            if deaf:
                await trio.sleep_forever()
            with suppress(trio.BrokenResourceError):
                while chunk := await stream.receive_some():
                    self.data += chunk
                    if self.said_goodbye:
                        await stream.send_all(wire.masked_frame(wire.CLOSE, GOING_AWAY))
        self.ended.set()


async def wait_for(condition: Callable[[], Awaitable[bool]], within: float = PATIENCE) -> float:
    """Wait until `condition` holds, or `within` seconds; return how long it took."""
    start = trio.current_time()
    with trio.move_on_after(within):
        while True:
            if await condition():
                break
            await trio.sleep(_POLL)
    return trio.current_time() - start


def children(pid: int) -> list[int]:
    """The process ids of its children."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for tasks in found for child in tasks.read_text().split()]


def listens(pid: int, port: int) -> bool:
    """Whether the process has a listening socket on that port."""
    with suppress(FileNotFoundError):
        own = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
        rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        return any(
            row[1].endswith(f":{port:04X}") and row[3] == _LISTEN and f"socket:[{row[9]}]" in own for row in rows
        )
    return False


async def health(port: int) -> int:
    """The status of `/health`; 0 if nobody answers within a second."""
    answer = b""
    with trio.move_on_after(1), suppress(OSError, trio.BrokenResourceError):
        async with await trio.open_tcp_stream(HOST, port) as stream:
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while b"\r\n" not in answer and (chunk := await stream.receive_some()):
                answer += chunk
    return int(answer.split(b" ")[1]) if answer else 0


def spawn(place: CodePlace, port: int, workers: int, before: Sequence[str] = ()) -> StatusdProcess:
    """Start statusd from the code of `place`."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("STATUS_", "REDIS_"))}
    environ |= {
        "PYTHONPATH": str(place.directory),
        "STATUS_LISTEN_ADDR": f"{HOST}:{port}",
        "STATUS_REDIS_URL": place.redis_url,
        "STATUS_WORKERS": str(workers),
        "STATUS_DRAIN_TIMEOUT": f"{DRAIN}s",
        "STATUS_WRITE_TIMEOUT": "1m",
        "STATUS_HANGUP": "all",
    }
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "statusd"],
        cwd=place.directory,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return StatusdProcess(process, port)


@asynccontextmanager
async def open_daemon(place: CodePlace, port: int | None = None) -> AsyncIterator[StatusdProcess]:
    """A healthy daemon with two workers; nothing of it is left at the end."""
    daemon = spawn(place, port or free_port(), 2)
    known: list[int] = []
    try:
        await daemon.wait_health(200)
        known += daemon.workers()
        yield daemon
    finally:
        for pid in {daemon.process.pid, *known, *daemon.workers()} if daemon.process.poll() is None else set(known):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        daemon.process.wait()


async def visit(nursery: trio.Nursery, port: int, number: int = CLIENTS, *, deaf: bool = False) -> list[Visitor]:
    """So many clients that have been answered."""
    visitors = [Visitor() for _ in range(number)]
    for visitor in visitors:

        async def run(visitor: Visitor = visitor, *, task_status: trio.TaskStatus[None]) -> None:
            await visitor.run(port, deaf=deaf, task_status=task_status)

        await nursery.start(run)
    return visitors


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


# -- the figures ------------------------------------------------------------------------------------------------------


async def start(place: CodePlace) -> dict[str, float]:
    """The measure of the machine."""
    daemon_started = trio.current_time()
    async with open_daemon(place):
        return {"start until healthy, s": trio.current_time() - daemon_started}


async def all_signalled(place: CodePlace) -> dict[str, float]:
    """systemd's end of a unit: all processes, twice."""
    async with open_daemon(place) as daemon, trio.open_nursery() as nursery:
        visitors = await visit(nursery, daemon.port)
        daemon.signal_all(signal.SIGTERM)
        daemon.signal_all(signal.SIGTERM)
        seconds = await daemon.wait_exit()
        with trio.move_on_after(PATIENCE):
            for visitor in visitors:
                await visitor.ended.wait()
        nursery.cancel_scope.cancel()
    said = sum(visitor.said_goodbye for visitor in visitors)
    return {
        f"all signalled twice: goodbyes of {CLIENTS}": said,
        "all signalled twice: exit code": daemon.process.returncode,
        "all signalled twice: until the end, s": seconds,
    }


async def stopped_worker(place: CodePlace) -> dict[str, float]:
    """SIGSTOP: until it is noticed, until it is replaced."""
    async with open_daemon(place) as daemon:
        os.kill(daemon.workers()[0], signal.SIGSTOP)
        noticed = await daemon.wait_health(503)
        replaced = PATIENCE if noticed >= PATIENCE else noticed + await daemon.wait_health(200)
        return {"stopped worker: unready after, s": noticed, "stopped worker: ready again after, s": replaced}


async def end_with_stopped_worker(place: CodePlace) -> dict[str, float]:
    """SIGTERM right after a worker was stopped."""
    async with open_daemon(place) as daemon:
        os.kill(daemon.workers()[0], signal.SIGSTOP)
        daemon.process.send_signal(signal.SIGTERM)
        return {"stopped worker: SIGTERM until the end, s": await daemon.wait_exit()}


async def lone_drain(place: CodePlace) -> dict[str, float]:
    """One worker is signalled, and has a client that never answers."""
    async with open_daemon(place) as daemon, trio.open_nursery() as nursery:
        await visit(nursery, daemon.port, 8, deaf=True)
        os.kill(daemon.workers()[0], signal.SIGTERM)
        await trio.sleep(0.5)
        refused = sum(visitor.status != 101 for visitor in await visit(nursery, daemon.port, 2 * CLIENTS))
        nursery.cancel_scope.cancel()
    return {f"a worker drains alone: newcomers refused of {2 * CLIENTS}": refused}


async def killed_parent(place: CodePlace) -> dict[str, float]:
    """kill -9 of the parent while a client holds the orphans' drain up: until a new start serves."""
    async with open_daemon(place) as daemon, trio.open_nursery() as nursery:
        await visit(nursery, daemon.port, 8, deaf=True)
        killed = trio.current_time()
        daemon.process.kill()
        tries = 1
        successor = spawn(place, daemon.port, 1)

        async def serves() -> bool:
            nonlocal tries, successor
            if await successor.has_ended():
                tries += 1
                successor = spawn(place, daemon.port, 1)
            # Orphans may still answer.
            return listens(successor.process.pid, daemon.port) and await health(daemon.port) == 200

        await wait_for(serves)
        seconds = trio.current_time() - killed
        successor.process.kill()
        successor.process.wait()
        nursery.cancel_scope.cancel()
    return {"parent killed: a new start serves after, s": seconds, "parent killed: starts that it took": tries}


async def first_process(place: CodePlace) -> dict[str, float]:
    """SIGTERM to process number 1 of a namespace, early: how many of the signals were lost."""
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        return {}
    lost = 0
    for moment in MOMENTS:
        daemon = spawn(place, free_port(), 1, [unshare, "--pid", "--fork", "--kill-child"])
        try:
            await trio.sleep(moment)
            for pid in children(daemon.process.pid):
                os.kill(pid, signal.SIGTERM)
            await wait_for(daemon.has_ended, SERVES_ON)
            lost += not await daemon.has_ended()
        finally:
            daemon.process.kill()
            daemon.process.wait()
    return {f"number 1, SIGTERM after {MOMENTS[0]:g} to {MOMENTS[-1]:g} s: lost of {len(MOMENTS)}": lost}


FIGURES: Final[Sequence[Callable[[CodePlace], Awaitable[dict[str, float]]]]] = (
    start,
    all_signalled,
    stopped_worker,
    end_with_stopped_worker,
    lone_drain,
    killed_parent,
    first_process,
)


async def run(against: Path | None, rounds: int) -> None:
    """Measure, and print a table: the median of the rounds, and the outermost."""
    found: dict[str, dict[str, list[float]]] = {}
    async with open_embedded_redis() as redis:
        places = [CodePlace("this", ROOT, redis.url(2))]
        if against is not None:
            places.insert(0, CodePlace("against", against, redis.url(2)))
        for number in range(rounds):
            for measure in FIGURES:
                for place in places:
                    print(f"round {number + 1}: {measure.__name__}, {place.name}", file=sys.stderr, flush=True)
                    for name, value in (await measure(place)).items():
                        found.setdefault(name, {}).setdefault(place.name, []).append(value)
    names = [place.name for place in places]
    print(f"| figure | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for figure, values in found.items():
        print(f"| {figure} | {' | '.join(_summary(values[name]) for name in names)} |")


def _summary(values: Sequence[float]) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    shown = [
        f"> {PATIENCE:g}" if value >= PATIENCE else f"{value:.2f}".rstrip("0").rstrip(".")
        for value in (low, middle, high)
    ]
    return shown[1] if low == high else f"{shown[1]} ({shown[0]} to {shown[2]})"


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m bench.processes", description=__doc__)
    parser.add_argument(
        "--against",
        type=lambda text: Path(text).resolve(),
        metavar="DIRECTORY",
        help="another checkout, measured in turn",
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="[3]")
    options = parser.parse_args()
    trio.run(run, options.against, options.rounds)


if __name__ == "__main__":
    main()
