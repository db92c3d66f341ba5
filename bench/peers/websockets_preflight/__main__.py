"""`python -m bench.peers.websockets_preflight --port PORT --redis redis://HOST:PORT/DB`: serves until it is killed.

Each client's tasks read the run hash for it alone, when it comes and when it is notified of a change, evaluate it, and
send it what differs from what it was sent last; see `bench.peers.websockets.bridge`. What a hash says is preflightd's
own function: the content must be the same to the byte.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, cast

from bench.peers.websockets.bridge import Bridge, main
from preflightd.checklist import packaged, to_json
from preflightd.route import run_key

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub
    from websockets.asyncio.server import ServerConnection

    from preflightd.checklist import Snapshot
    from preflightd.evaluator import Hash


class ChecklistBridge(Bridge):
    path = re.compile(r"/([A-Za-z0-9_.;-]{1,256})/?")

    def channel(self, topic: str) -> str:
        return f"__keyspace@{self.redis.connection_pool.connection_kwargs.get('db', 0)}__:{topic}"

    async def forward(self, subscription: PubSub, ws: ServerConnection) -> None:
        (channel,) = subscription.channels
        key = run_key(channel)
        changed = asyncio.Event()
        changed.set()  # the first frame is due at once
        told = None
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(note_changes(subscription, changed))
            while True:
                await changed.wait()
                # What was noted before a read begins is in it; what is noted meanwhile is one read more.
                changed.clear()
                snapshot = packaged().evaluate(cast("Hash", await self.redis.hgetall(key)))
                if snapshot != told:
                    await ws.send(message(snapshot))
                    told = snapshot


async def note_changes(subscription: PubSub, changed: asyncio.Event) -> None:
    async for _ in subscription.listen():
        changed.set()


def message(snapshot: Snapshot) -> str:
    """The payload of `Snapshot.frame`: `websockets` makes its own frames."""
    content = {name: value for name, value in snapshot.content().items() if value is not None}
    return to_json({"type": "preflight", **content})


if __name__ == "__main__":
    main(ChecklistBridge, __doc__)
