"""What a client leaves behind in a daemon when it is gone: a whole service in this process, on real sockets.

`open_world` runs a daemon's `DaemonService` on a free port, with a scripted Redis behind it. A *way* is a client's
life, from its connection to its end, written with `World`. `Remains` watches what the server makes of it: afterwards,
with the cyclic collector off, all of that must be gone, and the collector must find nothing.
"""

from __future__ import annotations

import gc
import random
import weakref
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio

from common.config import ListenAddress, load
from common.daemon import Daemon, DaemonService
from common.serving import conversations as conversations_module
from common.serving import server as server_module
from common.serving.exchange import Exchange
from common.web.listener import bind, bound_to
from common.web.peer import Peer
from tests.support.client import handshake
from tests.support.logbook import Logbook
from tests.support.raw import PATIENCE, open_stream, wait_until
from tests.support.scripted_redis import ScriptedRedis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from common.config import Settings

PATHS: Final = {"statusd": "/run:log", "preflightd": "/run"}
CHANNELS: Final = {"statusd": b"run:log", "preflightd": b"__keyspace@0__:run"}


class World:
    """A running service, and how a test's clients get to it."""

    def __init__(
        self, daemon: Daemon[Settings], service: DaemonService[Settings], redis: ScriptedRedis, port: int
    ) -> None:
        self.path = PATHS[daemon.name]
        self.channel = CHANNELS[daemon.name]
        self.service = service
        self.redis = redis
        self.port = port
        self.stop = trio.Event()
        self.scope = trio.CancelScope()

    @property
    def peer(self) -> Peer:
        """The newest conversation."""
        return next(reversed(self.service.server.peers))

    async def open(self, *, receive_buffer: int | None = None) -> trio.SocketStream:
        """A client whose conversation is open; the caller closes it."""
        stream = await open_stream(self.port, receive_buffer=receive_buffer)
        known = len(self.service.server.peers)
        await stream.send_all(handshake(self.path))
        await wait_until(lambda: len(self.service.server.peers) > known, "a conversation")
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some(1)
        assert data.startswith(b"HTTP/1.1 101 "), data
        return stream

    async def ask(self, request: bytes) -> bytes:
        """Send `request` on a connection of its own, and read until the daemon ends."""
        async with await open_stream(self.port) as stream:
            await stream.send_all(request)
            return await until_end(stream)

    async def wait_empty(self) -> None:
        """Wait until the daemon has let go of everybody."""
        await wait_until(lambda: self.service.server._admission.open == 0, "everybody gone")


async def until_end(stream: trio.SocketStream) -> bytes:
    """What comes until the daemon's end, be it orderly or not."""
    data = b""
    with trio.fail_after(PATIENCE):
        try:
            while chunk := await stream.receive_some():
                data += chunk
        except trio.BrokenResourceError:
            return data
    return data


def settings_of(daemon: Daemon[Settings], variables: dict[str, str]) -> Settings:
    """Settings as the environment gives them."""
    return load(
        daemon.settings, {f"{daemon.settings.prefix}{name.upper()}": text for name, text in variables.items()}
    ).settings


@asynccontextmanager
async def open_world(daemon: Daemon[Settings], **variables: str) -> AsyncIterator[World]:
    """A service that is ready; with the block it ends at once, without a goodbye."""
    listeners = bind(ListenAddress("127.0.0.1", 0))
    async with AsyncExitStack() as stack:
        for listener in listeners:
            stack.enter_context(listener)
        nursery = await stack.enter_async_context(trio.open_nursery())
        redis = ScriptedRedis(nursery)
        log = Logbook().log
        service = DaemonService(
            daemon, settings_of(daemon, variables), log, connect=redis.connect, rng=random.Random(1)
        )
        world = World(daemon, service, redis, int(bound_to(listeners)[0].rpartition(":")[2]))

        async def run() -> None:
            with world.scope:
                await service.run(listeners, world.stop)

        nursery.start_soon(run)
        with trio.fail_after(PATIENCE):
            await service.hub.link.wait_online()
        yield world
        nursery.cancel_scope.cancel()


@attrs.define
class Remains:
    """Weak references to what the server has made for its clients."""

    references: list[weakref.ref[object]] = attrs.Factory(list)

    def left(self) -> list[object]:
        """Those that are still there."""
        return [found for reference in self.references if (found := reference()) is not None]


@contextmanager
def watch() -> Iterator[Remains]:
    """Note every conversation and every socket that is served in the block. The collector is off until its end."""
    remains = Remains()

    class WatchedPeer(Peer):
        __slots__ = ()

        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[arg-type]
            remains.references.append(weakref.ref(self))

    class WatchedExchange(Exchange):
        __slots__ = ("__weakref__",)

        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[arg-type]
            remains.references += [weakref.ref(self), weakref.ref(self.accepted), weakref.ref(self.accepted.sock)]
            remains.references.append(weakref.ref(trio.lowlevel.current_task()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversations_module, "Peer", WatchedPeer)
        patch.setattr(server_module, "Exchange", WatchedExchange)
        # What was there before is not looked at again.
        gc.freeze()
        gc.disable()
        try:
            yield remains
        finally:
            gc.enable()


def unreachable() -> list[object]:
    """What only the collector could free, of what has been made in the block of `watch`."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return list(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
