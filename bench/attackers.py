"""Clients that mean no good, and a prober beside them: the processes that `bench.attack` starts.

    python -m bench.attackers flood KIND NUMBER HOST PORT PATH     until standard input ends
    python -m bench.attackers probe HOST PORT PATH                 the same; then prints what it has measured, as JSON

A flooder shakes hands and sends as fast as its socket takes, without waiting for the answer; one that is thrown out
comes back `RETURN` seconds later.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from typing import Final, NoReturn

import attrs

from bench import wire
from bench.outcome import NS_PER_MS

RETURN: Final = 0.1
"""Seconds."""
PROBE_PAUSE: Final = 0.05
"""Seconds between two probes."""
_PROBE_TIMEOUT: Final = 30.0
_BLOCK: Final = 64 * 1024
_CONTINUED: Final = bytes((0x00, 0x81)) + b"\x00\x00\x00\x00" + b"x"
_BEGUN: Final = bytes((0x01, 0x81)) + b"\x00\x00\x00\x00" + b"x"

_FRAMES: Final = {
    "texts": (b"", wire.masked_frame(wire.TEXT, b"x")),
    "fragments": (_BEGUN, _CONTINUED),
    "pings": (b"", wire.masked_frame(wire.PING, b"")),
    "unread-pings": (b"", wire.masked_frame(wire.PING, b"p" * 125)),
    "garbage": (b"", b"\xff\x00\x9c\x13"),
    "malformed": (b"", wire.masked_frame(wire.TEXT, b'{"type":')),
}
"""What each kind sends once, and then again and again."""
KINDS: Final = tuple(_FRAMES)


@attrs.define(eq=False)
class _Flooder:
    sock: socket.socket
    waiting: memoryview
    mask: int


class _Flood:
    def __init__(self, kind: str, address: tuple[str, int], path: str) -> None:
        first, again = _FRAMES[kind]
        self._address = address
        self._first = wire.handshake_request("{}:{}".format(*address), path) + first
        self._block = memoryview(again * (_BLOCK // len(again)))
        self._reads = 0 if kind == "unread-pings" else select.EPOLLIN
        self._poll = select.epoll()
        self._flooders: dict[int, _Flooder] = {}
        self._returns: list[float] = []

    def run(self, number: int) -> None:
        self._returns = [0.0] * number
        self._poll.register(sys.stdin.fileno(), select.EPOLLIN | select.EPOLLHUP)
        while True:
            while self._returns and self._returns[0] <= time.monotonic():
                self._returns.pop(0)
                self._connect()
            for descriptor, events in self._poll.poll(RETURN):
                if descriptor == sys.stdin.fileno():
                    return
                self._serve(self._flooders[descriptor], events)

    def _connect(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(self._address)
        flooder = _Flooder(sock, memoryview(self._first), self._reads | select.EPOLLOUT)
        self._flooders[sock.fileno()] = flooder
        self._poll.register(sock.fileno(), flooder.mask)

    def _serve(self, flooder: _Flooder, events: int) -> None:
        try:
            if events & select.EPOLLIN and not flooder.sock.recv(1 << 16):
                # What it says is over; it goes when the daemon does.
                self._leave(flooder)
                return
            if events & select.EPOLLOUT:
                sent = flooder.sock.send(flooder.waiting)
                flooder.waiting = flooder.waiting[sent:] or self._block
        except BlockingIOError:
            return
        except OSError:
            self._leave(flooder)

    def _leave(self, flooder: _Flooder) -> None:
        self._poll.unregister(flooder.sock.fileno())
        del self._flooders[flooder.sock.fileno()]
        flooder.sock.close()
        self._returns.append(time.monotonic() + RETURN)


def _probe(address: tuple[str, int], path: str) -> None:
    """Ask for the health page and for a conversation in turn, once at least, until standard input ends."""
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
                sock.sendall(request)
                answer = sock.recv(1 << 16)
                taken[name].append((time.perf_counter_ns() - begun) / NS_PER_MS)
                if answer[9:12] not in {b"200", b"101"}:
                    raise SystemExit(f"{name}: {answer[:100]!r}")
                if name == "newcomer":
                    sock.sendall(wire.masked_frame(wire.CLOSE, b"\x03\xe8"))
    print(json.dumps(taken))


def main() -> NoReturn:
    match sys.argv[1:]:
        case ["flood", kind, number, host, port, path]:
            _Flood(kind, (host, int(port)), path).run(int(number))
        case ["probe", host, port, path]:
            _probe((host, int(port)), path)
        case _:
            sys.exit(__doc__)
    sys.exit(0)


if __name__ == "__main__":
    main()
