"""`<daemon> check`: what is configured, and whether Redis can be reached that way (SPEC 2).

One connection attempt by the same link that the daemon serves with, so that what passes here works there.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, TextIO

import trio
from redis.exceptions import NoPermissionError, RedisError

from common.config import describe
from common.logs import make_logger
from common.redis.link import Link, LinkPolicy, RedisRefused, RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.config import Settings
    from common.redis.connection import Batch


async def check(name: str, settings: Settings, warnings: Sequence[str], out: TextIO) -> int:
    """Print the configuration of the daemon `name` and whether its Redis answers to `out`; return 0 if so, else 1."""
    out.writelines(f"{variable}={value}\n" for variable, value in describe(settings).items())
    out.writelines(f"warning: {warning}\n" for warning in warnings)
    failure, version = await _try_redis(name, settings)
    if failure is not None:
        out.write(f"redis: FAILED: {failure}\n")
        return 1
    out.write(f"redis: OK, version {version}\n")
    return 0


async def _try_redis(name: str, settings: Settings) -> tuple[BaseException | None, str]:
    """Connect once and ask for the version; return what went wrong, if anything did, and the version."""
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
    info: object = b""
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(link.run)
            info = await link.request("INFO", "server")
        except NoPermissionError:
            # Serving needs no INFO: a user who may not ask for it is well configured.
            info = b""
        except (RedisUnavailable, RedisRefused, RedisError) as error:
            # With one attempt there is nothing to say about attempts: the cause says it all.
            failure = error.__cause__ or error
        nursery.cancel_scope.cancel()
    found = re.search(rb"redis_version:([^\r\n]+)", info if isinstance(info, bytes) else b"")
    return failure, found[1].decode("ascii", "replace") if found else "unknown"


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
