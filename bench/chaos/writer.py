"""Whoever writes the run hashes: every write is a whole hash with its number in it, so that each state has one frame,
whatever Redis has forgotten meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from tests.support.load import Console, RedisGoneError
from tests.support.preflight import WEPP, frame_of
from tests.support.raw import open_stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.embedded import EmbeddedRedis

FIRST: Final = 1_700_000_000
AGAIN: Final = 0.05
"""Seconds between two attempts to reach a server that is away."""


class Writer:
    """Writes the runs of `busy` every `pace` seconds, and those of `quiet` when asked to."""

    def __init__(self, redis: EmbeddedRedis, busy: Sequence[str], quiet: Sequence[str], pace: float) -> None:
        self.truths: dict[str, dict[bytes, int]] = {run: {frame_of({}): 0} for run in (*busy, *quiet)}
        """Of each run: the frames that its clients may get, and the numbers of the writes that they tell of."""
        self.number = 0
        """Of the last write that was begun."""
        self._redis = redis
        self._busy = busy
        self._quiet = quiet
        self._pace = pace
        self._asked: trio.Event | None = None
        self._paused = False

    async def write_quiet(self) -> None:
        """Write the quiet runs once, and return when Redis has it."""
        asked = self._asked = trio.Event()
        await asked.wait()

    def pause(self) -> None:
        """Write no more."""
        self._paused = True

    async def run(self) -> None:
        """Write until cancelled, over as many connections as it takes."""
        while True:
            try:
                async with await open_stream(self._redis.port) as stream:
                    console = Console(stream)
                    while True:
                        await self._round(console)
                        await trio.sleep(self._pace)
            except (OSError, RedisGoneError):
                await trio.sleep(AGAIN)

    async def _round(self, console: Console) -> None:
        asked = self._asked
        runs = [] if self._paused else [*self._busy, *(self._quiet if asked is not None else ())]
        if not runs:
            return
        self.number += 1
        fields = {b"timestamps:" + step: b"%d" % (FIRST + index) for index, step in enumerate(WEPP)}
        fields[b"timestamps:" + WEPP[-1]] = b"%d" % (FIRST + 1000 + self.number)
        frame = frame_of(fields)
        for run in runs:
            # Noted first: a client may hear of it before we do.
            self.truths[run][frame] = self.number
        flat: list[bytes | str | int] = [part for item in fields.items() for part in item]
        await console.ask(*(["HSET", run, *flat] for run in runs))
        if asked is not None:
            asked.set()
            self._asked = None
