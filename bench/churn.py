"""What a daemon keeps of connections that came and went: `python -m bench.churn`.

Three ways, each on a fresh daemon: `rounds` of 3,000 that are all open before they close, `single` ones one after the
other beside 1,000 that stay, and `garbage` that is no request. The resident set is read after a quarter, a half and all
of them, with nobody of them connected. The goal: the second half adds less than 0.1 KB a connection.

    python -m bench.churn --daemon statusd --way garbage --connections 20000

Exit status: 0; 1 when the goal is missed.
"""

from __future__ import annotations

import argparse
import resource
import socket
import sys
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from bench import wire
from bench.attack import SUBJECTS
from bench.targets import open_target
from common.embedded import open_embedded_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.attack import Subject
    from bench.targets import RunningTarget

ROUND: Final = 3000
STAYING: Final = 1000
AT_ONCE: Final = 100
"""Handshakes, or heads that are garbage, under way at a time."""
GOAL: Final = 0.1
"""KB a connection."""
SETTLE: Final = 7.0
"""Seconds until what is kept for a while is gone: a topic's subscription outlives its last client by five."""
_TIMEOUT: Final = 60.0
_GARBAGE: Final = b"\x16\x03\x01\x02\x00\x01 no request at all\r\n\r\n"
_GOODBYE: Final = wire.masked_frame(wire.CLOSE, b"\x03\xe8")


class _Visitors:
    """Blocking sockets to one daemon."""

    def __init__(self, address: tuple[str, int], path: str, number: int) -> None:
        self._address = address
        self._round = min(ROUND, number // 8)
        self._request = wire.handshake_request("{}:{}".format(*address), path)

    def open(self, number: int) -> list[socket.socket]:
        """So many conversations, whose handshakes are done."""
        opened: list[socket.socket] = []
        while len(opened) < number:
            fresh = [self._send(self._request) for _ in range(min(AT_ONCE, number - len(opened)))]
            for sock in fresh:
                _receive_head(sock)
            opened += fresh
        return opened

    def rounds(self, number: int) -> None:
        """All of one size, whatever the number: what the largest has taken is kept for the next by the allocator."""
        for begin in range(0, number, self._round):
            _close(self.open(min(self._round, number - begin)))

    def single(self, number: int) -> None:
        for _ in range(number):
            _close(self.open(1))

    def garbage(self, number: int) -> None:
        under_way: deque[socket.socket] = deque()
        for _ in range(number):
            if len(under_way) == AT_ONCE:
                _read_to_end(under_way.popleft())
            under_way.append(self._send(_GARBAGE))
        for sock in under_way:
            _read_to_end(sock)

    def _send(self, data: bytes) -> socket.socket:
        sock = socket.create_connection(self._address, timeout=_TIMEOUT)
        sock.sendall(data)
        return sock


def _receive_head(sock: socket.socket) -> None:
    data = b""
    while wire.split_handshake(data) is None:
        chunk = sock.recv(4096)
        if not chunk:
            raise ConnectionError("closed during the handshake")
        data += chunk


def _close(socks: Sequence[socket.socket]) -> None:
    for sock in socks:
        sock.sendall(_GOODBYE)
    for sock in socks:
        _read_to_end(sock)


def _read_to_end(sock: socket.socket) -> None:
    with sock:
        while sock.recv(1 << 16):
            pass


WAYS: Final = ("rounds", "single", "garbage")


def resident_kb(pid: int) -> int:
    """The resident set of a process, in KB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ValueError("no VmRSS line")


def measure(running: RunningTarget, path: str, way: str, number: int) -> bool:
    """Print the figures; return whether the goal is met."""
    visitors = _Visitors(running.address, path, number)
    visit: Callable[[int], None] = getattr(visitors, way)
    staying = visitors.open(STAYING) if way == "single" else []
    begun = time.monotonic()
    sizes = [resident_kb(running.pid)]
    for part in (number // 4, number // 2 - number // 4, number - number // 2):
        visit(part)
        time.sleep(SETTLE)
        sizes.append(resident_kb(running.pid))
    for sock in staying:
        sock.close()
    half = number - number // 2
    kept = (sizes[3] - sizes[2]) / half
    shown = " ".join(f"{size / 1024:7.1f}" for size in sizes)
    print(
        f"  {way:>8} {number:>7} connections, {time.monotonic() - begun:5.0f} s: {shown} MB; "
        f"the second half {kept:6.3f} KB a connection{'' if kept < GOAL else '  MISSED'}"
    )
    return kept < GOAL


async def churn(subject: Subject, ways: Sequence[str], number: int) -> bool:
    """One way after the other; return whether the goal is met by all."""
    met = True
    async with open_embedded_redis() as redis:
        for way in ways:
            async with open_target(subject.target, redis.url(subject.database), {"PONG_TIMEOUT": "1h"}) as running:
                met = (
                    await trio.to_thread.run_sync(partial(measure, running, subject.feed.paths[0], way, number)) and met
                )
    return met


def main() -> NoReturn:
    parser = argparse.ArgumentParser(prog="python -m bench.churn", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--daemon", choices=SUBJECTS, action="append")
    parser.add_argument("--way", choices=WAYS, action="append")
    parser.add_argument("--connections", type=int, default=100_000)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    met = True
    for name in options.daemon or SUBJECTS:
        print(name)
        met = trio.run(churn, SUBJECTS[name], options.way or WAYS, options.connections) and met
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
