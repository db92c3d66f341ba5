"""The load generator: many WebSocket clients and the writer that feeds them, in one epoll loop.

It costs little more than the system calls, so that the daemon is what is measured: raw non-blocking sockets, and what
was read is looked up as it is in the table of all expected frames (see `ledger`). Only bytes that are not exactly one
such frame are cut at the frames' ends.

The writer lives in the same loop rather than in a process of its own: there is one clock and one list of what was
written, and on a small machine a third busy process would compete with the daemon. The price, a write delayed while
the loop reads, is measured and reported (`publish_lag`).

`open_crowd` owns every socket and closes them all with its block. All of this blocks: an async caller uses a thread.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from array import array
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

import attrs

from bench import wire
from bench.cpu import take_snapshot
from bench.ledger import Cursor, DeliveryLedger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.cpu import CpuSnapshot
    from bench.feed import Write
    from bench.ledger import Faults

PING_INTERVAL: Final = 5.0
"""Seconds between two pings of one client, the daemons' default and what every peer does."""

SECOND: Final = 1_000_000_000

_PING: Final = wire.server_text(b'{"type":"ping"}')
_PONG: Final = wire.masked_frame(wire.TEXT, b'{"type":"pong"}')
_GOODBYE: Final = wire.masked_frame(wire.CLOSE, b"\x03\xe8")

_OPENING_AT_ONCE: Final = 64
_OPEN_TIMEOUT: Final = 10.0
"""Seconds that one step of a handshake, or a reply of Redis, may take."""

_CHUNK: Final = 64 * 1024
_BATCH: Final = 64 * 1024
"""Bytes that a burst gives to Redis at once."""


class LoadError(Exception):
    """The load could not be applied: a handshake failed, Redis refused a command, a watched process is gone."""


@attrs.frozen
class Site:
    """Where a load is applied: the target, its Redis, and the processes (by id) whose trees are watched.

    `more` are further servers of its Redis, where it is a cluster: a `Write` says which of all it goes to.
    """

    server: tuple[str, int]
    redis: tuple[str, int]
    watched: Mapping[str, int]
    more: Sequence[tuple[str, int]] = ()


@attrs.frozen
class ClockReading:
    """All clocks at one instant; `at` is in nanoseconds, `own` in CPU seconds."""

    at: int
    processes: CpuSnapshot
    own: float


@attrs.frozen(kw_only=True)
class Observed:
    """What happened between two readings of the clocks. Sequences of times are in nanoseconds."""

    faults: Faults
    clients: int
    """Still connected."""
    delivered: int
    """Frames."""
    seconds: float
    latency: Sequence[int]
    """From just before the command was written to just after the bytes that tell of it were read, for each client."""
    queued: Sequence[int]
    """The part of each latency that the generator itself may have added: how long the socket waited for its turn."""
    publish_lag: Sequence[int]
    """How long after its due time each write was made."""
    ping_late: int | None
    """The most by which a ping came later than `PING_INTERVAL` after the client's last; None without two pings."""
    cpu: Mapping[str, float]
    """CPU seconds of each watched process tree."""
    generator_cpu: float
    machine_cpu: float
    """CPU seconds of everything on the machine, the above included."""


@attrs.define(eq=False)
class _Client:
    sock: socket.socket
    cursor: Cursor
    rest: bytes = b""
    """The beginning of a frame whose end has not come yet."""
    pinged_at: int = 0
    """0 before its first ping."""


@contextmanager
def open_crowd(
    site: Site,
    paths: Sequence[str],
    writes: Sequence[Write] = (),
    *,
    measured_from: int = 0,
    coalesced: bool = False,
    bulk: bool = False,
) -> Iterator[ClientCrowd]:
    """A crowd without clients yet, that leaves with the block; arguments as in `BenchFeed` and `DeliveryLedger`.

    What fails inside because the target or Redis did is raised as LoadError.
    """
    ledger = DeliveryLedger(
        [write.frame for write in writes], measured_from=measured_from, coalesced=coalesced, bulk=bulk
    )
    collecting = gc.isenabled()
    gc.disable()
    try:
        with ExitStack() as owner:
            crowd = ClientCrowd(site, owner, paths, writes, ledger, bulk=bulk)
            yield crowd
            crowd.say_goodbye()
    except (OSError, wire.HandshakeError) as error:
        raise LoadError(str(error)) from error
    finally:
        if collecting:
            gc.enable()


