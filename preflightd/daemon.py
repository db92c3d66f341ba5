"""What makes preflightd a daemon of its own: the value that `common.daemon` and `common.cli` run."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Final

from common.daemon import Daemon
from preflightd.notifications import look, warn
from preflightd.route import route
from preflightd.settings import PreflightSettings
from preflightd.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.logs import Logger
    from common.metrics import Counters
    from common.redis.link import Link
    from common.web.handshake import Route
    from common.web.path import Target


def _make_route(settings: PreflightSettings) -> Callable[[Target], Route]:
    return partial(route, db=settings.redis_url.db)


def _make_topic(settings: PreflightSettings, counters: Counters, log: Logger, link: Link) -> Callable[[bytes], Watcher]:
    return partial(
        Watcher,
        request=link.request,
        resync_interval=settings.resync_interval,
        rng=random.SystemRandom(),
        counters=counters,
        log=log,
    )


PREFLIGHTD: Final = Daemon(
    name="preflightd",
    summary="Keeps the checklist that browsers show of a run equal to the run's Redis hash, over WebSockets.",
    metrics_prefix="preflight2",
    sent_name="messages_sent",
    settings=PreflightSettings,
    path="/{runid}",
    make_route=_make_route,
    make_topic=_make_topic,
    on_online=warn,
    check=look,
)
