"""A link between a scripted Redis and a recording handler, running until the block ends."""

from __future__ import annotations

import math
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from common.redis.link import Link, LinkPolicy
from common.redis.url import RedisURL
from tests.support.logbook import Logbook
from tests.support.recording import RecordingHandler
from tests.support.scripted_redis import ScriptedRedis, open_scripted_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from common.redis.handler import LinkHandler
    from common.secret import Secret

URL = RedisURL(host="redis.test", port=6379, db=2)
POLICY = LinkPolicy(
    request_timeout=1.0, connect_timeout=1.0, retry_base=1.0, retry_max=30.0, max_retries=0, role_interval=math.inf
)


@attrs.frozen
class LinkBench:
    """A link with everything around it in the test's hands."""

    link: Link
    redis: ScriptedRedis
    handler: RecordingHandler
    logbook: Logbook


def make_link(
    redis: ScriptedRedis,
    *,
    url: RedisURL = URL,
    password: Secret | None = None,
    policy: LinkPolicy = POLICY,
    rng: random.Random | None = None,
    listens: LinkHandler | None = None,
) -> LinkBench:
    """A link to `redis` that does not run yet; `listens` hears it in place of the bench's own handler."""
    handler, logbook = RecordingHandler(), Logbook()
    link = Link(
        url=url,
        password=password,
        client_name="statusd",
        policy=policy,
        handler=listens or handler,
        log=logbook.log,
        rng=random.Random(0) if rng is None else rng,
        connect=redis.connect,
    )
    return LinkBench(link, redis, handler, logbook)


@asynccontextmanager
async def open_link(policy: LinkPolicy = POLICY, rng: random.Random | None = None) -> AsyncIterator[LinkBench]:
    """A link that is online."""
    async with open_scripted_redis() as redis:
        bench = make_link(redis, policy=policy, rng=rng)
        async with trio.open_nursery() as nursery:
            await nursery.start(bench.link.run)
            yield bench
            nursery.cancel_scope.cancel()
