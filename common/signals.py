"""How a process is told to end: once to drain, and again, later, to end at once (SPEC 6).

Whoever manages services repeats itself: systemd signals every process of a unit, an `ExecStop=kill $MAINPID` is
followed by its own SIGTERM, a terminal's Ctrl-C reaches the whole group. So only a signal that comes `IMPATIENCE`
seconds or more after the first one means that somebody has lost patience; and a worker never thinks so, since who has
lost patience tells its parent.
"""

from __future__ import annotations

import math
import signal
from typing import TYPE_CHECKING, Final

import trio

from common.early import ending_signals, take_noted
from common.exits import Exit

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

    from common.logs import Logger

IMPATIENCE: Final = 1.0
"""Seconds after the first signal from which on another one ends the process at once."""


async def run_until_told(
    run: Callable[[trio.Event], Awaitable[int]], log: Logger, *, impatience: float = IMPATIENCE
) -> int:
    """Call `run` with an event that the first SIGTERM, SIGINT or SIGHUP sets; return the exit code.

    A signal `impatience` seconds or more after it cancels `run`. A signal that came before this was called
    (`common.early`) is the first one.
    """
    code: int = Exit.FAILED
    stop = trio.Event()
    # The receiver stands outside of everything that it ends: no signal is missed, the second neither.
    with trio.open_signal_receiver(*ending_signals()) as signals:
        async with trio.open_nursery() as nursery:

            async def end_if_told_again() -> None:
                number = await heed(signals, stop, impatience, told=bool(take_noted()))
                log.warning("ended by a second signal", signal=signal.Signals(number).name)
                nursery.cancel_scope.cancel()

            nursery.start_soon(end_if_told_again)
            code = await run(stop)
            nursery.cancel_scope.cancel()
    return code


async def heed(signals: AsyncIterable[int], stop: trio.Event, impatience: float, *, told: bool = False) -> int:
    """Set `stop` at the first of `signals`, or at once if `told` already; return the first that is impatient."""
    patient_until = math.inf
    if told:
        stop.set()
        patient_until = trio.current_time() + impatience
    async for number in signals:
        if not stop.is_set():
            stop.set()
            patient_until = trio.current_time() + impatience
        elif trio.current_time() >= patient_until:
            return number
    raise RuntimeError("signals never end")
