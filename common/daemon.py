"""A daemon's process from its start to its last goodbye (SPEC 3, 6; DESIGN, lifetimes).

`DaemonService.run` owns every task there is. The outer nursery holds what must outlive the clients (Redis link,
heartbeat, topics); the inner one, `handlers`, holds the door with its accept loops and a task per socket. The end goes
from the inside out: answer 503, say goodbye, wait for the clients within the deadline, give the subscriptions back. The
port is not ours.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import attrs
import trio

from common.config import Settings
from common.disconnect import DRAIN
from common.exits import Exit
from common.exposition import Reporter
from common.fanout import Hub, Topic
from common.fleet import Alone
from common.histogram import Histogram
from common.metrics import Counters, DaemonCollector, Gauges, HashFigures
from common.quote import quote
from common.redis.errors import RedisRefused, RedisUnavailable
from common.redis.links import RedisLink, make_link
from common.redis.policy import Channels, LinkPolicy, policy_of
from common.serving.server import Server, ServerPolicy
from common.tracing import NO_TRACES
from common.web.admission import Admission
from common.web.door import Door
from common.web.heartbeat import Heartbeat
from common.web.listener import accept
from common.web.origin import OriginPolicy
from common.web.peer import PeerPolicy

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence

    from common.exposition import Report
    from common.fleet import Fleet
    from common.logs import Logger
    from common.redis.handler import LinkHandler
    from common.redis.opening import Connect
    from common.tracing import Tracer
    from common.web.handshake import Route
    from common.web.path import Target

REPLY_MARGIN: Final = 64 << 20
"""Bytes beyond MAX_PAYLOAD that a message may have and still be read and dropped; a larger one costs the link."""

NEWCOMERS_WAIT: Final = 5.0
"""Seconds that newcomers wait at the start, on sockets that are kept for the daemon; then they hear what is wrong."""

OBSERVE_INTERVAL: Final = 60.0
"""Seconds between two looks at what Redis is set to, while the link has no news: it may be set anew at any time."""

S = TypeVar("S", bound=Settings)


@attrs.frozen
class Daemon(Generic[S]):
    """What makes one daemon different from another."""

    name: str
    summary: str
    """One sentence for `--help`."""
    metrics_prefix: str
    sent_name: str
    """The metric of payload frames sent, without prefix and `_total`."""
    settings: type[S]
    path: str
    """The conversations' path with the names of its parts, for tables of routes: `/{runid}`."""
    make_route: Callable[[S], Callable[[Target], Route]]
    channels: Channels
    """What its clients' channels are."""
    make_topic: Callable[[S, Counters, Tracer, Logger, RedisLink], Callable[[bytes], Topic]]
    adjust_policy: Callable[[S, LinkPolicy], LinkPolicy] = lambda _, policy: policy
    """What is special about its link to Redis."""
    on_online: Callable[[RedisLink, Logger], Awaitable[None]] | None = None
    """Called whenever the link has come online."""
    observe: Callable[[RedisLink, HashFigures], Awaitable[None]] | None = None
    """Of a daemon that reads hashes: notes what Redis is set to; raises nothing."""
    check: Callable[[RedisLink], Awaitable[tuple[bool, str]]] | None = None
    """What `check` asks of Redis besides: whether all is well, and a line."""
    probe: Callable[[RedisLink], Awaitable[None]] | None = None
    """What `check` tries of what serving needs; raises the RedisError of what is missing."""