class ClientCrowd:
    """See the module; made by `open_crowd`."""

    def __init__(
        self,
        site: Site,
        owner: ExitStack,
        paths: Sequence[str],
        writes: Sequence[Write],
        ledger: DeliveryLedger,
        *,
        bulk: bool,
    ) -> None:
        self.site = site
        self.ledger = ledger
        self.publish_lag = array("q")
        self.last_frame_at = 0
        """When the latest message was read; perf_counter_ns."""
        self._ping_late: int | None = None
        self._owner = owner
        self._paths = paths
        self._commands = [write.command for write in writes]
        self._servers = [write.server for write in writes]
        self._bulk = bulk
        self._opened = 0
        self._clients: dict[int, _Client] = {}
        self.poll = owner.enter_context(select.epoll())
        """Readable when a client, or Redis, has something to say."""
        self._redis = [self._connect(address) for address in (site.redis, *site.more)]
        self._poll_redis()

    @property
    def path(self) -> str:
        """That of the first client."""
        return self._paths[0]

    def command(self, *commands: bytes) -> None:
        """Have Redis do these before anything else."""
        first = self._redis[0]
        for command in commands:
            first.settimeout(_OPEN_TIMEOUT)
            first.sendall(command)
            _check_replies(first)
        first.setblocking(False)

    def open(self, count: int, greeting: bytes | None = None) -> None:
        """More clients, some handshakes at once: the daemon is kept busy, its listen queue is not flooded.

        `greeting` is the frame that each must get first.
        """
        host, port = self.site.server
        for begin in range(0, count, _OPENING_AT_ONCE):
            socks = [self._connect(self.site.server) for _ in range(min(_OPENING_AT_ONCE, count - begin))]
            for number, sock in enumerate(socks, self._opened):
                sock.sendall(wire.handshake_request(f"{host}:{port}", self._paths[number % len(self._paths)]))
            for sock in socks:
                rest = _receive_handshake(sock)
                if greeting is not None:
                    rest = _receive_greeting(sock, rest, greeting)
                self._adopt(sock, rest)

    def write(self, begin: int, end: int, rate: float) -> None:
        """Make the writes `begin` up to `end`, so many a second, at absolute times, so that lateness does not add up.

        Returns half a period after the last: between two writes, where the clocks are to be read.
        """
        period = SECOND / rate
        start = time.perf_counter_ns()
        for number in range(begin, end):
            due = start + round((number - begin) * period)
            self.serve_until(due)
            now = time.perf_counter_ns()
            self.publish_lag.append(now - due)
            self.ledger.written_at[number] = now
            command = self._commands[number]
            if self._redis[self._servers[number]].send(command) != len(command):
                raise LoadError("Redis does not keep up with reading what is written")
        self.serve_until(start + round((end - begin - 0.5) * period))

    def write_at_once(self, begin: int, end: int) -> None:
        """Make the writes `begin` up to `end` as fast as Redis takes them."""
        waiting = memoryview(b"".join(self._commands[begin:end]))
        now = time.perf_counter_ns()
        for number in range(begin, end):
            self.ledger.written_at[number] = now
        while waiting:
            try:
                waiting = waiting[self._redis[0].send(waiting[:_BATCH]) :]
            except BlockingIOError:
                self.serve_until(time.perf_counter_ns() + SECOND // 1000)
            else:
                self.serve_until(0)

    def settle(self, number: int, grace: float) -> None:
        """Return when every client has got all writes before `number`, or after `grace` seconds."""
        deadline = time.perf_counter_ns() + round(grace * SECOND)
        while time.perf_counter_ns() < deadline and any(c.cursor.next < number for c in self._clients.values()):
            self.serve_until(time.perf_counter_ns() + SECOND // 100)

    def serve(self, seconds: float) -> None:
        """Nothing but receive, for so long."""
        self.serve_until(time.perf_counter_ns() + round(seconds * SECOND))

    def serve_until(self, deadline: int) -> None:
        """Serve every readable socket until `deadline` (perf_counter_ns), and at least once when it has passed."""
        clients, poll = self._clients, self.poll.poll
        redis = {sock.fileno(): sock for sock in self._redis}
        remaining = deadline - time.perf_counter_ns()
        while True:
            ready = poll(max(0, remaining) / SECOND)
            woken = time.perf_counter_ns()
            for descriptor, _ in ready:
                if descriptor not in redis:
                    self._receive(clients[descriptor], woken)
                else:
                    _check_replies(redis[descriptor])
            remaining = deadline - time.perf_counter_ns()
            if remaining <= 0:
                return

    def start_measuring(self) -> ClockReading:
        """Read the clocks, and forget how late writes and pings have been until now."""
        del self.publish_lag[:]
        self._ping_late = None
        return self.read_clocks()

    def read_clocks(self) -> ClockReading:
        return ClockReading(time.perf_counter_ns(), take_snapshot(), time.process_time())

    def observed(self, before: ClockReading, after: ClockReading) -> Observed:
        """What happened between the two, with the faults up to now: whoever has not got everything has lost it."""
        ledger = self.ledger
        return Observed(
            faults=ledger.close(client.cursor for client in self._clients.values()),
            clients=len(self._clients),
            delivered=ledger.delivered,
            seconds=(after.at - before.at) / SECOND,
            latency=ledger.latency,
            queued=ledger.queued,
            publish_lag=self.publish_lag,
            ping_late=self._ping_late,
            cpu={name: _spent(before.processes, after.processes, pid) for name, pid in self.site.watched.items()},
            generator_cpu=after.own - before.own,
            machine_cpu=after.processes.busy_seconds() - before.processes.busy_seconds(),
        )

    def say_goodbye(self) -> None:
        for client in self._clients.values():
            try:
                client.sock.send(_GOODBYE)
            except OSError:
                continue  # it is closed next anyway, and its faults are counted

    def _connect(self, address: tuple[str, int]) -> socket.socket:
        sock = self._owner.enter_context(socket.create_connection(address, timeout=_OPEN_TIMEOUT))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _poll_redis(self) -> None:
        for sock in self._redis:
            sock.setblocking(False)
            self.poll.register(sock.fileno(), select.EPOLLIN)

    def _adopt(self, sock: socket.socket, rest: bytes) -> None:
        sock.setblocking(False)
        cursor = Cursor(next=self._opened % len(self._paths), step=len(self._paths))
        self._clients[sock.fileno()] = _Client(sock, cursor, rest)
        self.poll.register(sock.fileno(), select.EPOLLIN)
        self._opened += 1

    def _receive(self, client: _Client, woken: int) -> None:
        try:
            data = client.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now = time.perf_counter_ns()
        if not client.rest and self.ledger.take(client.cursor, data, now, now - woken):
            self.last_frame_at = now
            return  # nearly always: one whole frame
        if not data:
            self._end(client)
            return
        data = client.rest + data
        start = self.ledger.take_run(client.cursor, data) if self._bulk else 0
        if start:
            self.last_frame_at = now
        while end := wire.frame_end(data, start):
            frame = data[start:end]
            if self.ledger.take(client.cursor, frame, now, now - woken):
                self.last_frame_at = now
            else:
                self._take_other(client, frame, woken)
            start = end
        client.rest = data[start:]

    def _take_other(self, client: _Client, frame: bytes, woken: int) -> None:
        if frame == _PING:
            answer = _PONG
            self._note_ping(client, woken)
        elif frame[0] == wire.FIN | wire.PING:
            answer = wire.masked_frame(wire.PONG, frame[2:])
        else:
            # A close frame counts here as well, and then once more when the connection ends: both are faults.
            self.ledger.unexpected += 1
            return
        try:
            client.sock.send(answer)
        except OSError:
            self.ledger.unexpected += 1

    def _note_ping(self, client: _Client, at: int) -> None:
        if client.pinged_at:
            late = at - client.pinged_at - round(PING_INTERVAL * SECOND)
            if self._ping_late is None or late > self._ping_late:
                self._ping_late = late
        client.pinged_at = at

    def _end(self, client: _Client) -> None:
        self.ledger.end(client.cursor)
        del self._clients[client.sock.fileno()]
        client.sock.close()


def _check_replies(redis: socket.socket) -> None:
    """A reply is a number; an error would mean that nothing is written."""
    replies = redis.recv(65536)
    if not replies or b"-" in replies:
        raise LoadError(
            f"Redis refuses what is written: {replies.decode(errors='replace').strip() or 'connection closed'}"
        )


def open_silent(server: tuple[str, int], path: str, receive_buffer: int) -> socket.socket:
    """A client that has shaken hands and whose caller never reads. Raises OSError, HandshakeError or LoadError."""
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(_OPEN_TIMEOUT)
        sock.connect(server)
        sock.sendall(wire.handshake_request("{}:{}".format(*server), path))
        _receive_handshake(sock)
    except BaseException:
        sock.close()
        raise
    return sock


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


def _spent(before: CpuSnapshot, after: CpuSnapshot, pid: int) -> float:
    try:
        return after.tree_seconds(pid) - before.tree_seconds(pid)
    except ProcessLookupError as error:
        raise LoadError(str(error)) from error
