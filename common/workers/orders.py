"""How a worker is told to end, and what becomes of its share of the port.

A signal       it drains, and leaves newcomers to its siblings: they may be serving on. Whoever signals all processes
               at once signals the parent too, whose word follows.
The parent     the whole daemon drains: every worker answers newcomers with 503 until its end. Or there is no time.
Nobody left    the parent is gone, or not understood: the port is given up first, since a successor needs it, and then
               it drains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from common.logs import Logger
    from common.web.door import Door
    from common.workers.member import Member


async def heed_orders(signalled: trio.Event, member: Member, door: Door, stop: trio.Event, log: Logger) -> None:
    """Set `stop` at the first order to drain, whoever gives it; return when there is no time to.

    `signalled` is set by the process's own signals.
    """

    async def heed_signals() -> None:
        await signalled.wait()
        if not member.told_to_drain.is_set():
            door.shut()
        stop.set()

    async def heed_parent() -> None:
        await member.told_to_drain.wait()
        door.reopen()
        stop.set()

    async def heed_loss() -> None:
        await member.orphaned.wait()
        door.close()
        if member.breach:
            log.warning("supervisor is not understood", error=member.breach)
        else:
            log.warning("supervisor is gone")
        stop.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(heed_signals)
        nursery.start_soon(heed_parent)
        nursery.start_soon(heed_loss)
        await member.told_to_end.wait()
        nursery.cancel_scope.cancel()
