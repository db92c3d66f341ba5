"""What strangers may send to opsd: nonsense, other protocols, two lengths for one body. It answers or closes, logs no
fault of its own, and goes on.
"""

from __future__ import annotations

import base64
import re
import struct
from typing import TYPE_CHECKING

import jsonschema
import pytest
import trio
import trio.lowlevel

from opsd.heads import LARGEST_HEAD
from opsd.http1 import HEAD_TIMEOUT
from opsd.schema import SCHEMA
from tests.integration.test_opsd import LIVE, get, live, newest, open_opsd
from tests.support.raw import PATIENCE, open_stream, read_to_end

if TYPE_CHECKING:
    from tests.support.daemon import DaemonProcess

pytestmark = pytest.mark.integration

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
NO_BODY = b"Content-Length: 0\r\nConnection: close\r\n\r\n"
LOGIN = b"POST /api/login HTTP/1.1\r\n" + HOST + JSON
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EMPTY_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
ZERO_WINDOW = b"\0\0\x06\x04\0\0\0\0\0" + struct.pack(">HI", 4, 0)
PIECE = b"400\r\n" + b" " * 1024 + b"\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


def head(*lines: bytes, method: bytes = b"GET", target: bytes = b"/api/dev/status") -> bytes:
    """A request's head with these lines behind the usual."""
    return method + b" " + target + b" HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def handshake(*lines: bytes, key: bytes = KEY, version: bytes = b"13", upgrade: bytes = b"Upgrade") -> bytes:
    """A handshake with these lines behind the usual."""
    usual = [b"Connection: " + upgrade, b"Upgrade: websocket"]
    usual += [b"Sec-WebSocket-Version: " + version] if version else []
    usual += [key.removesuffix(b"\r\n")] if key else []
    return head(*usual, *lines, target=b"/api/dev/status/live")


def frame(opcode: int, payload: bytes = b"", *, first: int = 0x80, masked: bool = True) -> bytes:
    """A frame whose mask is all zeros."""
    length = (
        bytes([len(payload)])
        if len(payload) < 126
        else b"\x7e" + struct.pack(">H", len(payload))
        if len(payload) < 1 << 16
        else b"\x7f" + struct.pack(">Q", len(payload))
    )
    length = bytes([length[0] | (0x80 if masked else 0)]) + length[1:]
    return bytes([first | opcode]) + length + (b"\0\0\0\0" if masked else b"") + payload


NEARLY = len(head(b"Connection: close", b"X: "))

