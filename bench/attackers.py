"""Clients that mean no good, and a prober beside them: the processes that `bench.attack` starts.

    python -m bench.attackers flood KIND NUMBER HOST PORT PATH     until standard input ends
    python -m bench.attackers probe HOST PORT PATH                 the same; then prints what it has measured, as JSON
    python -m bench.attackers probe-full HOST PORT PATH            the same, of a daemon that has no place

What each kind does is in `bench.floods`. One that is thrown out comes back `RETURN` seconds later.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import sys
import time
from typing import Final, NoReturn

import attrs

from bench import wire
from bench.floods import FLOODS, Flood
from bench.outcome import NS_PER_MS

RETURN: Final = 0.1
"""Seconds."""
PROBE_PAUSE: Final = 0.05
"""Seconds between two probes."""
_PROBE_TIMEOUT: Final = 30.0
_BLOCK: Final = 64 * 1024
_AT_ONCE: Final = 256
"""Connections opened before those that are there are served again."""
_ANSWERED: Final = (b"200", b"101", b"503")
"""Statuses of an answer in time: a full daemon says so."""


@attrs.define(eq=False)
class _Flooder:
    sock: socket.socket
    waiting: memoryview
    dribbles_at: float


class _Crowd:
    """All flooders of a kind."""

    def __init__(self, flood: Flood, address: tuple[str, int], path: str) -> None:
        self._flood = flood
        self._address = address
        self._first = flood.opening(wire.handshake_request("{}:{}".format(*address), path))
        self._block = memoryview(flood.again * (_BLOCK // len(flood.again)) if flood.again else b"")
        self._poll = select.epoll()
        self._flooders: dict[int, _Flooder] = {}
        self._returns: list[float] = []

    def run(self, number: int) -> None:
        """Keep `number` of them there until standard input ends."""
        self._returns = [0.0] * number
        self._poll.register(sys.stdin.fileno(), select.EPOLLIN | select.EPOLLHUP)
        while True:
            for _ in range(_AT_ONCE):
                if not self._returns or self._returns[0] > time.monotonic():
                    break
                self._returns.pop(0)
                self._connect()
            for descriptor, events in self._poll.poll(RETURN):
                if descriptor == sys.stdin.fileno():
                    return
                self._serve(self._flooders[descriptor], events)
            if self._flood.pause:
                self._dribble()

    def _connect(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(self._address)
        flooder = _Flooder(sock, memoryview(self._first), time.monotonic())
        self._flooders[sock.fileno()] = flooder
        self._poll.register(sock.fileno(), self._mask(flooder))

    def _mask(self, flooder: _Flooder) -> int:
        """What it waits for: one that has nothing to send, or not now, only reads."""
        sends = flooder.waiting and not self._flood.pause
        return (select.EPOLLIN if self._flood.reads else 0) | (select.EPOLLOUT if sends else 0)

    def _serve(self, flooder: _Flooder, events: int) -> None:
        try:
            if events & select.EPOLLIN and not flooder.sock.recv(1 << 16):
                # What it says is over; it goes when the daemon does.
                self._leave(flooder)
            elif events & select.EPOLLOUT:
                self._send(flooder, len(flooder.waiting))
            elif events & (select.EPOLLERR | select.EPOLLHUP):
                self._leave(flooder)
        except BlockingIOError:
            return
        except OSError:
            self._leave(flooder)

    def _send(self, flooder: _Flooder, most: int) -> None:
        sent = flooder.sock.send(flooder.waiting[:most])
        flooder.waiting = flooder.waiting[sent:] or self._block
        if not flooder.waiting:
            self._poll.modify(flooder.sock.fileno(), self._mask(flooder))

    def _dribble(self) -> None:
        now = time.monotonic()
        for flooder in list(self._flooders.values()):
            if flooder.waiting and flooder.dribbles_at <= now:
                flooder.dribbles_at = now + self._flood.pause
                try:
                    self._send(flooder, 1)
                except BlockingIOError:
                    continue
                except OSError:
                    self._leave(flooder)

    def _leave(self, flooder: _Flooder) -> None:
        self._poll.unregister(flooder.sock.fileno())
        del self._flooders[flooder.sock.fileno()]
        flooder.sock.close()
        self._returns.append(time.monotonic() + RETURN)


def _probe(address: tuple[str, int], path: str, *, full: bool) -> None:
    """Ask for the health page and for a conversation in turn, once at least, until standard input ends.

    A `full` daemon may close a connection instead: of many it tells no more than some that they are too many.
    """
    host = "{}:{}".format(*address)
    requests = {
        "health": f"GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(),
        "newcomer": wire.handshake_request(host, path),
    }
    taken: dict[str, list[float]] = {name: [] for name in requests}
    ended = False
    while not ended:
        ended = bool(select.select([sys.stdin], [], [], PROBE_PAUSE)[0])
        for name, request in requests.items():
            begun = time.perf_counter_ns()
            with socket.create_connection(address, timeout=_PROBE_TIMEOUT) as sock:
                try:
                    sock.sendall(request)
                    answer = sock.recv(1 << 16)
                except (ConnectionResetError, BrokenPipeError):
                    answer = b""
                taken[name].append((time.perf_counter_ns() - begun) / NS_PER_MS)
                if answer[9:12] not in _ANSWERED and (answer or not full):
                    raise SystemExit(f"{name}: {answer[:100]!r}")
                if answer[9:12] == b"101":
                    sock.sendall(wire.masked_frame(wire.CLOSE, b"\x03\xe8"))
    print(json.dumps(taken))


def main() -> NoReturn:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    match sys.argv[1:]:
        case ["flood", kind, number, host, port, path]:
            _Crowd(FLOODS[kind], (host, int(port)), path).run(int(number))
        case ["probe" | "probe-full" as what, host, port, path]:
            _probe((host, int(port)), path, full=what == "probe-full")
        case _:
            sys.exit(__doc__)
    sys.exit(0)


if __name__ == "__main__":
    main()
