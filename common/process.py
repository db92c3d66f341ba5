"""The process that an operator starts: from a good configuration to the exit code (SPEC 6).

It owns the listening sockets, which it makes or the service manager has made for it, the operator's too, and, if asked
for, a private Redis; it serves by itself or through workers, and tells the service manager how it is.
"""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import attrs
import trio

from common.activation import without_personal
from common.admin.sockets import AdminSockets, bind_admin
from common.config import Settings, describe
from common.daemon import Daemon, DaemonService
from common.embedded import EmbeddedRedisError, open_embedded_redis
from common.exits import Exit
from common.metrics import supervised
from common.modules import module_command
from common.redis.url import parse_redis_url
from common.signals import run_until_told
from common.start import Listeners, Start, check_traces, listening, needing, prepare, tracing
from common.tracing import NO_TRACES
from common.version import version
from common.web.listener import bound_to
from common.web.path import Target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from common.admin.server import AdminServer
    from common.admin.telemetry_source import TelemetrySource
    from common.exposition import Report
    from common.logs import Logger
    from common.notify import Notifier
    from common.tracing import Tracer

S = TypeVar("S", bound=Settings)


@attrs.frozen
class ProcessParts:
    """What the process has before its event loop."""

    listeners: Listeners
    admin: AdminSockets | None
    notifier: Notifier
    tracer: Tracer


@attrs.frozen
class Serving:
    """What serves: this process by itself, or its workers."""

    run: Callable[[trio.Event], Awaitable[int]]
    """Until it is told to end; returns the exit code."""
    ready: trio.Event
    report: Callable[[], Awaitable[Report]]
    """The figures of a scrape."""
    make_source: Callable[[], TelemetrySource]
    """What the operator's listener asks; made once, where there is one."""


def serve_process(daemon: Daemon[S], start: Start[S], *, embedded: bool) -> int:
    """Serve until told to end; return the exit code. `embedded` serves with a private Redis. Raises StartError."""
    settings, log = start.settings, start.log
    prepare(start)
    with ExitStack() as stack:
        # Before the port, which is closed before the last spans are sent. Workers have tracers of their own.
        if settings.workers == 1:
            tracer = stack.enter_context(tracing(settings, daemon.name, log))
        else:
            check_traces(settings)
            tracer = NO_TRACES
        listeners = stack.enter_context(listening(start))
        admin = None
        if settings.admin_listen_addr is not None:
            with needing(settings.admin_listen_addr):
                admin = stack.enter_context(bind_admin(settings.admin_listen_addr))
        parts = ProcessParts(listeners, admin, start.notifier(), tracer)
        serve = partial(_serve, daemon, settings, without_personal(start.environ), parts, log, embedded)
        return trio.run(run_until_told, serve, log)


async def _serve(
    daemon: Daemon[S],
    settings: S,
    environ: dict[str, str],
    parts: ProcessParts,
    log: Logger,
    embedded: bool,
    stop: trio.Event,
) -> int:
    listeners, admin = parts.listeners.sockets, parts.admin
    async with AsyncExitStack() as stack:
        if embedded:
            try:
                redis = await stack.enter_async_context(open_embedded_redis())
            except EmbeddedRedisError as error:
                log.error("no private redis", error=str(error))
                return Exit.BAD_CONFIGURATION
            url = redis.url(settings.redis_url.db)
            settings = attrs.evolve(
                settings,
                redis_url=parse_redis_url(url, settings.redis_url.db),
                redis_password=None,
                sentinel_password=None,
            )
            # Workers read their settings from the environment.
            environ[f"{daemon.settings.prefix}REDIS_URL"] = url
            log.info("private redis", publish_to=url)
            # For the person who asked for it, whatever LOG_LEVEL says.
            sys.stderr.write(f"publish to {url}\n")
        log.info("starting", daemon=daemon.name, version=version(), settings=describe(settings))
        if not settings.allowed_origins:
            log.warning(
                "origin check disabled",
                hint=f"set {settings.prefix}ALLOWED_ORIGINS so that foreign pages can't open sockets",
            )
        log.info("listening", addresses=bound_to(listeners), **({} if admin is None else {"admin": admin.names}))
        serve = _by_itself if settings.workers == 1 else _through_workers
        serving = serve(daemon, settings, environ, parts, log)
        run = partial(parts.notifier.accompany, serving.run, serving.ready)
        if admin is None:
            return await run(stop)
        # Nobody looks on without an address for it, and what they look with costs memory, and time at the start.
        from common.admin.access import Access  # noqa: PLC0415
        from common.admin.server import AdminServer  # noqa: PLC0415

        server = AdminServer(
            source=serving.make_source(),
            report=serving.report,
            channel_of=_channels(daemon, settings),
            access=Access(admin.address, settings.admin_token, settings.trusted_proxies),
            log=log.bind(component="admin"),
        )
        return await _run_with_admin(server, admin, run, stop)


def _by_itself(daemon: Daemon[S], settings: S, _environ: dict[str, str], parts: ProcessParts, log: Logger) -> Serving:
    service = DaemonService(daemon, settings, log, tracer=parts.tracer, kept=parts.listeners.kept)

    def make_source() -> TelemetrySource:
        # Nobody asks without a listener.
        from common.admin.probe import Probe  # noqa: PLC0415
        from common.admin.telemetry_source import ALONE, Local, about  # noqa: PLC0415

        return Local(about(daemon, settings), Probe(service, daemon.name, ALONE))

    return Serving(partial(service.run, parts.listeners.sockets), service.ready, service.fleet.report, make_source)


def _through_workers(
    daemon: Daemon[S], settings: S, environ: dict[str, str], parts: ProcessParts, log: Logger
) -> Serving:
    # One process has no use for them.
    from common.workers.desk import Desk  # noqa: PLC0415
    from common.workers.spawn import Spawner  # noqa: PLC0415
    from common.workers.supervisor import Supervisor  # noqa: PLC0415

    listeners = parts.listeners
    desk = Desk(partial(supervised, daemon.metrics_prefix))
    supervisor = Supervisor(
        Spawner(module_command(daemon.name, "serve"), environ, listeners.sockets, log, listeners.kept),
        settings.workers,
        settings.drain_delay + settings.drain_timeout,
        log,
        desk,
    )

    def make_source() -> TelemetrySource:
        # Nobody asks without a listener.
        from common.admin.telemetry_source import about  # noqa: PLC0415
        from common.workers.fleet_telemetry import Workers  # noqa: PLC0415

        return Workers(about(daemon, settings), desk)

    return Serving(supervisor.run, supervisor.ready, desk.report, make_source)


def _channels(daemon: Daemon[S], settings: S) -> Callable[[str], bytes]:
    """The Redis channel of a name, which is a conversation's path without its slash."""
    route = daemon.make_route(settings)
    return lambda name: route(Target(f"/{name}", {})).channel


async def _run_with_admin(
    server: AdminServer, admin: AdminSockets, run: Callable[[trio.Event], Awaitable[int]], stop: trio.Event
) -> int:
    """Let the operator look on until the daemon has drained."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run, admin.sockets)
        code = await run(stop)
        nursery.cancel_scope.cancel()
    return code
