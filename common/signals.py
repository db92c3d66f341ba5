"""How a process is told to end: once to drain, twice to end at once (SPEC 6)."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from common.logs import Logger

ENDED_BY_SIGNAL: Final = 1


async def run_until_told(run: Callable[[trio.Event], Awaitable[int]], log: Logger) -> int:
    """Call `run` with an event that the first SIGTERM or SIGINT sets; a second one cancels it. Return the exit code."""
    code = ENDED_BY_SIGNAL
    stop = trio.Event()
    # The receiver stands outside of everything that it ends: no signal is missed, the second neither.
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def heed() -> None:
                async for number in signals:
                    if stop.is_set():
                        log.warning("ended by a second signal", signal=signal.Signals(number).name)
                        nursery.cancel_scope.cancel()
                        return
                    stop.set()

            nursery.start_soon(heed)
            code = await run(stop)
            nursery.cancel_scope.cancel()
    return code
