"""All at once: a crowd asks to be let in, is dropped, and asks again, while others are connected already."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import attrs

from bench import wire
from bench.crowd import PING_INTERVAL, SECOND, LoadError, open_crowd
from bench.outcome import outcome_of

if TYPE_CHECKING:
    from bench.crowd import ClientCrowd, Site
    from bench.outcome import Outcome

_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER for a close without a goodbye: the other side sees a reset."""


@attrs.frozen(kw_only=True)
class Handshakes:
    """`clients` who all connect at the same moment, and again at the moment at which all of them are cut off.

    `seconds` is how long all of them may take. `bystanders` are connected long enough before and after for their pings
    to show whether any was late.
    """

    path: str
    clients: int
    seconds: float
    bystanders: int = 0

    @property
    def estimate(self) -> float:
        return 2 + self.clients / 800 + (2 * PING_INTERVAL + 2 if self.bystanders else 0)

    def measure(self, site: Site) -> Outcome:
        with open_crowd(site, [self.path]) as crowd, ExitStack() as owner:
            crowd.open(self.bystanders)
            crowd.serve(PING_INTERVAL + 1 if self.bystanders else 0.2)
            before = crowd.start_measuring()
            first = _Storm(crowd, owner, self.path)
            in_seconds = first.run(self.clients, self.seconds)
            between = crowd.read_clocks()
            first.drop()
            second = _Storm(crowd, owner, self.path)
            again_seconds = second.run(self.clients, self.seconds)
            after = crowd.read_clocks()
            if self.bystanders:
                crowd.serve(PING_INTERVAL + 1)
            whole = crowd.observed(before, after)
            costs = [sum(crowd.observed(*pair).cpu.values()) for pair in ((before, between), (between, after))]
            values = {
                "in_s": in_seconds,
                "again_s": again_seconds,
                "handshake_us": costs[0] / self.clients * 1e6,
                "again_us": costs[1] / self.clients * 1e6,
            }
            second.drop()
        return outcome_of(whole, values)


class _Storm:
    """One attempt of all. Its sockets are closed by `drop`, or with `owner`."""

    def __init__(self, crowd: ClientCrowd, owner: ExitStack, path: str) -> None:
        self._crowd = crowd
        self._server = crowd.site.server
        self._request = wire.handshake_request("{}:{}".format(*self._server), path)
        self._poll = owner.enter_context(select.epoll())
        self._poll.register(crowd.poll.fileno(), select.EPOLLIN)
        self._answers: dict[int, bytes] = {}
        self._socks: dict[int, socket.socket] = {}
        owner.callback(self.drop)

    def run(self, count: int, timeout: float) -> float:
        """Seconds until the last has its 101. Raises LoadError if that is longer than `timeout`, or one is refused."""
        start = time.perf_counter_ns()
        for _ in range(count):
            sock = socket.socket()
            self._socks[sock.fileno()] = sock
            sock.setblocking(False)
            result = sock.connect_ex(self._server)
            if result not in (0, errno.EINPROGRESS):
                raise LoadError(f"cannot connect: {os.strerror(result)}")
            self._poll.register(sock.fileno(), select.EPOLLOUT)
        deadline = start + round(timeout * SECOND)
        waiting = count
        while waiting:
            if time.perf_counter_ns() > deadline:
                raise LoadError(f"{waiting} of {count} clients were not let in within {timeout:g} s")
            for descriptor, event in self._poll.poll(0.1):
                if descriptor == self._crowd.poll.fileno():
                    self._crowd.serve_until(0)
                elif event & select.EPOLLOUT:
                    self._ask(descriptor)
                elif self._is_in(descriptor):
                    waiting -= 1
                    self._poll.unregister(descriptor)
        return (time.perf_counter_ns() - start) / SECOND

    def drop(self) -> None:
        """Cut all off, without a goodbye."""
        for sock in self._socks.values():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            sock.close()
        self._socks.clear()

    def _ask(self, descriptor: int) -> None:
        sock = self._socks[descriptor]
        if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise LoadError(f"cannot connect: {os.strerror(error)}")
        sock.send(self._request)
        self._answers[descriptor] = b""
        self._poll.modify(descriptor, select.EPOLLIN)

    def _is_in(self, descriptor: int) -> bool:
        data = self._socks[descriptor].recv(4096)
        if not data:
            raise LoadError("the server closed the connection during the handshake")
        self._answers[descriptor] += data
        return wire.split_handshake(self._answers[descriptor]) is not None