class DaemonService(Generic[S]):
    """The parts of a running daemon, put together; `run` gives them their tasks.

    `tracer` is the process's. `fleet` is the view of all processes, where there are others. `kept` says that the
    listening sockets stay open when the daemon ends (`common.activation`). `connect` and `rng` are for tests: the
    stream to Redis and the jitter's generator.
    """

    def __init__(
        self,
        daemon: Daemon[S],
        settings: S,
        log: Logger,
        *,
        connect: Connect | None = None,
        rng: random.Random | None = None,
        tracer: Tracer = NO_TRACES,
        fleet: Fleet | None = None,
        kept: bool = False,
    ) -> None:
        self.settings = settings
        self.log = log
        self._on_online = daemon.on_online
        measured = settings.metrics_enabled or settings.admin_listen_addr is not None
        self._observe = daemon.observe if measured else None
        self.counters = Counters(
            delivery=Histogram() if measured else None,
            hashes=None if daemon.observe is None else HashFigures(reads=Histogram() if measured else None),
        )
        self.heartbeat = Heartbeat(
            interval=settings.ping_interval,
            timeout=settings.pong_timeout,
            round_trips=Histogram() if measured else None,
        )
        origins = OriginPolicy(settings.allowed_origins)
        self._origin_check_disabled = origins.disabled

        policy = attrs.evolve(
            policy_of(settings, max_retries=settings.redis_max_retries),
            reply_limit=settings.max_payload + REPLY_MARGIN,
        )

        def make_redis_link(handler: LinkHandler) -> RedisLink:
            return make_link(
                url=settings.redis_url,
                password=settings.redis_password,
                sentinel_password=settings.sentinel_password,
                client_name=daemon.name,
                policy=daemon.adjust_policy(settings, policy),
                handler=handler,
                log=log.bind(component="redis"),
                rng=rng or random.SystemRandom(),
                channels=daemon.channels,
                connect=connect,
            )

        self.hub = Hub(
            make_link=make_redis_link,
            make_topic=partial(daemon.make_topic, settings, self.counters, tracer, log),
            counters=self.counters,
            log=log,
            tracer=tracer,
        )
        reporter = Reporter(DaemonCollector(daemon.metrics_prefix, daemon.sent_name, self.counters, self._gauges))
        self.report: Callable[[], Report] = reporter.report
        """Reads this process for a scrape."""
        self.fleet = fleet or Alone(reporter.report)
        self._kept = kept
        self.door = Door(waits=kept)
        self.ready = trio.Event()
        """Set when Redis has been reached for the first time."""
        self.server = Server(
            policy=ServerPolicy(
                peer=PeerPolicy(
                    max_backlog=settings.max_backlog,
                    max_message_size=settings.max_message_size,
                    write_timeout=settings.write_timeout,
                    hangup=settings.hangup,
                ),
                handshake_timeout=settings.handshake_timeout,
                origins=origins,
                trusted_proxies=settings.trusted_proxies,
                metrics_enabled=settings.metrics_enabled,
            ),
            admission=Admission(limit=settings.max_connections, limit_per_address=settings.max_connections_per_address),
            hub=self.hub,
            heartbeat=self.heartbeat,
            counters=self.counters,
            route=daemon.make_route(settings),
            fleet=self.fleet,
            tracer=tracer,
            log=log,
        )

    async def run(self, listeners: Sequence[socket.socket], stop: trio.Event) -> int:
        """Serve `listeners` until `stop` is set, then drain; return the exit code.

        Cancelling it ends everything at once, without a goodbye.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.hub.run)
            if self._on_online is not None:
                nursery.start_soon(self._watch_link, self._on_online)
            if self._observe is not None and self.counters.hashes is not None:
                nursery.start_soon(self._keep_observing, self._observe, self.counters.hashes)
            nursery.start_soon(self.heartbeat.run)
            async with trio.open_nursery() as handlers:

                async def accept_from(listener: socket.socket) -> None:
                    await accept(listener, self.server.serve, handlers, self.log)

                handlers.start_soon(self.door.run, listeners, accept_from)
                code = await self._serve_until(stop, nursery)
                if code == Exit.OK:
                    await self._drain()
                handlers.cancel_scope.cancel()
            await self.hub.aclose()
            nursery.cancel_scope.cancel()
        self.log.info("stopped", code=code)
        return code

    async def _serve_until(self, stop: trio.Event, nursery: trio.Nursery) -> int:
        """Start the link, then wait for `stop`, which may come first; return the exit code."""
        code: int = Exit.OK
        async with trio.open_nursery() as waiting:

            async def wait_stop() -> None:
                await stop.wait()
                waiting.cancel_scope.cancel()

            async def open_door() -> None:
                with trio.move_on_after(NEWCOMERS_WAIT):
                    await self.ready.wait()
                self.door.open()

            waiting.start_soon(wait_stop)
            if self._kept:
                waiting.start_soon(open_door)
            try:
                await nursery.start(self.hub.link.run)
                self.log.info("ready")
                self.ready.set()
            except (RedisUnavailable, RedisRefused) as error:
                self.log.error("redis unavailable at start", error=quote(str(error)))
                code = Exit.FAILED
                waiting.cancel_scope.cancel()
        return code

    async def _watch_link(self, on_online: Callable[[RedisLink, Logger], Awaitable[None]]) -> None:
        while True:
            changed = self.hub.link_changed
            if self.hub.link.online:
                await on_online(self.hub.link, self.log)
            await changed.wait()

    async def _keep_observing(
        self, observe: Callable[[RedisLink, HashFigures], Awaitable[None]], figures: HashFigures
    ) -> None:
        while True:
            changed = self.hub.link_changed
            await observe(self.hub.link, figures)
            with trio.move_on_after(OBSERVE_INTERVAL):
                await changed.wait()

    async def _drain(self) -> None:
        """Say goodbye to every client, spread over DRAIN_SPREAD, and wait for them within DRAIN_TIMEOUT.

        Before that, `/health` says 503 for DRAIN_DELAY while newcomers are served: proxies send them until they see it.
        """
        settings, server = self.settings, self.server
        server.draining = True
        if settings.drain_delay:
            self.log.info("drain delayed", seconds=settings.drain_delay, connections=len(server.peers))
            await trio.sleep(settings.drain_delay)
        server.turns_away = True
        if self._kept:
            # They are the successor's: whoever comes now waits for it, and is not refused.
            self.door.leave()
        peers = list(server.peers)
        self.log.info("draining", connections=len(peers))
        start = trio.current_time()
        with trio.move_on_after(settings.drain_timeout) as deadline:
            for number, peer in enumerate(peers):
                # One that has left by itself needs no turn.
                if peer in server.peers:
                    await trio.sleep_until(start + settings.drain_spread * number / len(peers))
                    peer.end(DRAIN)
            await server.wait_empty()
        if deadline.cancelled_caught:
            self.log.warning("drain timed out", connections=len(server.peers))

    def _gauges(self) -> Gauges:
        peers = self.server.peers
        return Gauges(
            connections_active=len(peers),
            backlog_bytes=sum(peer.wire.backlog_bytes for peer in peers),
            topics_active=self.hub.active,
            ready=self.server.unready() is None,
            draining=self.server.draining,
            workers=self.settings.workers,
            redis_up=self.hub.link.online,
            redis_reconnects=self.hub.link.reconnects,
            redis_timeouts=self.hub.link.timeouts,
            redis_round_trips=self.hub.link.round_trips,
            client_round_trips=self.heartbeat.round_trips,
            origin_check_disabled=self._origin_check_disabled,
            redis_role_changes=self.hub.link.role_changes,
            redis_moved=self.hub.link.redirections,
            redis_links=Counter((node.address, node.role or "") for node in self.hub.link.describe().nodes),
        )
