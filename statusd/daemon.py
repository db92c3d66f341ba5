"""What makes statusd a daemon of its own: the value that `common.daemon` and `common.daemon_cli` run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from common.check import try_subscribe
from common.daemon import Daemon
from common.redis.policy import Channels, LinkPolicy, Replica
from statusd.route import route
from statusd.settings import StatusSettings
from statusd.topic import StatusTopic

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.logs import Logger
    from common.metrics import Counters
    from common.redis.links import RedisLink
    from common.tracing import Tracer


DUCK: Final = 30.0
"""Seconds that a former primary is still read: sentinels make it close its connections after some ten."""


def _make_topic(
    settings: StatusSettings, counters: Counters, tracer: Tracer, log: Logger, link: RedisLink
) -> Callable[[bytes], StatusTopic]:
    # What it forwards is traced by the hub.
    del link, tracer
    return lambda channel: StatusTopic(channel, max_payload=settings.max_payload, counters=counters, log=log)


async def _probe(link: RedisLink) -> None:
    await try_subscribe(link, b"check:check")


def _adjust_policy(_settings: StatusSettings, policy: LinkPolicy) -> LinkPolicy:
    # Messages are published to a former primary too, by those who have a connection to it.
    return attrs.evolve(policy, replica=Replica.FOLLOW, duck=DUCK)


STATUSD: Final = Daemon(
    name="statusd",
    summary="Carries the status messages of runs from Redis Pub/Sub to browsers over WebSockets.",
    metrics_prefix="status2",
    sent_name="messages_forwarded",
    settings=StatusSettings,
    path="/{runid}:{channel}",
    make_route=lambda _settings: route,
    channels=Channels.MESSAGES,
    make_topic=_make_topic,
    adjust_policy=_adjust_policy,
    probe=_probe,
)
