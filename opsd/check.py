"""`opsd check`: whether Redis answers, and what each source and tmux have to say.

Nothing but Redis fails the check: sources come and go, and opsd is there to say so.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Final, TextIO

import trio

from common.check import check_redis
from common.daemons import OPS
from common.exits import Exit
from common.redis.errors import ResponseError
from common.redis.policy import Channels
from opsd.keys import keys_of
from opsd.sources.configured import make_sources
from opsd.tmux.session import Tmux

if TYPE_CHECKING:
    from common.redis.links import RedisLink
    from opsd.keys import Keys
    from opsd.settings import OpsSettings
    from opsd.sources.interface import Source

MARGIN: Final = 1.0
"""Seconds that a source is waited for beyond OPS_WORKERS_TIMEOUT, by which it has answered or failed."""


async def check(settings: OpsSettings, out: TextIO) -> int:
    """Print all of that to `out`; return 0 if Redis answers, else 1."""
    keys = keys_of(settings)
    answers = await check_redis(OPS.name, settings, out, Channels.NONE, probe=partial(_probe, keys))
    out.write(f"history: {keys.history}\n")
    sources = make_sources(settings, random.SystemRandom())
    lines: dict[str, str] = {}
    async with trio.open_nursery() as nursery:
        for source in sources:
            nursery.start_soon(_ask, source, settings.workers_timeout + MARGIN, lines)
    out.writelines(f"{lines[source.name]}\n" for source in sources)
    tmux = await Tmux(settings.tmux_session).status()
    found = f"OK, {len(tmux.sessions)} sessions" if tmux.available else f"none: {tmux.reason}"
    out.write(f"tmux: {found}\n")
    return Exit.OK if answers else Exit.FAILED


async def _probe(keys: Keys, link: RedisLink) -> None:
    """Ask for what is kept, and write nothing: Redis looks at the user's rights before it looks at the id."""
    await link.request("TIME")
    for key in (keys.history, keys.alerts):
        await link.request("XRANGE", key, "-", "+", "COUNT", 1, key=key)
        try:
            await link.request("XADD", key, "not-an-id", "v", "", key=key)
        except ResponseError as error:
            if "Invalid stream ID" not in str(error):
                raise


async def _ask(source: Source, within: float, lines: dict[str, str]) -> None:
    asked = trio.Event()

    def look() -> None:
        if source.asked:
            asked.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run, look)
        with trio.move_on_after(within):
            await asked.wait()
        nursery.cancel_scope.cancel()
    reading = source.reading
    if reading.status is None:
        lines[source.name] = f"warning: {source.name}: unavailable: {reading.problem}"
    else:
        lines[source.name] = f"{source.name}: OK, {len(reading.status.workers)} workers"
