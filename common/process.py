"""The process that an operator starts: from a good configuration to the exit code (SPEC 6).

It owns the listening sockets and, if asked for, a private Redis; it serves by itself or through workers.
"""

from __future__ import annotations

import resource
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeVar

import attrs
import trio

from common.config import Settings, describe
from common.daemon import BAD_CONFIGURATION, Daemon, Service
from common.embedded import EmbeddedRedisError, open_embedded_redis
from common.redis.url import parse_redis_url
from common.signals import run_until_told
from common.web.listener import bind, bound_to
from common.workers.supervisor import Supervisor

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

    from common.logs import Logger

S = TypeVar("S", bound=Settings)


def serve_process(daemon: Daemon[S], settings: S, environ: Mapping[str, str], log: Logger, *, embedded: bool) -> int:
    """Serve until told to end; return the exit code. `embedded` serves with a private Redis."""
    raise_file_limit(log)
    try:
        listeners = bind(settings.listen_addr)
    except OSError as error:
        log.error("can't listen", address=str(settings.listen_addr), error=error.strerror or str(error))
        return BAD_CONFIGURATION
    try:
        return trio.run(_serve, daemon, settings, dict(environ), listeners, log, embedded)
    except EmbeddedRedisError as error:
        log.error("no private redis", error=str(error))
        return BAD_CONFIGURATION
    finally:
        for listener in listeners:
            listener.close()


def raise_file_limit(log: Logger) -> None:
    """Raise the soft limit of open files to the hard one, and say what it is: each client needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        log.warning("open files limit not raised", limit=soft, error=str(error))
        return
    log.info("open files limit", limit=hard, before=soft)


async def _serve(
    daemon: Daemon[S],
    settings: S,
    environ: dict[str, str],
    listeners: Sequence[socket.socket],
    log: Logger,
    embedded: bool,
) -> int:
    async with AsyncExitStack() as stack:
        if embedded:
            redis = await stack.enter_async_context(open_embedded_redis())
            url = redis.url(settings.redis_url.db)
            settings = attrs.evolve(
                settings, redis_url=parse_redis_url(url, settings.redis_url.db), redis_password=None
            )
            # Workers read their settings from the environment.
            environ[f"{daemon.settings.prefix}REDIS_URL"] = url
            log.info("private redis", publish_to=url)
            # For the person who asked for it, whatever LOG_LEVEL says.
            sys.stderr.write(f"publish to {url}\n")
        log.info("starting", daemon=daemon.name, settings=describe(settings))
        if not settings.allowed_origins:
            log.warning(
                "origin check disabled",
                hint=f"set {settings.prefix}ALLOWED_ORIGINS so that foreign pages can't open sockets",
            )
        if settings.admin_listen_addr is not None:
            log.warning("operator's listener not served yet", address=str(settings.admin_listen_addr))
        log.info("listening", addresses=bound_to(listeners))
        if settings.workers == 1:
            service = Service(daemon, settings, log)
            return await run_until_told(lambda stop: service.run(listeners, stop), log)
        command = [sys.executable, "-m", daemon.name, "serve"]
        supervisor = Supervisor(command, environ, listeners, settings.workers, settings.drain_timeout, log)
        return await run_until_told(supervisor.run, log)
