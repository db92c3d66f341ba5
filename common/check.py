"""`<daemon> check`: what is configured, and whether Redis can be reached and the operator listened to (SPEC 2).

One connection attempt by the same link that the daemon serves with, so that what passes here works there.
"""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TextIO

import trio
from redis.exceptions import NoPermissionError, RedisError

from common.admin.sockets import obstacle
from common.config import describe
from common.logs import make_logger
from common.redis.link import Link, LinkPolicy, RedisRefused, RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.config import Settings
    from common.redis.connection import Batch


Look = Callable[["Link"], Awaitable[tuple[bool, str]]]
"""What a daemon asks of Redis besides: whether all is well, and a line that says how it is."""


async def check(name: str, settings: Settings, warnings: Sequence[str], out: TextIO, look: Look | None = None) -> int:
    """Print the configuration of the daemon `name` and whether its Redis answers to `out`; return 0 if so, else 1.

    The operator's listener is not bound, since a daemon may be running, but looked at.

    What `look` finds is printed too; it warns, and fails nothing.
    """
    out.writelines(f"{variable}={value}\n" for variable, value in describe(settings).items())
    out.writelines(f"warning: {warning}\n" for warning in warnings)
    trouble = obstacle(settings.admin_listen_addr)
    if trouble is not None:
        out.write(f"operator's listener: FAILED: {settings.admin_listen_addr}: {trouble}\n")
    failure, lines = await _try_redis(name, settings, look)
    if failure is not None:
        out.write(f"redis: FAILED: {failure}\n")
        return 1
    out.writelines(f"{line}\n" for line in lines)
    return 0 if trouble is None else 1


async def _try_redis(name: str, settings: Settings, look: Look | None) -> tuple[BaseException | None, list[str]]:
    """Connect once and ask; return what went wrong, if anything did, and what there is to say."""
    policy = LinkPolicy(
        request_timeout=settings.redis_request_timeout,
        retry_base=settings.redis_retry_base,
        retry_max=settings.redis_retry_max,
        max_retries=1,
    )
    log = make_logger("error", name, _Silence())
    link = Link(
        settings.redis_url, settings.redis_password, f"{name}-check", policy, _Deaf(), log, random.SystemRandom()
    )
    failure: BaseException | None = None
    lines: list[str] = []
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(link.run)
            lines.append(f"redis: OK, version {await _version(link)}")
            if look is not None:
                well, text = await look(link)
                lines.append(text if well else f"warning: {text}")
        except (RedisUnavailable, RedisRefused, RedisError) as error:
            # With one attempt there is nothing to say about attempts: the cause says it all.
            failure = error.__cause__ or error
        nursery.cancel_scope.cancel()
    return failure, lines


async def _version(link: Link) -> str:
    try:
        info = await link.request("INFO", "server")
    except NoPermissionError:
        # Serving needs no INFO: a user who may not ask for it is well configured.
        return "unknown"
    found = re.search(rb"redis_version:([^\r\n]+)", info if isinstance(info, bytes) else b"")
    return found[1].decode("ascii", "replace") if found else "unknown"


class _Deaf:
    """Hears nothing: `check` subscribes to nothing, and says itself what went wrong."""

    async def on_messages(self, batch: Batch, read_at: float) -> None:
        """See `LinkHandler`."""

    def on_active(self, channel: bytes, gap: float | None) -> None:
        """See `LinkHandler`."""

    def on_refused(self, channel: bytes, error: Exception) -> None:
        """See `LinkHandler`."""

    def on_exhausted(self) -> None:
        """See `LinkHandler`."""


class _Silence:
    """A log that goes nowhere: `check` prints for a person."""

    def write(self, line: str) -> None:
        """See `LineSink`."""
