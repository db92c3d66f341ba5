"""Whether Redis says when a hash changes (`notify-keyspace-events`), and what to do about it.

Without notifications clients still get every change, but only at the next resync.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from common.quote import quote
from common.redis.errors import RedisConnectionError, RedisError, StalledError

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.logs import Logger
    from common.metrics import HashFigures
    from common.redis.links import RedisLink

_NAME: Final = b"notify-keyspace-events"
_LONGEST_FLAGS: Final = 64
RECOMMENDED: Final = "Kghx"
"""The keyspace channels (`K`), and what befalls a hash: its fields (`h`), DEL, RENAME, COPY and MOVE (`g`), expiry."""

_CLASSES: Final = {"g": "deleted, renamed or copied", "x": "expired"}
_MEND: Final = "redis-cli config set notify-keyspace-events"


def problem(flags: str) -> str | None:
    """What is wrong with this value of `notify-keyspace-events`, in a line with the command that mends it; or None."""
    if not {"K", "h"} & set(_missing(flags)):
        return None
    return f"redis does not notify of changed hashes (notify-keyspace-events={flags!r}): {_mend(flags)}"


def shortfall(flags: str) -> str | None:
    """Which changes this value tells nobody of, though it has no `problem`: a line with a command; or None.

    They come with the next resync, so it is no fault.
    """
    unheard = [_CLASSES[letter] for letter in _missing(flags) if letter in _CLASSES]
    if not unheard or problem(flags) is not None:
        return None
    found = f"which the resync finds (notify-keyspace-events={flags!r})"
    return f"redis notifies of changed hashes, but not of {' or '.join(unheard)} ones, {found}: {_mend(flags)}"


def _missing(flags: str) -> str:
    """The letters of `RECOMMENDED` that are not there; `A` stands for all classes."""
    return "".join(letter for letter in RECOMMENDED if letter not in flags and (letter == "K" or "A" not in flags))


def _mend(flags: str) -> str:
    # What is there already somebody else may need.
    return f"{_MEND} {flags}{_missing(flags)}"


async def look(link: RedisLink) -> tuple[bool, str]:
    """Ask Redis: whether all is well, and a line that says how it is."""
    try:
        flags = await _ask(link)
    except RedisError as error:
        return False, _unknown(error)
    wrong, lacking = _judge(flags, problem), _judge(flags, shortfall)
    if wrong is not None:
        return False, wrong
    if lacking is not None:
        return True, f"note: {lacking}"
    (told, *others) = sorted(set(flags.values()))
    where = f" on each of {len(flags)} primaries" if len(flags) > 1 else ""
    found = ", ".join(repr(each) for each in (told, *others))
    return True, f"redis notifies of changed hashes{where} (notify-keyspace-events={found})"


async def warn(link: RedisLink, log: Logger) -> None:
    """Log a warning unless Redis notifies; called whenever the link has come online: a restart may have changed it.

    A connection that ends before it has answered is no warning: the link says so itself, and the next one is asked.
    """
    try:
        flags = await _ask(link)
    except (RedisConnectionError, StalledError):
        return
    except RedisError as error:
        log.warning("keyspace notifications", warning=_unknown(error))
        return
    wrong, lacking = _judge(flags, problem), _judge(flags, shortfall)
    if wrong is not None:
        log.warning("keyspace notifications", warning=wrong)
    elif lacking is not None:
        log.info("keyspace notifications", hint=lacking)


async def note(link: RedisLink, figures: HashFigures) -> None:
    """Note whether Redis notifies now; without an answer it is unknown."""
    try:
        figures.notifications = "on" if _judge(await _ask(link), problem) is None else "off"
    except RedisError:
        figures.notifications = "unknown"


def _unknown(error: RedisError) -> str:
    return f"can't tell whether redis notifies of changed hashes: {quote(str(error))}"


def _judge(flags: dict[str, str], judge: Callable[[str], str | None]) -> str | None:
    """What `judge` finds on any node, the first of it; where there are several nodes, with those that it is true of."""
    found = {node: said for node, value in flags.items() if (said := judge(value)) is not None}
    if not found:
        return None
    first = next(iter(found.values()))
    return first if len(flags) == 1 else f"{', '.join(node for node in found if found[node] == first)}: {first}"


async def _ask(link: RedisLink) -> dict[str, str]:
    """The value on every primary, by its address: in a cluster each has its own."""
    replies = await link.request_everywhere("CONFIG", "GET", _NAME)
    return {node: _flags(reply) for node, reply in replies.items()}


def _flags(reply: object) -> str:
    value = reply.get(_NAME) if isinstance(reply, dict) else None
    return quote(value, _LONGEST_FLAGS) if isinstance(value, bytes) else ""
