"""One Redis connection shared by all clients; whoever makes the `TrioBridge` owns the stream and runs `read`.

A channel is subscribed while at least one client listens to it; each client has a bounded memory channel of frames.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import hiredis
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

QUEUE: Final = 1000
"""Frames that may wait for one client; one more, and it is too slow and ends."""
REQUEST_TIMEOUT: Final = 10.0


class TrioBridge:
    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._sending = trio.Lock()
        self._clients: dict[str, set[trio.MemorySendChannel[str]]] = {}
        self._subscribed: dict[str, trio.Event] = {}

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[trio.MemoryReceiveChannel[str]]:
        """The channel's frames from now on; Redis has acknowledged the subscription when the block is entered."""
        send, receive = trio.open_memory_channel[str](QUEUE)
        clients = self._clients.setdefault(channel, set())
        clients.add(send)
        try:
            with trio.fail_after(REQUEST_TIMEOUT):
                if channel not in self._subscribed:
                    self._subscribed[channel] = trio.Event()
                    await self._request(f"SUBSCRIBE {channel}")
                await self._subscribed[channel].wait()
            yield receive
        finally:
            clients.discard(send)
            send.close()
            if not clients and channel in self._subscribed:
                del self._subscribed[channel], self._clients[channel]
                with trio.move_on_after(REQUEST_TIMEOUT, shield=True):
                    await self._request(f"UNSUBSCRIBE {channel}")

    async def read(self) -> None:
        """Hand out what Redis sends, until it closes the connection."""
        replies = hiredis.Reader()
        while data := await self._stream.receive_some(65536):
            replies.feed(data)
            while (reply := replies.gets()) is not False:
                if isinstance(reply, hiredis.ReplyError):
                    raise reply
                kind, channel = reply[0], reply[1].decode()
                if kind == b"message":
                    self._dispatch(channel, reply[2])
                elif kind == b"subscribe" and channel in self._subscribed:
                    self._subscribed[channel].set()
        raise ConnectionError("redis closed the connection")

    def _dispatch(self, channel: str, payload: bytes) -> None:
        clients = self._clients.get(channel)
        if not clients:
            return
        status = {"type": "status", "data": payload.decode(errors="replace")}
        frame = json.dumps(status, ensure_ascii=False, separators=(",", ":"))
        for client in tuple(clients):
            try:
                client.send_nowait(frame)
            except trio.WouldBlock:
                clients.discard(client)
                client.close()
            except trio.BrokenResourceError:
                clients.discard(client)

    async def _request(self, command: str) -> None:
        async with self._sending:
            await self._stream.send_all(command.encode() + b"\r\n")
