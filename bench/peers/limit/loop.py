"""`python -m bench.peers.limit.loop --port PORT --redis redis://HOST:PORT/DB`: the loop of limit.c, without a compiler.

One epoll loop and one Redis connection; the frames of one chunk of Redis' bytes are joined and written to each of the
channel's sockets by a plain `send` in a loop. What limit.c leaves out is left out here as well. Serves until it is
killed; a lost Redis ends it.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import select
import socket
import struct
import time
from typing import Final
from urllib.parse import urlsplit

import attrs
import hiredis

from bench import wire

BACKLOG: Final = 4096
TICK: Final = 0.05
PING_INTERVAL: Final = 5.0
PONG_TIMEOUT: Final = 65.0
SEND_TIMEOUT: Final = struct.pack("ll", 1, 0)
"""A second, as the kernel wants it: a full socket holds up everyone for so long, then its client is closed."""
_PING: Final = wire.server_text(b'{"type":"ping"}')
_CLOSE: Final = b"\x88\x02\x03\xe8"
_HEALTHY: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nOK\n"
_ACCEPTED: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"
)
_KEY: Final = re.compile(rb"\r\nSec-WebSocket-Key: *([A-Za-z0-9+/=]{24})\r\n", re.IGNORECASE)
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_REFUSED: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@attrs.define(eq=False)
class Client:
    sock: socket.socket
    head: bytes = b""
    """The request, while it is incomplete."""
    channel: FollowedChannel | None = None
    answer: bytes = b""
    """Its 101, until Redis has acknowledged the subscription."""
    ping_at: float = 0.0
    heard_at: float = 0.0


@attrs.define(eq=False)
class FollowedChannel:
    clients: set[Client] = attrs.field(factory=set)
    acknowledged: bool = False
    frames: list[bytes] = attrs.field(factory=list)
    """Of the chunk that is being read."""


class Loop:
    def __init__(self, listener: socket.socket, redis: socket.socket) -> None:
        self._listener = listener
        self._redis = redis
        self._replies = hiredis.Reader()
        self._clients: dict[int, Client] = {}
        self._channels: dict[bytes, FollowedChannel] = {}
        self._poll = select.epoll()
        for sock in (listener, redis):
            self._poll.register(sock.fileno(), select.EPOLLIN)

    def run(self) -> None:
        """Returns never; raises ConnectionError when Redis is lost."""
        tick = time.monotonic() + TICK
        while True:
            for descriptor, _ in self._poll.poll(max(0.0, tick - time.monotonic())):
                if descriptor == self._redis.fileno():
                    self._read_redis()
                elif descriptor == self._listener.fileno():
                    self._accept()
                elif client := self._clients.get(descriptor):
                    self._read_client(client)
            if time.monotonic() >= tick:
                self._tend()
                tick = time.monotonic() + TICK

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, SEND_TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clients[sock.fileno()] = Client(sock)
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def _read_client(self, client: Client) -> None:
        try:
            data = client.sock.recv(65536, socket.MSG_DONTWAIT)
        except OSError:
            data = b""
        if not data:
            self._end(client)
        elif client.channel is None:
            client.head += data
            if b"\r\n\r\n" in client.head:
                self._handle_request(client)
        else:
            client.heard_at = time.monotonic()
            if data[0] & 0x0F == wire.CLOSE and self._write(client, _CLOSE):
                self._end(client)

    def _handle_request(self, client: Client) -> None:
        path = client.head.split(b" ", 2)[1].partition(b"?")[0]
        key = _KEY.search(client.head)
        if path == b"/health" or key is None:
            self._write(client, _HEALTHY if path == b"/health" else _REFUSED)
            self._end(client)
            return
        client.head = b""
        client.answer = _ACCEPTED % base64.b64encode(hashlib.sha1(key[1] + _GUID, usedforsecurity=False).digest())
        channel = self._channels.get(path[1:])
        if channel is None:
            channel = self._channels[path[1:]] = FollowedChannel()
            self._redis.sendall(b"SUBSCRIBE %s\r\n" % path[1:])
        client.channel = channel
        channel.clients.add(client)
        if channel.acknowledged:
            self._open(client)

    def _open(self, client: Client) -> None:
        client.heard_at = time.monotonic()
        client.ping_at = client.heard_at + PING_INTERVAL
        self._write(client, client.answer)
        client.answer = b""

    def _tend(self) -> None:
        now = time.monotonic()
        for client in list(self._clients.values()):
            if not client.ping_at or client.ping_at > now:
                continue
            client.ping_at += PING_INTERVAL
            if now - client.heard_at > PONG_TIMEOUT:
                self._end(client)
            else:
                self._write(client, _PING)

    def _read_redis(self) -> None:
        data = self._redis.recv(65536)
        if not data:
            raise ConnectionError("redis closed the connection")
        self._replies.feed(data)
        touched: dict[FollowedChannel, None] = {}
        while (reply := self._replies.gets()) is not False:
            if isinstance(reply, hiredis.ReplyError):
                raise reply
            channel = self._channels[reply[1]]
            if reply[0] == b"message":
                channel.frames.append(_frame(reply[2]))
                touched[channel] = None
            else:
                channel.acknowledged = True
                for client in tuple(channel.clients):
                    self._open(client)
        for channel in touched:
            frames = b"".join(channel.frames)
            channel.frames.clear()
            for client in tuple(channel.clients):
                self._write(client, frames)

    def _write(self, client: Client, data: bytes) -> bool:
        """False: the client is gone."""
        try:
            if client.sock.send(data) == len(data):
                return True
        except OSError:
            self._end(client)
            return False
        self._end(client)  # half a frame
        return False

    def _end(self, client: Client) -> None:
        self._clients.pop(client.sock.fileno(), None)
        if client.channel is not None:
            client.channel.clients.discard(client)
        client.sock.close()


def _frame(payload: bytes) -> bytes:
    status = {"type": "status", "data": payload.decode(errors="replace")}
    return wire.server_text(json.dumps(status, ensure_ascii=False, separators=(",", ":")).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", required=True, metavar="URL", help="Pub/Sub ignores its database number")
    arguments = parser.parse_args()
    url = urlsplit(arguments.redis)
    with (
        socket.create_server(("127.0.0.1", arguments.port), backlog=BACKLOG) as listener,
        socket.create_connection((url.hostname or "localhost", url.port or 6379)) as redis,
    ):
        Loop(listener, redis).run()


if __name__ == "__main__":
    main()
