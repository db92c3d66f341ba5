"""`python -m bench.peers.trio_websocket --port PORT --redis redis://HOST:PORT/DB`: serves until it is killed.

Redis' messages come in over one connection, shared by all clients; each is encoded to JSON once and put into every
subscriber's memory channel; each client's task takes it from there and sends it. A lost Redis connection ends the
process: a bench has no outages.
"""

from __future__ import annotations

import argparse
import re
from functools import partial
from typing import Final
from urllib.parse import unquote, urlsplit

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from bench.peers.trio_websocket.bridge import TrioBridge

PING_INTERVAL: Final = 5.0
PONG_TIMEOUT: Final = 65.0
_TOPIC: Final = re.compile(r"/([A-Za-z0-9_.;-]{1,256}:[A-Za-z0-9_.-]{1,256})/?")


async def serve_client(bridge: TrioBridge, request: WebSocketRequest) -> None:
    """One client from its request to its end."""
    path = unquote(request.path.partition("?")[0])
    if path == "/health":
        await request.reject(200, body=b"OK\n")
        return
    topic = _TOPIC.fullmatch(path)
    if topic is None:
        await request.reject(400, body=b"not a <runid>:<channel>\n")
        return
    async with bridge.subscribe(topic[1]) as frames:
        ws = await request.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ping, ws)
            nursery.start_soon(forward, frames, ws)
            await read_until_gone(ws)
            nursery.cancel_scope.cancel()


async def forward(frames: trio.MemoryReceiveChannel[str], ws: WebSocketConnection) -> None:
    """Ends the connection when it closes, or when the bridge closed the channel since the client was too slow."""
    try:
        async for frame in frames:
            await ws.send_message(frame)
        await ws.aclose(1008, "slow consumer")
    except ConnectionClosed:
        return


async def ping(ws: WebSocketConnection) -> None:
    try:
        while True:
            await trio.sleep(PING_INTERVAL)
            await ws.send_message('{"type":"ping"}')
    except ConnectionClosed:
        return


async def read_until_gone(ws: WebSocketConnection) -> None:
    """Returns when the client closed, or showed no life for `PONG_TIMEOUT`."""
    try:
        while True:
            with trio.fail_after(PONG_TIMEOUT):
                await ws.get_message()
    except (ConnectionClosed, trio.TooSlowError):
        return


async def serve(port: int, redis_host: str, redis_port: int) -> None:
    async with await trio.open_tcp_stream(redis_host, redis_port) as stream, trio.open_nursery() as nursery:
        bridge = TrioBridge(stream)
        nursery.start_soon(bridge.read)
        await serve_websocket(partial(serve_client, bridge), "127.0.0.1", port, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", required=True, metavar="URL", help="Pub/Sub ignores its database number")
    arguments = parser.parse_args()
    redis = urlsplit(arguments.redis)
    trio.run(serve, arguments.port, redis.hostname or "localhost", redis.port or 6379)


if __name__ == "__main__":
    main()
