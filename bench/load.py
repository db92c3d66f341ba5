"""The load generator: N WebSocket clients on one path and the writer that feeds it, in one epoll loop.

It costs little more than the system calls, so that the daemon is what is measured: raw non-blocking sockets, and what
was read is looked up as it is in the table of all expected frames (see `ledger`). Only bytes that are not exactly one
such frame are cut at the frames' ends.

The writer lives in the same loop rather than in a process of its own: there is one clock and one list of what was
written, and on a small machine a third busy process would compete with the daemon. The price, a write delayed while
the loop reads, is measured and reported (`publish_lag`).

`run_load` owns every socket and closes them all before it returns. It blocks: an async caller puts it into a thread.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import attrs

from bench import wire
from bench.cpu import take_snapshot
from bench.ledger import Cursor, Ledger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.cpu import Snapshot
    from bench.feed import Feed
    from bench.ledger import Faults

_PING: Final = wire.server_text(b'{"type":"ping"}')
_PONG: Final = wire.masked_frame(wire.TEXT, b'{"type":"pong"}')
_GOODBYE: Final = wire.masked_frame(wire.CLOSE, b"\x03\xe8")

_SECOND: Final = 1_000_000_000
_OPENING_AT_ONCE: Final = 64
_OPEN_TIMEOUT: Final = 10.0
"""Seconds that one step of a handshake, or a reply of Redis, may take."""

_CHUNK: Final = 64 * 1024


class LoadError(Exception):
    """The load could not be applied: a handshake failed, Redis refused a command, a watched process is gone."""


@attrs.frozen(kw_only=True)
class Load:
    """What to apply. Durations are seconds, `rate` is writes a second."""

    server: tuple[str, int]
    redis: tuple[str, int]
    feed: Feed
    clients: int
    rate: float
    warmup: float
    seconds: float
    grace: float
    """How long after the last write a frame may arrive before it counts as lost."""

    @property
    def unmeasured(self) -> int:
        """Writes that are made, and checked, before the measured window."""
        return round(self.warmup * self.rate)

    @property
    def total(self) -> int:
        return self.unmeasured + max(1, round(self.seconds * self.rate))


@attrs.frozen(kw_only=True)
class LoadResult:
    """What happened in the measured window. Sequences of times are in nanoseconds."""

    faults: Faults
    delivered: int
    """Frames."""
    window: float
    """Seconds between the two readings of the CPU clocks."""
    latency: Sequence[int]
    """From just before the command was written to just after the bytes that tell of it were read, for each client."""
    queued: Sequence[int]
    """The part of each latency that the generator itself may have added: how long the socket waited for its turn."""
    publish_lag: Sequence[int]
    """How long after its due time each write was made."""
    cpu: Mapping[str, float]
    """CPU seconds of each watched process tree."""
    generator_cpu: float
    machine_cpu: float
    """CPU seconds of everything on the machine, the above included."""


@attrs.define(eq=False)
class _Client:
    sock: socket.socket
    rest: bytes = b""
    """The beginning of a frame whose end has not come yet."""
    cursor: Cursor = attrs.field(factory=Cursor)


@attrs.frozen
class _Reading:
    at: int
    processes: Snapshot
    own: float


def run_load(load: Load, watched: Mapping[str, int]) -> LoadResult:
    """Open the clients, write at the given rate, receive everything, and say what it took.

    `watched` names the processes (by id) whose trees' CPU time is read. Raises LoadError.
    """
    with ExitStack() as owner:
        loop = _Loop(load, owner)
        collecting = gc.isenabled()
        gc.disable()
        try:
            return loop.run(watched)
        except (OSError, wire.HandshakeError) as error:
            raise LoadError(str(error)) from error
        finally:
            if collecting:
                gc.enable()


class _Loop:
    def __init__(self, load: Load, owner: ExitStack) -> None:
        self._load = load
        self._owner = owner
        self._poll = owner.enter_context(select.epoll())
        writes = load.feed.writes(load.total)
        self._commands = [write.command for write in writes]
        self._ledger = Ledger(
            [write.frame for write in writes], measured_from=load.unmeasured, coalesced=load.feed.coalesced
        )
        self._publish_lag: list[int] = []
        self._clients: dict[int, _Client] = {}
        self._redis = self._connect(load.redis)

    def run(self, watched: Mapping[str, int]) -> LoadResult:
        load = self._load
        self._prepare()
        self._open_clients()
        self._redis.setblocking(False)
        self._poll.register(self._redis.fileno(), select.EPOLLIN)

        self._write(0, load.unmeasured)
        before = self._read_clocks()
        self._write(load.unmeasured, load.total)
        self._receive_rest()
        after = self._read_clocks()

        self._say_goodbye()
        ledger = self._ledger
        return LoadResult(
            faults=ledger.close(client.cursor for client in self._clients.values()),
            delivered=ledger.delivered,
            window=(after.at - before.at) / _SECOND,
            latency=ledger.latency,
            queued=ledger.queued,
            publish_lag=self._publish_lag,
            cpu={name: _spent(before.processes, after.processes, pid) for name, pid in watched.items()},
            generator_cpu=after.own - before.own,
            machine_cpu=after.processes.busy_seconds() - before.processes.busy_seconds(),
        )

    def _connect(self, address: tuple[str, int]) -> socket.socket:
        sock = self._owner.enter_context(socket.create_connection(address, timeout=_OPEN_TIMEOUT))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _prepare(self) -> None:
        for command in self._load.feed.prepare:
            self._redis.sendall(command)
            self._check_replies()

    def _open_clients(self) -> None:
        """Some handshakes at once: the daemon is kept busy, its listen queue is not flooded."""
        host, port = self._load.server
        request = wire.handshake_request(f"{host}:{port}", self._load.feed.path)
        for begin in range(0, self._load.clients, _OPENING_AT_ONCE):
            socks = [self._connect(self._load.server) for _ in range(min(_OPENING_AT_ONCE, self._load.clients - begin))]
            for sock in socks:
                sock.sendall(request)
            for sock in socks:
                rest = _receive_handshake(sock)
                if self._load.feed.greeting is not None:
                    rest = _receive_greeting(sock, rest, self._load.feed.greeting)
                sock.setblocking(False)
                self._clients[sock.fileno()] = _Client(sock, rest)
                self._poll.register(sock.fileno(), select.EPOLLIN)

    def _write(self, begin: int, end: int) -> None:
        """Make the writes `begin` up to `end` at absolute times, so that lateness does not add up.

        Returns half a period after the last: between two writes, where the CPU clocks are read.
        """
        period = _SECOND / self._load.rate
        start = time.perf_counter_ns()
        for number in range(begin, end):
            due = start + round((number - begin) * period)
            self._receive_until(due)
            now = time.perf_counter_ns()
            if number >= self._load.unmeasured:
                self._publish_lag.append(now - due)
            self._ledger.written_at[number] = now
            self._send_command(self._commands[number])
        self._receive_until(start + round((end - begin - 0.5) * period))

    def _send_command(self, command: bytes) -> None:
        if self._redis.send(command) != len(command):
            raise LoadError("Redis does not keep up with reading what is written")

    def _receive_rest(self) -> None:
        deadline = time.perf_counter_ns() + round(self._load.grace * _SECOND)
        while self._outstanding() and time.perf_counter_ns() < deadline:
            self._receive_until(time.perf_counter_ns() + _SECOND // 100)

    def _outstanding(self) -> bool:
        return any(client.cursor.next < self._load.total for client in self._clients.values())

    def _receive_until(self, deadline: int) -> None:
        """Serve every readable socket until `deadline` (perf_counter_ns), and at least once when it has passed."""
        clients, redis, poll = self._clients, self._redis.fileno(), self._poll.poll
        remaining = deadline - time.perf_counter_ns()
        while True:
            ready = poll(max(0, remaining) / _SECOND)
            woken = time.perf_counter_ns()
            for descriptor, _ in ready:
                if descriptor != redis:
                    self._receive(clients[descriptor], woken)
                else:
                    self._check_replies()
            remaining = deadline - time.perf_counter_ns()
            if remaining <= 0:
                return

    def _receive(self, client: _Client, woken: int) -> None:
        try:
            data = client.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now = time.perf_counter_ns()
        if not client.rest and self._ledger.take(client.cursor, data, now, now - woken):
            return  # nearly always: one whole frame
        if not data:
            self._end(client)
            return
        data = client.rest + data
        start = 0
        while end := wire.frame_end(data, start):
            frame = data[start:end]
            if not self._ledger.take(client.cursor, frame, now, now - woken):
                self._take_other(client, frame)
            start = end
        client.rest = data[start:]

    def _take_other(self, client: _Client, frame: bytes) -> None:
        if frame == _PING:
            answer = _PONG
        elif frame[0] == wire.FIN | wire.PING:
            answer = wire.masked_frame(wire.PONG, frame[2:])
        else:
            # A close frame counts here as well, and then once more when the connection ends: both are faults.
            self._ledger.unexpected += 1
            return
        try:
            client.sock.send(answer)
        except OSError:
            self._ledger.unexpected += 1

    def _end(self, client: _Client) -> None:
        self._ledger.end(client.cursor)
        del self._clients[client.sock.fileno()]
        client.sock.close()

    def _check_replies(self) -> None:
        """A reply is a number; an error would mean that nothing is written."""
        replies = self._redis.recv(65536)
        if not replies or b"-" in replies:
            raise LoadError(
                f"Redis refuses what is written: {replies.decode(errors='replace').strip() or 'connection closed'}"
            )

    def _read_clocks(self) -> _Reading:
        return _Reading(time.perf_counter_ns(), take_snapshot(), time.process_time())

    def _say_goodbye(self) -> None:
        for client in self._clients.values():
            try:
                client.sock.send(_GOODBYE)
            except OSError:
                continue  # it is closed next anyway, and its faults are counted


def _receive_handshake(sock: socket.socket) -> bytes:
    """What the server sent beyond its 101."""
    data = b""
    while (rest := wire.split_handshake(data)) is None:
        chunk = sock.recv(65536)
        if not chunk:
            raise LoadError("the server closed the connection during the handshake")
        data += chunk
    return rest


def _receive_greeting(sock: socket.socket, rest: bytes, greeting: bytes) -> bytes:
    """What the server sent beyond the frame that it begins with."""
    while len(rest) < len(greeting):
        chunk = sock.recv(65536)
        if not chunk:
            raise LoadError("the server closed the connection before its first frame")
        rest += chunk
    if not rest.startswith(greeting):
        raise LoadError(f"the first frame is not the one that is due: {rest[:200]!r}")
    return rest.removeprefix(greeting)


def _spent(before: Snapshot, after: Snapshot, pid: int) -> float:
    try:
        return after.tree_seconds(pid) - before.tree_seconds(pid)
    except ProcessLookupError as error:
        raise LoadError(str(error)) from error
