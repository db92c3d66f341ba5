"""What makes preflightd a daemon of its own: the value that `common.daemon` and `common.daemon_cli` run."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from common.check import try_subscribe
from common.daemon import Daemon
from common.redis.policy import Channels, LinkPolicy, Replica
from preflightd.notifications import look, note, warn
from preflightd.route import route
from preflightd.settings import PreflightSettings
from preflightd.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.logs import Logger
    from common.metrics import Counters
    from common.redis.links import RedisLink
    from common.tracing import Tracer
    from common.web.handshake import Route
    from common.web.path import Target


def _make_route(settings: PreflightSettings) -> Callable[[Target], Route]:
    return partial(route, db=settings.redis_url.db)


def _make_topic(
    settings: PreflightSettings, counters: Counters, tracer: Tracer, log: Logger, link: RedisLink
) -> Callable[[bytes], Watcher]:
    return partial(
        Watcher,
        read=link.read,
        evaluate=settings.checklist.evaluate,
        push_every_change=settings.push == "hash",
        resync_interval=settings.resync_interval,
        rng=random.SystemRandom(),
        counters=counters,
        tracer=tracer,
        log=log,
    )


def _adjust_policy(settings: PreflightSettings, policy: LinkPolicy) -> LinkPolicy:
    # A primary that has become a replica may soon be nobody's; its name leads to the next one.
    # A replica's full resync changes its data without a notification: without resyncs of ours nobody would notice.
    replica = Replica.LEAVE if settings.resync_interval else Replica.REFUSE
    why = f"{settings.prefix}RESYNC_INTERVAL=0 needs a primary, which changes nothing without a notification"
    return attrs.evolve(policy, read_limit=settings.max_hash, replica=replica, why_primary=why)


async def _probe(link: RedisLink) -> None:
    await try_subscribe(link, f"__keyspace@{link.db}__:check".encode("ascii"))
    await link.read("HGETALL", "check")


PREFLIGHTD: Final = Daemon(
    name="preflightd",
    summary="Keeps the checklist that browsers show of a run equal to the run's Redis hash, over WebSockets.",
    metrics_prefix="preflight2",
    sent_name="messages_sent",
    settings=PreflightSettings,
    path="/{runid}",
    make_route=_make_route,
    channels=Channels.KEYSPACE,
    make_topic=_make_topic,
    adjust_policy=_adjust_policy,
    on_online=warn,
    observe=note,
    check=look,
    probe=_probe,
)
