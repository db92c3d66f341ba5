"""`python -m bench.peers.websockets --port PORT --redis redis://HOST:PORT/DB`: serves until it is killed.

What is published goes to the clients of its channel; see `bridge`. Pub/Sub ignores the database's number.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from bench.peers.websockets.bridge import Bridge, main

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub
    from websockets.asyncio.server import ServerConnection


class StatusBridge(Bridge):
    path = re.compile(r"/([A-Za-z0-9_.;-]{1,256}:[A-Za-z0-9_.-]{1,256})/?")

    def channel(self, topic: str) -> str:
        return topic

    async def forward(self, subscription: PubSub, ws: ServerConnection) -> None:
        async for message in subscription.listen():
            status = {"type": "status", "data": message["data"].decode(errors="replace")}
            await ws.send(json.dumps(status, ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    main(StatusBridge, __doc__)
