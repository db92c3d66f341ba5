"""`<daemon> check`: what is configured, and whether Redis can be reached and the operator listened to (SPEC 2).

One connection attempt by the same link that the daemon serves with, and one of each question that serving needs, so
that what passes here works there: a user without the right to SUBSCRIBE can connect, and serve nobody.
"""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TextIO, TypeVar

import attrs
import trio
from redis.exceptions import NoPermissionError, RedisError

from common.admin.sockets import obstacle
from common.config import Settings, describe
from common.early import allow
from common.exits import Exit
from common.logs import make_logger
from common.quote import quote, quote_url
from common.redis.handler import Deaf
from common.redis.handshake import ROLE_QUESTION
from common.redis.link import Link, RedisRefused, RedisUnavailable
from common.redis.policy import policy_of
from common.tracing import EXTRA, endpoint, installed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.config import Configuration, DaemonSettings
    from common.daemon import Daemon

S = TypeVar("S", bound=Settings)

_LONGEST_WORD: Final = 40
"""Characters of a server's name or version."""

_FORBIDDEN_COMMAND: Final = re.compile(r"permissions? to run the '")
"""What Redis says of a command; of a key or a channel it speaks of access."""

Look = Callable[["Link"], Awaitable[tuple[bool, str]]]
"""What a daemon asks of Redis besides: whether all is well, and a line that says how it is."""

Probe = Callable[["Link"], Awaitable[None]]
"""Asks Redis once for everything that the daemon needs, and changes nothing. Raises the RedisError of what it lacks."""


def write_configuration(settings: Configuration, warnings: Sequence[str], out: TextIO) -> None:
    """Print the effective configuration, secrets masked, and what was wrong with the given one."""
    out.writelines(f"{variable}={value}\n" for variable, value in describe(settings).items())
    out.writelines(f"warning: {warning}\n" for warning in warnings)


async def check(daemon: Daemon[S], settings: S, out: TextIO) -> int:
    """Print to `out` whether the Redis of a daemon that serves WebSockets answers; return 0 if so, else 1.

    The operator's listener is not bound, since a daemon may be running, but looked at.
    """
    traces = _check_traces(settings, out)
    trouble = obstacle(settings.admin_listen_addr)
    if trouble is not None:
        out.write(f"operator's listener: FAILED: {settings.admin_listen_addr}: {trouble}\n")
    answers = await check_redis(daemon.name, settings, out, daemon.check, daemon.probe)
    return Exit.OK if answers and traces and trouble is None else Exit.FAILED


def _check_traces(settings: Settings, out: TextIO) -> bool:
    """Print where traces are sent to, if any are; return whether they can be. The collector is not asked."""
    if not settings.traces_enabled:
        return True
    allow("opentelemetry")
    if not installed():
        out.write(f"traces: FAILED: {EXTRA}\n")
        return False
    out.write(f"traces: sent to {quote_url(endpoint())}\n")
    return True


async def check_redis(
    name: str, settings: DaemonSettings, out: TextIO, look: Look | None = None, probe: Probe | None = None
) -> bool:
    """Print whether Redis gives the daemon `name` what it needs; return whether it does.

    What `look` finds is printed too; it warns, and fails nothing. What `probe` lacks fails the check.
    """
    failure, lines = await _try_redis(name, settings, look, probe)
    if failure is not None:
        out.write(f"redis: FAILED: {quote(str(failure))}\n")
        return False
    out.writelines(f"{line}\n" for line in lines)
    return True


async def _try_redis(
    name: str, settings: DaemonSettings, look: Look | None, probe: Probe | None
) -> tuple[BaseException | None, list[str]]:
    """Connect once and ask; return what went wrong, if anything did, and what there is to say."""
    policy = attrs.evolve(policy_of(settings, max_retries=1), wait_for_loading=False)
    log = make_logger("error", name, _Silence())
    link = Link(
        url=settings.redis_url,
        password=settings.redis_password,
        client_name=f"{name}-check",
        policy=policy,
        handler=Deaf(),
        log=log,
        rng=random.SystemRandom(),
    )
    failure: BaseException | None = None
    lines: list[str] = []
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(link.run)
            if probe is not None:
                lines += await _probe(link, probe)
            lines.insert(0, f"redis: OK{await _server(link)}")
            if look is not None:
                well, text = await look(link)
                lines.append(text if well else f"warning: {text}")
        except (RedisUnavailable, RedisRefused, RedisError) as error:
            # With one attempt there is nothing to say about attempts: the cause says it all.
            failure = error.__cause__ or error
        nursery.cancel_scope.cancel()
    return failure, lines


async def _probe(link: Link, probe: Probe) -> list[str]:
    """Try what serving needs. A refusal of the name that was tried says nothing of other names: that is a warning."""
    try:
        await probe(link)
    except NoPermissionError as error:
        if _FORBIDDEN_COMMAND.search(str(error)):
            raise
        return [f"warning: can't tell whether everything may be used that serving needs: {error}"]
    return []


async def try_subscribe(link: Link, channel: bytes) -> None:
    """Subscribe to `channel` and take it back. Raises the RedisError of a refusal."""
    try:
        await link.wait_active(link.subscribe(channel))
    finally:
        link.unsubscribe(channel)


async def _server(link: Link) -> str:
    """Which server it is, in its own words; empty where it does not say. HELLO needs no right of the user's."""
    answer = await link.request(*ROLE_QUESTION)
    said = [answer.get(name) for name in (b"server", b"version")] if isinstance(answer, dict) else []
    words = [quote(word, _LONGEST_WORD) for word in said if isinstance(word, bytes)]
    return f", {' '.join(words)}" if len(words) == 2 else ""


class _Silence:
    """A log that goes nowhere: `check` prints for a person."""

    def write(self, line: str) -> None:
        """See `LineSink`."""
