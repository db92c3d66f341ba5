"""A whole daemon in memory: its `DaemonService`, a scripted Redis behind it and clients before it, on a MockClock.

`open_service` owns everything. Clients come through `Port`, which takes the place of the listener, so that the sockets'
tasks live where they do in the daemon and a drain ends them as it would. At the end the service is drained and nothing
may be left behind: no conversation, no socket, no place taken, no line of a bug in the log.
"""

from __future__ import annotations

import math
import random
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs
import pytest
import trio
import trio.testing

from common import daemon
from common.config import load
from common.daemon import DaemonService
from common.tracing import NO_TRACES
from common.web.accepted import Accepted
from statusd.daemon import STATUSD
from statusd.settings import StatusSettings
from tests.support.client import Client, handshake
from tests.support.conversation import make_transport
from tests.support.logbook import Logbook
from tests.support.scripted_redis import ScriptedRedis
from tests.support.streams import BufferedSocket, without_kernel

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from common.config import Settings
    from common.daemon import Daemon
    from common.logs import Logger
    from common.redis.policy import LinkPolicy
    from common.tracing import Tracer

PATH = "/run:log"
CHANNEL = b"run:log"

S = TypeVar("S", bound="Settings")


def status(payload: bytes) -> bytes:
    """The text message for a payload that needs no escapes."""
    return b'{"type":"status","data":"' + payload + b'"}'


class Port:
    """Where clients arrive, for `accept`."""

    def __init__(self) -> None:
        self.arrive, self.arrivals = trio.open_memory_channel[Accepted](1 << 20)


async def _accept(
    listener: socket.socket, serve: Callable[[Accepted], Awaitable[None]], handlers: trio.Nursery, _log: Logger
) -> None:
    async for accepted in cast("Port", listener).arrivals:
        handlers.start_soon(serve, accepted)


class Running:
    """A running service and its surroundings."""

    def __init__(self, service: DaemonService[Any], redis: ScriptedRedis, logbook: Logbook) -> None:
        self.service = service
        self.redis = redis
        self.logbook = logbook
        self.stop = trio.Event()
        self.stopped = trio.Event()
        self.code: int | None = None
        self.stopped_at = 0.0
        self.expected_errors: set[str] = set()
        """Messages of error lines that the test provokes."""
        self.sockets: dict[Client, BufferedSocket] = {}
        """The server's socket of each client that has one."""
        self.scope = trio.CancelScope()
        """Around the service: what the second signal cancels."""
        self._port = Port()
        self._nursery: trio.Nursery | None = None

    async def run(self, nursery: trio.Nursery) -> None:
        """Run the service; clients live in `nursery`."""
        self._nursery = nursery
        try:
            with self.scope:
                self.code = await self.service.run([cast("socket.socket", self._port)], self.stop)
        finally:
            self.stopped_at = trio.current_time()
            self.stopped.set()

    def arrive(
        self, *, address: str | None = "192.0.2.1", transport: str = "socket", reads: bool = True, answers: bool = True
    ) -> Client:
        """A client that has connected and said nothing yet."""
        assert self._nursery is not None
        stream, sock, theirs = make_transport(transport)
        client = Client(theirs, answers=answers, echoes=answers)
        if sock is not None:
            self.sockets[client] = sock
        if reads:
            self._nursery.start_soon(client.run)
        accepted = Accepted(stream, sock.as_socket() if sock else None, ip_address(address) if address else None)
        self._port.arrive.send_nowait(accepted)
        return client

    async def ask(
        self,
        path: str = PATH,
        headers: Mapping[str, str] | None = None,
        *,
        address: str | None = "192.0.2.1",
        transport: str = "socket",
        answers: bool = True,
    ) -> Client:
        """A client that has asked for a WebSocket and got an answer, whichever it is."""
        client = self.arrive(address=address, transport=transport, answers=answers)
        await client.send_raw(handshake(path, headers))
        await client.wait(lambda client: client.status is not None)
        return client

    async def open(
        self,
        path: str = PATH,
        headers: Mapping[str, str] | None = None,
        *,
        transport: str = "socket",
        answers: bool = True,
    ) -> Client:
        """A client whose conversation is open."""
        client = await self.ask(path, headers, transport=transport, answers=answers)
        assert client.status == 101
        return client

    async def get(self, path: str) -> Client:
        """A client that has asked for a page and read it to its end."""
        client = self.arrive()
        await client.send_raw(f"GET {path} HTTP/1.1\r\nHost: example.org\r\n\r\n".encode())
        await client.wait(lambda client: client.status is not None)
        await client.stream.send_stream.aclose()  # type: ignore[attr-defined]
        await client.wait_ended()
        return client

    async def drained(self, *, within: float = 120.0) -> None:
        """Stop the service as a signal does, and wait until it has."""
        self.stop.set()
        with trio.fail_after(within):
            await self.stopped.wait()

    def check_nothing_left(self) -> None:
        """After the end: nobody holds a place, a topic, a beat or a socket, and no bug was logged."""
        server = self.service.server
        assert not server.peers
        assert server._admission.open == 0
        assert not server._admission._by_address
        assert len(self.service.heartbeat) == 0
        assert self.service.hub.active == 0
        assert all(sock.closed for sock in self.sockets.values())
        errors = {str(line["msg"]) for line in self.logbook.at_least("error")}
        assert errors <= self.expected_errors, self.logbook.at_least("error")


def settings_of(**variables: str) -> StatusSettings:
    """Settings as the environment gives them; names in lower case without the prefix. A warning fails the test."""
    return _settings_of(StatusSettings, variables)


def _settings_of(kind: type[S], variables: Mapping[str, str]) -> S:
    environ = {f"{kind.prefix}{name.upper()}": value for name, value in {"hangup": "all", **variables}.items()}
    loaded = load(kind, environ)
    assert not [warning for warning in loaded.warnings if "below" not in warning and "20s or more" not in warning], (
        loaded.warnings
    )
    return loaded.settings


def seldom_asking(of: Daemon[Any]) -> Daemon[Any]:
    """The daemon, with fewer questions to a silent Redis: a day of its probes takes long even on a MockClock."""

    def adjust(settings: Any, policy: LinkPolicy) -> LinkPolicy:
        return attrs.evolve(of.adjust_policy(settings, policy), probe_interval=60.0, role_interval=math.inf)

    return attrs.evolve(of, adjust_policy=adjust)


@asynccontextmanager
async def open_service(
    *,
    of: Daemon[Any] = STATUSD,
    online: bool = True,
    prepare: Callable[[ScriptedRedis], None] | None = None,
    kept: bool = False,
    tracer: Tracer = NO_TRACES,
    **variables: str,
) -> AsyncIterator[Running]:
    """A service that is ready, or only started unless `online`; `prepare` sees Redis before it is tried.

    `kept` and `tracer` as `DaemonService` has them.
    """
    logbook = Logbook()
    with without_kernel(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(daemon, "accept", _accept)
        async with trio.open_nursery() as nursery:
            redis = ScriptedRedis(nursery)
            if prepare is not None:
                prepare(redis)
            service = DaemonService(
                of,
                _settings_of(of.settings, variables),
                logbook.log,
                connect=redis.connect,
                rng=random.Random(1),
                tracer=tracer,
                kept=kept,
            )
            running = Running(service, redis, logbook)
            nursery.start_soon(running.run, nursery)
            if online:
                with trio.fail_after(60):
                    await service.hub.link.wait_online()
            await trio.testing.wait_all_tasks_blocked()
            yield running
            await running.drained()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        running.check_nothing_left()
