"""Whether Redis says when a hash changes (`notify-keyspace-events`), and what to do about it.

Without notifications clients still get every change, but only at the next resync.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from common.redis.errors import RedisConnectionError, RedisError, StalledError

if TYPE_CHECKING:
    from common.logs import Logger
    from common.redis.link import Link

_NAME: Final = b"notify-keyspace-events"
_MEND: Final = "redis-cli config set notify-keyspace-events"


def problem(flags: str) -> str | None:
    """What is wrong with this value of `notify-keyspace-events`, in a line with the command that mends it; or None."""
    missing = "" if "K" in flags else "K"
    missing += "" if {"h", "A"} & set(flags) else "h"
    if not missing:
        return None
    # What is there already somebody else may need.
    return f"redis does not notify of changed hashes (notify-keyspace-events={flags!r}): {_MEND} {flags}{missing}"


async def look(link: Link) -> tuple[bool, str]:
    """Ask Redis: whether all is well, and a line that says how it is."""
    try:
        flags = await _ask(link)
    except RedisError as error:
        return False, _unknown(error)
    wrong = problem(flags)
    return wrong is None, wrong or f"redis notifies of changed hashes (notify-keyspace-events={flags!r})"


async def warn(link: Link, log: Logger) -> None:
    """Log a warning unless Redis notifies; called whenever the link has come online: a restart may have changed it.

    A connection that ends before it has answered is no warning: the link says so itself, and the next one is asked.
    """
    try:
        wrong = problem(await _ask(link))
    except (RedisConnectionError, StalledError):
        return
    except RedisError as error:
        wrong = _unknown(error)
    if wrong is not None:
        log.warning("keyspace notifications", warning=wrong)


def _unknown(error: RedisError) -> str:
    return f"can't tell whether redis notifies of changed hashes: {error}"


async def _ask(link: Link) -> str:
    reply = await link.request("CONFIG", "GET", _NAME)
    value = reply.get(_NAME) if isinstance(reply, dict) else None
    return value.decode("ascii", "replace") if isinstance(value, bytes) else ""
