"""A WebSocket client for tests, over any stream: what it saw, when, byte for byte.

It shares no code with the server: frames are split by hand, and strictly, so that a torn or masked frame fails the test
that sees it. `Client.run` reads in a task of the test's nursery until the other side ends or the test cancels it.
"""

from __future__ import annotations

import base64
import math
import struct
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

PING_PAYLOAD: Final = b'{"type":"ping"}'
HANGUP_PAYLOAD: Final = b'{"type":"hangup"}'
PONG_PAYLOAD: Final = b'{"type":"pong"}'


class Seen(NamedTuple):
    """One frame that came, and the time (`trio.current_time`) at which its last byte was read."""

    time: float
    opcode: int
    payload: bytes


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, mask: bytes | None = b"\x01\x02\x03\x04"
) -> bytes:
    """A client's frame; without `mask` one that a server must refuse."""
    size = len(payload)
    first, masked = fin << 7 | reserved << 4 | opcode, 0x80 if mask is not None else 0
    if size < 126:
        head = struct.pack("!BB", first, masked | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, masked | 126, size)
    else:
        head = struct.pack("!BBQ", first, masked | 127, size)
    if mask is None:
        return head + payload
    key = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def close_frame(code: int | None = 1000, reason: bytes = b"") -> bytes:
    """A client's close frame."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def handshake(path: str, headers: Mapping[str, str] | None = None, *, key: bytes = b"0123456789abcdef") -> bytes:
    """The bytes of an upgrade request."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: example.org",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(key).decode()}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "".join(line + "\r\n" for line in [*lines, ""]).encode()


def split_frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The whole frames of a server at the start of `data`, and the rest. Only what our server may send is accepted."""
    frames: list[tuple[int, bytes]] = []
    at = 0
    while len(data) - at >= 2:
        first, size = data[at], data[at + 1]
        assert first & 0xF0 == 0x80, f"a fragment or a reserved bit: {first:#x}"
        assert first & 0x0F in {TEXT, CLOSE, PONG}, f"a server does not send opcode {first & 0x0F}"
        assert size < 0x80, "a server's frame is not masked"
        start = at + {126: 4, 127: 10}.get(size, 2)
        if len(data) < start:
            break
        end = start + (int.from_bytes(data[at + 2 : start], "big") if size > 125 else size)
        if len(data) < end:
            break
        frames.append((first & 0x0F, data[start:end]))
        at = end
    return frames, data[at:]


class Client:
    """One client on `stream`; it answers heartbeats while `answers` is true, and a close frame if `echoes`."""

    def __init__(
        self, stream: trio.abc.Stream, *, answers: bool = True, echoes: bool = False, read_size: int = 1 << 16
    ) -> None:
        self.stream = stream
        self.answers = answers
        self.echoes = echoes
        self.head = b""
        """The head of the HTTP answer, its empty line included."""
        self.body = bytearray()
        """What came behind the head, whatever it is."""
        self.seen: list[Seen] = []
        """The frames, if the answer was a 101."""
        self.ended_at = math.inf
        """When the other side ended, and the run with it."""
        self._read_size = read_size
        self._rest = b""
        self._scope = trio.CancelScope()
        self._sending = trio.Lock()
        self._news = trio.lowlevel.ParkingLot()

    # -- what came ----------------------------------------------------------------------------------------------------

    @property
    def status(self) -> int | None:
        """The status of the HTTP answer, None before it came."""
        return int(self.head.split(b" ", 2)[1]) if self.head else None

    @property
    def texts(self) -> list[bytes]:
        """Every text message."""
        return [seen.payload for seen in self.seen if seen.opcode == TEXT]

    @property
    def messages(self) -> list[bytes]:
        """The text messages without pings."""
        return [text for text in self.texts if text != PING_PAYLOAD]

    def newest(self, count: int) -> list[bytes]:
        """The payloads of the last frames, newest first and without pings: of these any number may have followed."""
        return list(islice((seen.payload for seen in reversed(self.seen) if seen.payload != PING_PAYLOAD), count))

    @property
    def pings(self) -> list[float]:
        """When the heartbeats came."""
        return [seen.time for seen in self.seen if seen[1:] == (TEXT, PING_PAYLOAD)]

    @property
    def close_code(self) -> int | None:
        """The code of the close frame, None without one. Nothing may come behind a close frame."""
        codes = [int.from_bytes(seen.payload[:2], "big") for seen in self.seen if seen.opcode == CLOSE]
        assert len(codes) <= 1, "more than one close frame"
        assert not codes or self.seen[-1].opcode == CLOSE, "a frame behind the close frame"
        return codes[0] if codes else None

    @property
    def ended(self) -> bool:
        """Whether the other side has ended its bytes."""
        return self.ended_at < math.inf

    def header(self, name: str) -> str | None:
        """The value of a header of the HTTP answer."""
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None

    async def wait(self, condition: Callable[[Client], bool], *, within: float = 60.0) -> None:
        """Wait until `condition` holds, at most `within` seconds."""
        with trio.fail_after(within):
            while not condition(self):
                await self._news.park()

    async def wait_ended(self, *, within: float = 60.0) -> None:
        """Wait until the other side has ended."""
        await self.wait(lambda client: client.ended, within=within)

    # -- what it does -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Read until the other side ends, or `stop_reading`."""
        with self._scope:
            while data := await self._receive():
                known = len(self.seen)
                self._take(bytes(data))
                self._news.unpark_all()
                for seen in self.seen[known:]:
                    if self.answers and seen.payload == PING_PAYLOAD:
                        await self.send(TEXT, PONG_PAYLOAD)
                    elif self.echoes and seen.opcode == CLOSE:
                        await self.send(CLOSE, seen.payload)
            self.ended_at = trio.current_time()
            self._news.unpark_all()

    def stop_reading(self) -> None:
        """Read no more, and keep the connection."""
        self._scope.cancel()

    async def send(self, opcode: int, payload: bytes = b"", *, fin: bool = True) -> None:
        """Send one frame; the other side may be gone already."""
        await self.send_raw(frame(opcode, payload, fin=fin))

    async def send_raw(self, data: bytes) -> None:
        """Send these bytes; the other side may be gone already."""
        try:
            async with self._sending:
                await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.lowlevel.checkpoint()

    async def send_close(self, code: int | None = 1000) -> None:
        """Send a close frame, and answer none any more."""
        self.echoes = False
        await self.send_raw(close_frame(code))

    async def _receive(self) -> bytes | bytearray:
        try:
            return await self.stream.receive_some(self._read_size)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    def _take(self, data: bytes) -> None:
        if not self.head:
            self._rest += data
            head, blank, rest = self._rest.partition(b"\r\n\r\n")
            if not blank:
                return
            self.head, self._rest, data = head + blank, b"", rest
        self.body += data
        if self.status == 101:
            frames, self._rest = split_frames(self._rest + data)
            self.seen += [Seen(trio.current_time(), *frame) for frame in frames]