REFUSED = {
    "the preface of HTTP/2": (PREFACE + EMPTY_SETTINGS, 505),
    "HTTP/2 with a window of 0": (PREFACE + ZERO_WINDOW, 505),
    "another version": (b"GET / HTTP/3.0\r\n" + HOST + b"\r\n", 505),
    "no version": (b"GET /\r\n\r\n", 400),
    "not HTTP": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", 400),
    "binary": (b"\0\xff\0\r\n\r\n", 400),
    "two lengths": (LOGIN + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
    "no number": (LOGIN + b"Content-Length: +2\r\n\r\n{}", 400),
    "a length and chunks": (LOGIN + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /", 400),
    "chunks and a length": (LOGIN + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /", 400),
    "chunks in HTTP/1.0": (LOGIN.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "an unknown coding": (LOGIN + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "two codings": (LOGIN + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "space before the colon": (head(b"Cookie : a=b"), 400),
    "a header without a colon": (head(b"nonsense"), 400),
    "a control character in a header": (head(b"X: a\0b"), 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (head(b"Host: other"), 400),
    "a host that is none": (b"GET / HTTP/1.1\r\nHost: a b@c\r\n\r\n", 400),
    "a target that is no text": (head(target=b"/\xff\xfe"), 400),
    "a large head": (head(b"X: " + b"x" * LARGEST_HEAD), 431),
    "a large head of many": (head(*[b"X-%d: x" % n for n in range(2000)]), 431),
    "a large target": (head(target=b"/" + b"x" * LARGEST_HEAD), 431),
    "a head without an end": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * (LARGEST_HEAD + 8192), 431),
    "no key": (handshake(key=b""), 400),
    "a short key": (handshake(key=b"Sec-WebSocket-Key: " + base64.b64encode(b"x" * 15)), 400),
    "a long key": (handshake(key=b"Sec-WebSocket-Key: " + base64.b64encode(b"x" * 17)), 400),
    "a key that is none": (handshake(key=b"Sec-WebSocket-Key: \xff\xfe"), 400),
    "two keys": (handshake(KEY.removesuffix(b"\r\n")), 400),
    "another WebSocket": (handshake(version=b"8"), 426),
    "no WebSocket version": (handshake(version=b""), 426),
    "two WebSocket versions": (handshake(b"Sec-WebSocket-Version: 13"), 426),
    "a handshake with a body": (handshake(b"Content-Length: 5") + b"hello", 400),
    "a handshake with chunks": (handshake(b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "a handshake in HTTP/1.0": (handshake().replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
    "a WebSocket elsewhere": (handshake().replace(b"/live", b"/dead"), 404),
    "a login that is no JSON": (LOGIN + b"Content-Length: 1\r\nConnection: close\r\n\r\n{", 400),
    "a login that is no object": (LOGIN + b"Content-Length: 2\r\nConnection: close\r\n\r\n[]", 400),
    "a login that is too deep": (LOGIN + b"Content-Length: 8000\r\nConnection: close\r\n\r\n" + b"[" * 8000, 400),
    "a login that is too large": (LOGIN + b"Content-Length: 9000\r\n\r\n" + b" " * 9000, 413),
    "a login of endless chunks": (LOGIN + b"Transfer-Encoding: chunked\r\n\r\n" + PIECE * 9, 413),
    "a login that is cut short": (LOGIN + b"Content-Length: 10\r\n\r\n{", 400),
    "a page in another spelling": (head(b"Connection: close", target=b"/%6detrics"), 404),
    "an encoded slash": (head(b"Connection: close", target=b"/health%2Flive"), 404),
    "an endpoint in another spelling": (head(b"Connection: close", target=b"/%61pi/dev/status"), 404),
    "a login in another spelling": (LOGIN.replace(b"login", b"logi%6e") + NO_BODY, 404),
    "a WebSocket in another spelling": (handshake().replace(b"/live", b"/liv%65"), 404),
    "a page and a slash": (head(b"Connection: close", target=b"/metrics/"), 404),
    "a page of another server": (head(b"Connection: close", target=b"http://localhost/metrics"), 404),
    "bad chunks": (LOGIN + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "a chunk with a huge length": (LOGIN + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n", 400),
}  # fmt: skip

SERVED = {
    "h2c": head(b"Connection: Upgrade, HTTP2-Settings, close", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
    "h2c on a stranger's terms": head(b"Connection: close", b"Upgrade: h2c", b"HTTP2-Settings: \xff"),
    "another upgrade": head(b"Connection: Upgrade, close", b"Upgrade: TLS/1.2"),
    "an upgrade that is no text": head(b"Connection: close, \xff", b"Upgrade: \xff"),
    "a body that nobody wants": head(b"Connection: close", b"Content-Length: 5") + b"hello",
    "lines that go on": head(b"Connection: close", b"X: a\r\n b"),
    "a whole address": head(b"Connection: close", target=b"/api/dev/status?a=%ff#f"),
    "a head of the largest size": head(b"Connection: close", b"X: " + b"x" * (LARGEST_HEAD - NEARLY)),
}

CONVERSATIONS = {
    "a frame without a mask": frame(1, b"x", masked=False),
    "a reserved bit": frame(1, b"x", first=0xC0),
    "a reserved opcode": frame(3),
    "a long ping": frame(9, b"x" * 126),
    "a fragmented ping": frame(9, b"x", first=0),
    "a continuation of nothing": frame(0, b"x"),
    "text that is none": frame(1, b"\xff\xfe"),
    "text that is cut": frame(1, b"\xe2\x82"),
    "a close without a code": frame(8),
    "a close of one byte": frame(8, b"\x03"),
    "a close that can't be": frame(8, struct.pack(">H", 1005)),
    "a close with bad text": frame(8, struct.pack(">H", 1000) + b"\xff"),
    "a close and more": frame(8, struct.pack(">H", 1000)) + frame(1, b"x") * 10,
    "a message that is too large": frame(1, b"x" * 70_000),
    "a message of pieces that is too large": frame(1, b"x" * 1000, first=0) + frame(0, b"x" * 1000, first=0) * 100,
    "a length that can't be": b"\x81\xff" + b"\xff" * 8,
    "empty pieces": frame(1, first=0) + frame(0, first=0) * 1000 + frame(8, struct.pack(">H", 1000)),
    "HTTP": head(b"Connection: close"),
}

OFFERS = {
    "compression": b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    "compression that can't be": b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=no",
    "an extension that is no text": b"Sec-WebSocket-Extensions: \xff\xfe",
    "a subprotocol": b"Sec-WebSocket-Protocol: chat, \xff",
}


async def say(opsd: DaemonProcess, data: bytes, *, leaves: bool = False) -> bytes:
    """Send that in one piece, and read until opsd closes; or leave at once."""
    with trio.fail_after(PATIENCE):
        async with await open_stream(opsd.port) as stream:
            try:
                await stream.send_all(data)
                if leaves:
                    return b""
                await stream.send_eof()
                return await read_to_end(stream)
            except trio.BrokenResourceError:
                # It had answered and closed before all of this was sent.
                return b""


async def dribble(opsd: DaemonProcess, data: bytes) -> bytes:
    """The same in pieces."""
    with trio.fail_after(PATIENCE):
        async with await open_stream(opsd.port) as stream:
            try:
                for start in range(0, len(data), 997):
                    await stream.send_all(data[start : start + 997])
                    await trio.lowlevel.checkpoint()
                await stream.send_eof()
                return await read_to_end(stream)
            except trio.BrokenResourceError:
                return b""


def status_of(answer: bytes) -> int | None:
    """None when there was no time to read an answer."""
    return int(answer.split(b" ", 2)[1]) if answer else None


async def goes_on(opsd: DaemonProcess) -> None:
    """Whoever comes next is served, and nothing that happened was opsd's fault."""
    answer = await get(opsd, "/api/dev/status")
    assert answer.status_code == 200
    jsonschema.validate(answer.json(), SCHEMA)
    assert [line for line in opsd.lines if line["level"] == "error" or "traceback" in line] == []
    assert opsd.said("http server") == []


async def test_what_is_not_to_be_served_is_refused_and_the_connection_closed() -> None:
    async with open_opsd() as opsd, live(opsd) as websocket:
        for what, (data, status) in REFUSED.items():
            for answer in (await say(opsd, data), await dribble(opsd, data), await say(opsd, data, leaves=True)):
                assert status_of(answer) in {status, None}, (what, answer)
                assert len(re.findall(rb"HTTP/1\.1 \d", answer)) == bool(answer), (what, answer)
        await newest(websocket)
        await goes_on(opsd)


async def test_what_is_strange_but_clear_is_served() -> None:
    async with open_opsd() as opsd:
        for what, data in SERVED.items():
            for answer in (await say(opsd, data), await dribble(opsd, data)):
                assert status_of(answer) == 200, (what, answer)
        await goes_on(opsd)


async def test_a_conversation_that_makes_no_sense_ends() -> None:
    async with open_opsd() as opsd, live(opsd) as websocket:
        for what, data in CONVERSATIONS.items():
            with trio.fail_after(PATIENCE):
                async with await open_stream(opsd.port) as stream:
                    await stream.send_all(LIVE)
                    answer = b""
                    while b"\r\n\r\n" not in answer:
                        answer += (chunk := await stream.receive_some())
                        assert chunk, what
                    await stream.send_all(data)
                    # It closes by itself: this side says no more, and does not close.
                    await read_until_closed(stream)
        await newest(websocket)
        await goes_on(opsd)


async def test_nothing_that_a_handshake_offers_is_taken() -> None:
    async with open_opsd() as opsd:
        for what, offer in OFFERS.items():
            with trio.fail_after(PATIENCE):
                async with await open_stream(opsd.port) as stream:
                    await stream.send_all(handshake(offer))
                    answer = b""
                    while b"\r\n\r\n" not in answer:
                        answer += (chunk := await stream.receive_some())
                        assert chunk, what
            assert status_of(answer) == 101, (what, answer)
            assert b"sec-websocket-extensions" not in answer.partition(b"\r\n\r\n")[0].lower()
            assert b"sec-websocket-protocol" not in answer.partition(b"\r\n\r\n")[0].lower()
        await goes_on(opsd)


async def test_a_head_that_comes_byte_by_byte_has_a_deadline_as_a_whole() -> None:
    async with open_opsd() as opsd:
        with trio.fail_after(HEAD_TIMEOUT + PATIENCE):
            async with await open_stream(opsd.port) as stream, trio.open_nursery() as nursery:
                nursery.start_soon(send_slowly, stream, b"GET /api/dev/status HTTP/1.1\r\nX: " + b"x" * 10_000)
                assert await read_until_closed(stream) == b""
                nursery.cancel_scope.cancel()
        await goes_on(opsd)


@pytest.mark.parametrize("path", [b"/api/login", b"/api/logout", b"/api/dev/tmux/stop"])
async def test_a_body_that_never_ends_ends_the_connection(path: bytes) -> None:
    async with open_opsd() as opsd:
        with trio.fail_after(PATIENCE):
            async with await open_stream(opsd.port) as stream, trio.open_nursery() as nursery:
                lines = (JSON.rstrip(), b"X-Ops-Request: 1", b"Content-Length: 8000")
                await stream.send_all(head(*lines, method=b"POST", target=path))
                nursery.start_soon(send_slowly, stream, b" " * 8000)
                assert (await read_until_closed(stream)).count(b"HTTP/1.1 ") <= 1
                nursery.cancel_scope.cancel()
        await goes_on(opsd)


async def read_until_closed(stream: trio.SocketStream) -> bytes:
    """What came until the other side closed: with a reset, which takes away what was not read, if we still sent."""
    data = b""
    try:
        while chunk := await stream.receive_some():
            data += chunk
    except trio.BrokenResourceError:
        pass
    return data


async def send_slowly(stream: trio.SocketStream, data: bytes) -> None:
    """Byte by byte, until it is refused."""
    try:
        for byte in data:
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.2)
    except trio.BrokenResourceError:
        return
