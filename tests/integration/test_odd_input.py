"""What clients may send though few do, over real sockets: it ends nothing, and is answered or counted as it should."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.support.client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_frame, frame, handshake
from tests.support.daemon import open_daemon
from tests.support.raw import PATIENCE, connect, start_client
from tests.support.scene import LIMIT, SETTINGS, open_scene

if TYPE_CHECKING:
    from collections.abc import Mapping

    import trio

    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

MASK = b"\x00\x00\x00\x00"
FLUSS = "Fluß".encode()
OPEN_TEXT = frame(TEXT, b"half", fin=False)

GOODBYES: Mapping[str, tuple[bytes, bytes]] = {
    "nothing": (b"", b""),
    **{f"code {code}": (struct.pack("!H", code),) * 2 for code in (1000, 1001, 1003, 1011, 3000, 4999)},
    "a reason": (struct.pack("!H", 1000) + "tschüß".encode(), struct.pack("!H", 1000) + "tschüß".encode()),
}


async def test_a_close_frame_is_answered_in_kind(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    async with open_scene(redis_server, nursery) as scene:
        for number, (name, (payload, echo)) in enumerate(GOODBYES.items(), 1):
            client = await scene.visit(frame(CLOSE, payload), frame(TEXT, b"not heard any more"))
            await client.wait_ended(within=PATIENCE)
            assert (name, [seen[1:] for seen in client.seen]) == (name, [(CLOSE, echo)])
            await scene.daemon.wait_said("connection closed", number, reason="client_closed")


TOLERATED: Mapping[str, tuple[bytes, str]] = {
    "init": (frame(TEXT, b'{"type":"init"}'), "init"),
    "pong": (frame(TEXT, b'{"type":"pong"}'), "pong"),
    "a pong with spaces": (frame(TEXT, b'{ "type" : "pong" }'), "pong"),
    "an unknown type": (frame(TEXT, b'{"type":"subscribe"}'), "other"),
    "no type": (frame(TEXT, b"{}"), "other"),
    "a type that is a number": (frame(TEXT, b'{"type":1}'), "other"),
    "a type that is null": (frame(TEXT, b'{"type":null}'), "other"),
    "a type that is a list": (frame(TEXT, b'{"type":["pong"]}'), "other"),
    "a type that is an object": (frame(TEXT, b'{"type":{"a":1}}'), "other"),
    "no JSON": (frame(TEXT, b"hello?"), "malformed"),
    "nothing": (frame(TEXT), "malformed"),
    "an array": (frame(TEXT, b'["type"]'), "malformed"),
    "a cut object": (frame(TEXT, b'{"type":'), "malformed"),
    "deep arrays": (frame(TEXT, b"[" * LIMIT), "malformed"),
    "deep objects": (frame(TEXT, b'{"a":' * (LIMIT // 5)), "malformed"),
    "a number of 60,000 digits": (frame(TEXT, b'{"type":' + b"9" * 60_000 + b"}"), "malformed"),
    "a lone surrogate, escaped": (frame(TEXT, b'{"type":"\\ud800"}'), "other"),
    "a null character": (frame(TEXT, b"\x00"), "malformed"),
    "binary": (frame(BINARY, b"\x00\xff" * 100), "binary"),
    "empty binary": (frame(BINARY), "binary"),
    "exactly the limit": (frame(TEXT, b"x" * LIMIT), "malformed"),
    "a character over two fragments": (
        frame(TEXT, b'{"type":"' + FLUSS[:-1], fin=False) + frame(CONTINUATION, FLUSS[-1:] + b'"}'),
        "other",
    ),
    "1,000 empty fragments": (
        frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 1000 + frame(CONTINUATION),
        "malformed",
    ),
    "a pong that nobody asked for": (frame(PONG, b"!"), "control"),
    "the mask of zeros": (frame(TEXT, b'{"type":"pong"}', mask=MASK), "pong"),
}


async def test_what_makes_no_sense_is_counted_and_ends_nothing(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_scene(redis_server, nursery) as scene:
        got: dict[str, tuple[bool, list[str]]] = {}
        kinds = ("init", "pong", "other", "malformed", "binary", "control")

        async def counts() -> dict[str, float]:
            return {
                kind: await scene.daemon.metric("status2_client_messages_total", f'kind="{kind}"') for kind in kinds
            }

        known = await counts()
        for name, (frames, _) in TOLERATED.items():
            # The answer to the ping tells that everything before it was taken.
            client = await scene.visit(frames, frame(PING, b"?"))
            await client.wait(lambda client: bool(client.seen) or client.ended, within=PATIENCE)
            alive = [seen[1:] for seen in client.seen] == [(PONG, b"?")]
            await client.leave()
            before, known = known, await counts()
            before["control"] += alive
            got[name] = alive, [kind for kind in kinds for _ in range(int(known[kind] - before[kind]))]
            await scene.heartbeat()
        assert got == {name: (True, [kind]) for name, (_, kind) in TOLERATED.items()}


async def test_pings_within_a_fragmented_message_are_answered_in_order(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_scene(redis_server, nursery) as scene:
        parts = [frame(CONTINUATION, b"part", fin=False) + frame(PING, str(k).encode() * 10) for k in range(10)]
        client = await scene.visit(OPEN_TEXT, *parts, frame(CONTINUATION), frame(PING, b"x" * 125))
        await client.wait(lambda client: len(client.seen) == 11, within=PATIENCE)
        assert [seen[1:] for seen in client.seen] == [
            *((PONG, str(k).encode() * 10) for k in range(10)),
            (PONG, b"x" * 125),
        ]
        await client.leave()


async def test_every_byte_in_a_packet_of_its_own_makes_no_difference(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_scene(redis_server, nursery) as scene:
        client = await start_client(nursery, scene.daemon.port)
        pieces = [OPEN_TEXT, frame(PING, b"?"), frame(CONTINUATION, FLUSS), close_frame(1000)]
        for byte in handshake("/run:log") + b"".join(pieces):
            await client.send_raw(bytes([byte]))
        await client.wait_ended(within=PATIENCE)
        assert [seen[1] for seen in client.seen] == [PONG, CLOSE]
        assert (client.seen[0].payload, client.close_code) == (b"?", 1000)


async def test_a_malformed_message_is_logged_once_per_connection_at_debug(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    settings = SETTINGS | {"log_level": "debug"}
    async with open_daemon(redis_server, settings) as daemon:
        for _ in range(2):
            client = await connect(nursery, daemon.port, "/run:log", more=frame(TEXT, b"nonsense") * 50)
            await client.leave()
        await daemon.wait_said("connection closed", 2)
        lines = [line for line in daemon.lines if line["level"] == "debug" and "client message" in line["msg"]]
        assert [(line["run_id"], line["channel"], line["remote"]) for line in lines] == [
            ("run", "log", "127.0.0.1")
        ] * 2
        assert await daemon.metric("status2_client_messages_total", 'kind="malformed"') == 100
