"""How long opsd's answers take while a source of its telemetry is hostile: `python -m bench.sources`.

One kind of source after the other, each with an opsd of its own; the first, which behaves, is what the others are read
against. Beside it, `GET /api/dev/status` is asked at a steady pace. The exit status is 1 when a p99 is above the goal.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from bench.cpu import take_snapshot
from bench.stats import percentile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HOST: Final = "127.0.0.1"
GOAL: Final = 0.030
"""Seconds that 99 of 100 answers may take."""

RATE: Final = 50.0
"""Answers asked for a second."""

PATIENCE: Final = 20.0
"""Seconds in which opsd starts, and in which an answer comes at all."""

_CHUNKED: Final = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
_STREAM: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
_STATUS: Final = json.dumps({"daemon": "statusd", "workers": {"1": {"pid": 1, "connections": 2}}}).encode()


Answer = tuple[bytes, bytes]
"""How an answer begins, and what is then repeated as fast as it is read; nothing is repeated if that is empty."""

Kind = dict[str, Answer]
"""A source: its answers by path."""


def _whole(body: bytes) -> Answer:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body), b""


def _everywhere(begin: bytes, repeated: bytes) -> Kind:
    return {"/workers/status": (begin, repeated), "/events": (begin, repeated)}


def _events(repeated: bytes) -> Kind:
    return {"/workers/status": _whole(_STATUS), "/events": (_STREAM + _event(_STATUS), repeated)}


def _event(data: bytes) -> bytes:
    return b"event: status\ndata: " + data + b"\n\n"


_LISTS: Final = b'{"workers":{},"x":[' + b"[]," * 80_000 + b"1]}"
"""What costs the most to read for its size."""

_TINY: Final = b"1\r\nx\r\n" * 2730

KINDS: Final[Mapping[str, Kind]] = {
    "well": _events(b""),
    "comments": _events(b": x\n" * 4096),
    "blank lines": _events(b"\n" * 16384),
    "empty fields": _events(b"x\n" * 8192),
    "chunks of a byte": {
        "/workers/status": (_CHUNKED % b"application/json", _TINY),
        "/events": (_CHUNKED % b"text/event-stream", _TINY),
    },
    "interim answers": _everywhere(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 512),
    "header lines": _everywhere(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 2730),
    "events": _events(_event(_STATUS) * 128),
    "large events": _events(_event(_LISTS)),
    "large documents": {"/workers/status": _whole(_LISTS[:-1] + b" " * (500_000 - len(_LISTS)) + b"}")},
    "one long line": _events(b"x" * 65536),
}


def serve(kind: Kind, listener: socket.socket) -> None:
    """Be such a source until killed."""
    trio.run(_serve, kind, listener)


async def _serve(kind: Kind, listener: socket.socket) -> None:
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]

    async def answer(stream: trio.SocketStream) -> None:
        try:
            async with stream:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += (chunk := await stream.receive_some())
                    if not chunk:
                        return
                path = head.split(b" ", 2)[1].decode()
                if path not in kind:
                    await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                    return
                begin, repeated = kind[path]
                await stream.send_all(begin)
                while repeated:
                    await stream.send_all(repeated)
                if path == "/events":
                    await trio.sleep_forever()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    await trio.serve_listeners(answer, listeners)


@contextmanager
def running(kind: Kind) -> Iterator[tuple[int, int]]:
    """An opsd that watches such a source; its port and process."""
    listener = socket.create_server((HOST, 0), backlog=128)
    probe = socket.create_server((HOST, 0))
    port: int = probe.getsockname()[1]
    probe.close()
    source = multiprocessing.get_context("fork").Process(target=serve, args=(kind, listener), daemon=True)
    source.start()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OPS_", "REDIS_"))} | {
        "OPS_LISTEN_ADDR": f"{HOST}:{port}",
        "OPS_TARGETS": f"statusd=http://{HOST}:{listener.getsockname()[1]}",
        "OPS_REDIS_URL": f"redis://{HOST}:1/3",
        "OPS_LOG_LEVEL": "error",
    }
    opsd = subprocess.Popen([sys.executable, "-m", "opsd"], env=environ)
    try:
        yield port, opsd.pid
    finally:
        opsd.terminate()
        opsd.wait(PATIENCE)
        source.kill()
        source.join()
        listener.close()


async def measure(port: int, seconds: float) -> list[float]:
    """The sorted times of the answers, on one connection. An answer that is late makes the next ones no fewer."""
    request = f"GET /api/dev/status HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode()
    stream = await _connect(port)
    times: list[float] = []
    async with stream:
        begun = trio.current_time()
        for number in range(int(seconds * RATE)):
            due = begun + number / RATE
            await trio.sleep_until(due)
            start = time.perf_counter()
            with trio.fail_after(PATIENCE):
                await stream.send_all(request)
                answer = b""
                while not answer.endswith(b"}}"):
                    answer += (chunk := await stream.receive_some())
                    if not chunk:
                        raise RuntimeError("opsd closed the connection")
            times.append(time.perf_counter() - start)
    return sorted(times)


async def _connect(port: int) -> trio.SocketStream:
    with trio.fail_after(PATIENCE):
        while True:
            try:
                return await trio.open_tcp_stream(HOST, port)
            except OSError:
                await trio.sleep(0.05)


def main() -> int:
    """Measure every kind that is asked for; print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m bench.sources", description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[[], *KINDS], default=[], metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--seconds", type=float, default=10.0, help="for each kind (default %(default)g)")
    options = parser.parse_args()
    slow = False
    sys.stdout.write(f"{'source':<18} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8} {'% of a core':>12}\n")
    for name in dict.fromkeys(["well", *(options.kinds or KINDS)]):
        with running(KINDS[name]) as (port, process):
            trio.run(measure, port, 1.0)
            begun, spent = time.perf_counter(), take_snapshot().tree_seconds(process)
            times = trio.run(measure, port, options.seconds)
            share = (take_snapshot().tree_seconds(process) - spent) / (time.perf_counter() - begun)
        p50, p99, longest = percentile(times, 50), percentile(times, 99), times[-1]
        slow = slow or p99 > GOAL
        sys.stdout.write(
            f"{name:<18} {p50 * 1000:8.1f} {p99 * 1000:8.1f} {longest * 1000:8.1f} {share * 100:12.0f}"
            f"{'   above the goal' if p99 > GOAL else ''}\n"
        )
        sys.stdout.flush()
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
