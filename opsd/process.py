"""The process that an operator starts: from a good configuration to the exit code (SPEC 6).

It owns the listening sockets and every task: the board with its sources, the history with its link, the alerts, the
tmux watcher, and the HTTP server, which all end when it is told to end. None but the server is needed to serve.
"""

from __future__ import annotations

import random
import time
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import trio

from common.config import describe
from common.daemons import OPS
from common.exits import Exit
from common.signals import run_until_told
from common.start import StartError, listening, prepare
from common.version import version
from common.web.listener import bound_to
from opsd.alerts import Alerts, Outcomes
from opsd.api.parts import Parts
from opsd.app import make_app
from opsd.auth import Guard
from opsd.board import Board
from opsd.endpoints import ENDPOINTS
from opsd.history import History, make_history_link
from opsd.keys import keys_of
from opsd.launch import platform_windows
from opsd.pages import load_pages
from opsd.serve import HttpServer
from opsd.sources.configured import make_sources
from opsd.tally import Tally
from opsd.tmux.session import Tmux
from opsd.viewers import Viewers

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from common.logs import Logger
    from common.start import Start
    from opsd.settings import OpsSettings

RESTART_DELAY: Final = 1.0
"""Seconds after which a task that failed by a bug is started again."""


def serve_process(start: Start[OpsSettings]) -> int:
    """Serve until told to end; return the exit code. Raises StartError."""
    prepare(start)
    settings = start.settings
    with listening(start) as listeners:
        exposed = [listener for listener in listeners.sockets if not _is_local(listener)]
        if settings.token is None and exposed:
            error = f"{', '.join(bound_to(exposed))} needs {OPS.variable('TOKEN')}"
            raise StartError("bad configuration", error=error)
        ready = trio.Event()
        run = partial(_run, settings, start.environ, listeners.sockets, start.log, ready)
        return trio.run(run_until_told, partial(start.notifier().accompany, run, ready), start.log)


def _is_local(listener: socket.socket) -> bool:
    """Whether only this machine reaches it, by TCP: the settings know it of what they name, not of what was passed."""
    name = listener.getsockname()
    return isinstance(name, tuple) and ip_address(name[0]).is_loopback


async def _run(
    settings: OpsSettings,
    environ: Mapping[str, str],
    listeners: Sequence[socket.socket],
    log: Logger,
    ready: trio.Event,
    stop: trio.Event,
) -> int:
    log.info("starting", daemon=OPS.name, version=version(), settings=describe(settings))
    rng = random.SystemRandom()
    sources = make_sources(settings, rng)
    board = Board(
        sources,
        region=settings.primary_region,
        own_routes=len(ENDPOINTS),
        log=log.bind(component="board"),
    )
    redis_log = log.bind(component="redis")
    history = History(make_history_link(settings, redis_log, rng), keys_of(settings), settings.history, redis_log)
    alerts = None
    if settings.alert_webhook is not None:
        alerts = Alerts(settings.alert_webhook, history, log.bind(component="alerts"), rng)
    tmux = Tmux(settings.tmux_session)

    def tell_sessions(sessions: int) -> None:
        board.tmux_sessions = sessions

    closing = trio.Event()
    http_log = log.bind(component="http")
    guesses = Tally(http_log, "wrong tokens")
    parts = Parts(
        settings=settings,
        board=board,
        history=history,
        viewers=Viewers(sources),
        tmux=tmux,
        windows=platform_windows(settings.targets, environ),
        guard=Guard(
            settings.token,
            wall=time.time,
            clock=trio.current_time,
            trusted=settings.trusted_proxies,
            on_guess=guesses.note,
        ),
        pages=load_pages(),
        closing=closing,
        alerts=Outcomes() if alerts is None else alerts.outcomes,
    )
    server = HttpServer(make_app(parts, http_log), http_log, settings.trusted_proxies)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_keep, "board", board.run, log)
        nursery.start_soon(_keep, "history", partial(history.run, board), log)
        nursery.start_soon(_keep, "tmux", partial(tmux.run, tell_sessions), log)
        nursery.start_soon(_keep, "guesses", guesses.run, log)
        if alerts is not None:
            nursery.start_soon(_keep, "alerts", partial(alerts.run, board), log)
        log.info("listening", addresses=bound_to(listeners))
        ready.set()
        await server.run(listeners, stop, closing)
        nursery.cancel_scope.cancel()
    log.info("stopped", code=Exit.OK)
    return Exit.OK


async def _keep(name: str, run: Callable[[], Awaitable[None]], log: Logger) -> None:
    """The barrier of one task: a bug in the history must not end the page."""
    while True:
        try:
            await run()
        except Exception:
            log.exception("task failed", task=name)
        await trio.sleep(RESTART_DELAY)
