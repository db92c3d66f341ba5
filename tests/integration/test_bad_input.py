"""What clients should not send, over real sockets: a clear status or close code, one line in the log, nobody harmed.

Each test ends where it began: with the descriptors that the daemon had, and a healthy client that missed nothing.
"""

from __future__ import annotations

import os
import signal
import struct
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.client import BINARY, CLOSE, CONTINUATION, PING, TEXT, close_frame, frame, handshake
from tests.support.raw import (
    PATIENCE,
    Answer,
    RawClient,
    ask,
    open_stream,
    read_to_end,
    request_head,
    reset,
    start_client,
)
from tests.support.scene import LIMIT, open_scene

if TYPE_CHECKING:
    from collections.abc import Mapping

    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

HANDSHAKE_TIMEOUT = 2.0
"""Seconds, where a head is to be given up."""

LONG = 100_000
"""Bytes of a request of which the daemon does not read all before it answers."""

# -- requests ---------------------------------------------------------------------------------------------------------

BAD_REQUESTS: Mapping[str, tuple[bytes, int, str]] = {
    "garbage": (b"hello?\r\n\r\n", 400, "malformed"),
    "no version": (b"GET /run:log\r\n\r\n", 400, "malformed"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50) + b"\r\n\r\n", 400, "malformed"),
    "nulls": (bytes(1000) + b"\r\n\r\n", 400, "malformed"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_path"),
    "no host": (b"GET /run:log HTTP/1.1\r\n\r\n", 400, "malformed"),
    "two hosts": (b"GET /run:log HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "malformed"),
    "a header without a colon": (b"GET /run:log HTTP/1.1\r\nHost: a\r\nUpgrade\r\n\r\n", 400, "malformed"),
    "a space before the colon": (b"GET /run:log HTTP/1.1\r\nHost : a\r\n\r\n", 400, "malformed"),
    "a null in a header": (b"GET /run:log HTTP/1.1\r\nHost: a\x00b\r\n\r\n", 400, "malformed"),
    "a control character in the path": (b"GET /run\x01:log HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
    "a bad length": (b"GET /run:log HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, "malformed"),
    "two lengths": (
        b"GET /run:log HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        400,
        "malformed",
    ),
    "a path of 20 KB": (request_head("/" + "r" * 20_000 + ":log"), 431, "head_too_large"),
    "a header of 20 KB": (request_head("/run:log", headers={"Cookie": "x" * 20_000}), 431, "head_too_large"),
    "1 MB of headers": (
        request_head("/run:log", headers={f"X-{k}": "x" * 1000 for k in range(1030)}),
        431,
        "head_too_large",
    ),
    "1 MB without an end of line": (b"GET /" + b"x" * (1 << 20), 431, "head_too_large"),
    "no WebSocket": (request_head("/run:log", headers={"Upgrade": "h2c", "Connection": "Upgrade"}), 426, "no_upgrade"),
    "a wrong version": (handshake("/run:log").replace(b"Version: 13", b"Version: 12"), 426, "bad_version"),
    "chunks": (handshake("/run:log", {"Transfer-Encoding": "chunked"}) + b"0\r\n\r\n", 400, "bad_upgrade"),
}


async def test_a_bad_request_gets_its_status_and_one_line_in_the_log(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_scene(redis_server, nursery) as scene:
        daemon = scene.daemon
        for number, (name, (request, status, reason)) in enumerate(BAD_REQUESTS.items(), 1):
            answer = await (ask(daemon.port, request) if len(request) < LONG else ask_at_length(daemon.port, request))
            assert (name, answer.status) == (name, status)
            assert answer.body.count(b"\n") == 1, name
            lines = await daemon.wait_said("request refused", number)
            assert [(name, line["status"], line["reason"]) for line in lines[number - 1 :]] == [(name, status, reason)]
            await scene.heartbeat()


async def ask_at_length(port: int, request: bytes) -> Answer:
    """The answer to what is sent on while the daemon answers: it hears a second of that (`LINGER`), and who gets no
    time to be done by then is reset, which takes no answer away from who has it."""
    async with trio.open_nursery() as nursery:
        client = await start_client(nursery, port)
        await client.send_raw(request)
        await client.wait_ended(within=PATIENCE)
    return Answer.parse(client.head + client.body)


@pytest.mark.sensitive
async def test_a_head_that_never_ends_is_given_up(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    async with open_scene(redis_server, nursery, handshake_timeout=f"{HANDSHAKE_TIMEOUT:g}s") as scene:
        daemon = scene.daemon

        async def dribble(client: RawClient) -> None:
            for byte in handshake("/run:log", {"Cookie": "x" * 10_000})[1:]:
                await client.send_raw(bytes([byte]))
                await trio.sleep(0.02)

        start = trio.current_time()
        # Halted, the daemon does not take the one for silent before its first byte is there.
        os.kill(daemon.pid, signal.SIGSTOP)
        dribbler = await start_client(nursery, daemon.port, b"G")
        os.kill(daemon.pid, signal.SIGCONT)
        silent = await start_client(nursery, daemon.port)
        async with trio.open_nursery() as dribbling:
            dribbling.start_soon(dribble, dribbler)
            await dribbler.wait(lambda client: client.status is not None, within=PATIENCE)
            dribbling.cancel_scope.cancel()
        assert (dribbler.status, trio.current_time() - start >= HANDSHAKE_TIMEOUT) == (408, True)
        await daemon.wait_said("request refused", status=408)
        # It never said a word, as a load balancer's probe: neither does the daemon.
        await silent.wait_ended(within=PATIENCE)
        assert (silent.head, len(daemon.said("request refused"))) == (b"", 1)
        await scene.heartbeat()


async def test_a_head_that_is_cut_off_leaves_nothing_behind(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    # Behind a whole head, the reset may come before or after the answer: a failed write, or a client that is gone.
    async with open_scene(redis_server, nursery, "connection ended with error") as scene:
        request = handshake("/run:log")
        for size in (0, 1, len(request) // 2, len(request) - 1, len(request)):
            stream = await open_stream(scene.daemon.port)
            await stream.send_all(request[:size])
            reset(stream)
            async with await open_stream(scene.daemon.port) as stream:
                await stream.send_all(request[:size])
                await stream.send_eof()
                with trio.fail_after(PATIENCE):
                    answer = await read_to_end(stream)
            expected = b"" if size == 0 else b"HTTP/1.1 101 " if size == len(request) else b"HTTP/1.1 400 "
            assert (size, answer[:13]) == (size, expected)
        await scene.heartbeat()


# -- frames -----------------------------------------------------------------------------------------------------------


def raw(first: int, second: int, rest: bytes = b"") -> bytes:
    """A frame that no helper would make: its first two bytes as they are, and what follows."""
    return bytes([first, second]) + rest


MASK = b"\x00\x00\x00\x00"
FLUSS = "Fluß".encode()
OPEN_TEXT = frame(TEXT, b"half", fin=False)

BREACHES: Mapping[str, tuple[bytes, int, str]] = {
    "unmasked": (frame(TEXT, b"{}", mask=None), 1002, "protocol_error"),
    **{f"reserved bit {bit}": (frame(TEXT, b"{}", reserved=bit), 1002, "protocol_error") for bit in (4, 2, 1)},
    **{f"opcode {code}": (frame(code), 1002, "protocol_error") for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "a fragmented ping": (frame(PING, b"x", fin=False), 1002, "protocol_error"),
    "a fragmented close": (frame(CLOSE, b"", fin=False), 1002, "protocol_error"),
    "a ping of 126 bytes": (frame(PING, b"x" * 126), 1002, "protocol_error"),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), 1002, "protocol_error"),
    "a new message within another": (OPEN_TEXT + frame(TEXT, b"x"), 1002, "protocol_error"),
    "binary within text": (OPEN_TEXT + frame(BINARY, b"x"), 1002, "protocol_error"),
    "a small length in 16 bits": (raw(0x81, 0xFE, b"\x00\x05" + MASK + b"12345"), 1002, "protocol_error"),
    "a small length in 64 bits": (raw(0x81, 0xFF, struct.pack("!Q", 5) + MASK + b"12345"), 1002, "protocol_error"),
    "a negative length": (raw(0x81, 0xFF, b"\xff" * 8 + MASK), 1002, "protocol_error"),
    "text that is not UTF-8": (frame(TEXT, b"\xff\xfe"), 1007, "protocol_error"),
    "an overlong slash": (frame(TEXT, b"\xc0\xaf"), 1007, "protocol_error"),
    "a surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007, "protocol_error"),
    "a cut character": (frame(TEXT, FLUSS[:-1]), 1007, "protocol_error"),
    "a cut character in fragments": (
        frame(TEXT, FLUSS[:-1], fin=False) + frame(CONTINUATION, b"x"),
        1007,
        "protocol_error",
    ),
    "one byte over the limit": (frame(TEXT, b"x" * (LIMIT + 1)), 1009, "message_too_big"),
    "binary over the limit": (frame(BINARY, b"x" * (LIMIT + 1)), 1009, "message_too_big"),
    "65 KB": (frame(TEXT, b"x" * 65 * 1024), 1009, "message_too_big"),
    "over the limit in bytes, not in characters": (frame(TEXT, b"\xc3\x9f" * 40_000), 1009, "message_too_big"),
    "over the limit in fragments": (
        frame(TEXT, b"x" * LIMIT, fin=False) + frame(CONTINUATION, b"x"),
        1009,
        "message_too_big",
    ),
    "a terabyte, declared": (
        raw(0x81, 0xFF, struct.pack("!Q", 1 << 40) + MASK + b"x" * 70_000),
        1009,
        "message_too_big",
    ),
    "thousands of empty fragments": (
        frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 5000,
        1009,
        "message_too_big",
    ),
    "a close of one byte": (frame(CLOSE, b"\x03"), 1002, "protocol_error"),
    "a close of 126 bytes": (close_frame(1000, b"x" * 124), 1002, "protocol_error"),
    "a close with bad UTF-8": (close_frame(1000, b"\xff"), 1007, "protocol_error"),
    **{
        f"a close with code {code}": (close_frame(code), 1002, "protocol_error")
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2999, 5000, 65535)
    },
}


async def test_a_breach_of_the_protocol_ends_with_its_code_and_one_line_in_the_log(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_scene(redis_server, nursery, "connection ended with error") as scene:
        got: dict[str, tuple[int | None, list[tuple[str, str]]]] = {}
        for number, (name, (frames, _, _)) in enumerate(BREACHES.items(), 1):
            client = await scene.visit(frames)
            await client.wait_ended(within=PATIENCE)
            await scene.wait_endings(number)
            got[name] = client.close_code, scene.endings()[number - 1 :]
            assert client.messages == [], name
            await scene.heartbeat()
        assert got == {
            name: (code, [("connection ended with error", reason)]) for name, (_, code, reason) in BREACHES.items()
        }
        assert len(scene.daemon.said("connection accepted")) == len(BREACHES) + 1


# -- abrupt ends ------------------------------------------------------------------------------------------------------

CUT = handshake("/run:log")


async def test_resets_at_any_moment_leave_nothing_behind(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    moments = {
        "at once": b"",
        "in the middle of a frame's head": frame(TEXT, b"x" * 1000)[:3],
        "in the middle of a frame": frame(TEXT, b"x" * 1000)[:500],
        "in the middle of a message": OPEN_TEXT,
        "behind a close frame": close_frame(1000),
        "behind a breach": frame(3),
    }
    async with open_scene(redis_server, nursery, "connection ended with error") as scene:
        for number, data in enumerate(moments.values(), 1):
            stream = await open_stream(scene.daemon.port)
            await stream.send_all(CUT + data)
            # The line in the log may be read before the 101 is written, which would fail then.
            await until_upgraded(stream)
            await scene.daemon.wait_said("connection accepted", number + 1)
            reset(stream)
            await scene.wait_endings(number)
            await scene.heartbeat()
        reasons = [reason for _, reason in scene.endings()]
        assert reasons[:4] == ["client_gone"] * 4
        assert reasons[4:] == ["client_closed", "protocol_error"]


async def until_upgraded(stream: trio.SocketStream) -> None:
    """Read the 101, and what may have come along with it."""
    answer = b""
    with trio.fail_after(PATIENCE):
        while b"\r\n\r\n" not in answer:
            chunk = await stream.receive_some()
            assert chunk, answer
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 101 "), answer


async def test_a_client_that_ends_its_side_is_gone(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    async with open_scene(redis_server, nursery) as scene:
        client = await scene.visit()
        await client.send_eof()
        await client.wait_ended(within=PATIENCE)
        assert (client.seen, await scene.daemon.wait_said("connection closed", reason="client_gone")) != ([], [])


async def test_one_that_only_sends_pings_and_never_reads_is_ended(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_scene(redis_server, nursery, "connection ended with error", max_backlog="1MB") as scene:
        flood = frame(PING, b"x" * 125) * 500
        async with await open_stream(scene.daemon.port, receive_buffer=4096) as stream:
            await stream.send_all(CUT)
            with trio.fail_after(PATIENCE):
                try:
                    while True:
                        await stream.send_all(flood)
                except trio.BrokenResourceError:
                    [ended] = await scene.daemon.wait_said("connection ended with error")
        assert ended["reason"] == "slow_consumer"


async def test_hundreds_of_bad_clients_at_once_harm_nobody(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    async with open_scene(redis_server, nursery, "connection ended with error") as scene:
        bad = [request for request, _, _ in BAD_REQUESTS.values()] * 5
        bad += [handshake("/run:log") + frames for frames, _, _ in BREACHES.values()] * 2
        clients: list[RawClient] = []
        for data in bad:
            client = await start_client(nursery, scene.daemon.port)
            nursery.start_soon(client.send_raw, data)
            clients.append(client)
        for _ in range(20):
            await scene.heartbeat()
        for client in clients:
            await client.wait_ended(within=PATIENCE)
        await scene.daemon.wait_said("request refused", 5 * len(BAD_REQUESTS))
        await scene.wait_endings(2 * len(BREACHES))
