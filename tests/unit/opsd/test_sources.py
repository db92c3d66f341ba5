"""Sources that are polled: how soon is known what they say, and that none harms itself for good; snapshots."""

from __future__ import annotations

import gzip
import math
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
import trio.testing

from common.secret import Secret
from common.telemetry.values import Audience
from opsd.sources.interface import AudienceError, SnapshotError
from tests.support.opsd_sources import connections, watching
from tests.support.opsd_telemetry import Chunks, Telemetry, answering, encoded, endless, hang, respond, telemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio.testing import MockClock

# -- polling -----------------------------------------------------------------------------------------------------------


async def test_it_is_asked_once_a_second(autojump_clock: MockClock) -> None:
    server = Telemetry(document=connections(3))
    async with watching(server) as watch:
        assert not watch.asked()
        await trio.sleep(0.1)
        assert watch.asked()
        assert watch.connections() == 3
        server.document = connections(4)
        await trio.sleep(1)
        assert watch.connections() == 4
        await trio.sleep(8.5)
    assert server.polls() == pytest.approx([server.polls()[0] + n for n in range(10)])


SCRIPTS: dict[str, tuple[Callable[[], Awaitable[httpx.Response]], bool]] = {
    "500": (answering(500), True),
    "401": (answering(401), True),
    "redirect": (answering(302, location="http://127.0.0.1:1/"), True),
    "bad redirect": (answering(302, location="http://[:\r\n"), False),
    "garbage": (answering(200, b"\x00\xff garbage"), False),
    "half": (answering(200, encoded(telemetry())[:-20]), False),
    "wrong shape": (answering(200, b"[]"), False),
    "encoded": (answering(200, gzip.compress(b"{}"), content_encoding="gzip"), False),
    "100 MB": (endless(b"x" * 65536), False),
    "drops": (endless(b" ", 0.5), False),
    "hangs": (hang, False),
}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_bad_answer_makes_it_unavailable_and_a_good_one_brings_it_back(
    autojump_clock: MockClock, name: str
) -> None:
    server = Telemetry(document=connections(3))
    async with watching(server) as watch:
        await trio.sleep(0.5)
        assert watch.connections() == 3
        script, answers = SCRIPTS[name]
        server.status = script
        await trio.sleep(3)
        assert watch.connections() is None
        assert watch.problem()
        await trio.sleep(7)
        assert watch.connections() is None
        assert watch.source.reading.answers == answers
        server.status = None
        # A request that hangs has its own deadline, the next one comes at once.
        await trio.sleep(5.1 if name in {"hangs", "drops"} else 1.1)
        assert watch.connections() == 3


async def test_refused_connections_are_tried_again_each_second(autojump_clock: MockClock) -> None:
    server = Telemetry(up=False)
    async with watching(server) as watch:
        await trio.sleep(10)
        assert watch.connections() is None
        assert watch.asked()
        assert 10 <= len(server.polls()) <= 15
        server.up = True
        await trio.sleep(1)
        assert watch.connections() == 2


async def test_what_a_slow_api_says_is_believed_until_it_can_say_more(autojump_clock: MockClock) -> None:
    async def slow() -> httpx.Response:
        await trio.sleep(3)
        return respond(200, encoded(connections(3)))

    async with watching(Telemetry(status=slow)) as watch:
        await trio.sleep(3.1)
        for _ in range(100):
            await trio.sleep(0.1)
            assert watch.connections() == 3


async def test_100_mb_are_not_kept(autojump_clock: MockClock) -> None:
    sent = 0

    class Flood(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal sent
            for _ in range(1600):
                await trio.lowlevel.checkpoint()
                sent += 65536
                yield b"x" * 65536

    async def answer() -> httpx.Response:
        return httpx.Response(200, stream=Flood())

    async with watching(Telemetry(status=answer)) as watch:
        await trio.sleep(0.1)
        assert watch.problem().startswith("answered more than")
    assert sent < 2 << 20


async def test_the_token_is_sent_and_nothing_else_that_was_not_meant(autojump_clock: MockClock) -> None:
    server = Telemetry(status=answering(200, encoded(telemetry()), set_cookie="a=b; Path=/"))
    async with watching(server, token=Secret.literal("grüße", "T")) as watch:
        await trio.sleep(2.5)
        assert watch.connections() == 2
    last = server.requests[-1]
    assert last.headers.raw.count((b"authorization", "Bearer grüße".encode())) == 1
    assert "cookie" not in last.headers
    assert last.headers["accept-encoding"] == "identity"


async def test_without_its_token_file_it_is_unavailable(autojump_clock: MockClock) -> None:
    async with watching(Telemetry(pushes=True), daemon=True, token=Secret.file("/nonexistent", "T_FILE")) as watch:
        await trio.sleep(1)
        assert "T_FILE" in watch.problem()


# -- snapshots ---------------------------------------------------------------------------------------------------------


async def test_a_snapshot_is_passed_on_gzipped(autojump_clock: MockClock) -> None:
    body = gzip.compress(b'{"x":1}')
    server = Telemetry()
    async with watching(server) as watch:
        await trio.sleep(0.1)
        server.snapshot = respond(200, body, content_encoding="gzip")
        assert await watch.source.snapshot("1") == body
        assert server.asked[-1][1] == "/workers/snapshot/1"
        assert server.requests[-1].headers["accept-encoding"] == "gzip"


async def test_a_snapshot_that_is_not_gzipped_becomes_so() -> None:
    server = Telemetry()
    async with watching(server) as watch:
        await trio.testing.wait_all_tasks_blocked()
        server.snapshot = respond(200, b'{"x":1}')
        assert gzip.decompress(await watch.source.snapshot("1")) == b'{"x":1}'


@pytest.mark.parametrize(
    ("response", "status"),
    [
        (respond(404), 404),
        (respond(504), 504),
        (respond(429), 429),
        (respond(500), 502),
        (respond(401), 502),
        (respond(200, b"x", content_encoding="gzip"), 502),
        (respond(200, b"x", content_encoding="br"), 502),
    ],
)
async def test_why_there_is_no_snapshot(autojump_clock: MockClock, response: httpx.Response, status: int) -> None:
    server = Telemetry(snapshot=response)
    async with watching(server) as watch:
        await trio.sleep(0.1)
        with pytest.raises(SnapshotError) as caught:
            await watch.source.snapshot("1")
    assert caught.value.status == status
    assert caught.value.text.startswith("a: ")


async def test_a_snapshot_that_does_not_come_is_late(autojump_clock: MockClock) -> None:
    server = Telemetry()
    async with watching(server) as watch:
        with pytest.raises(SnapshotError) as early:
            await watch.source.snapshot("1")
        await trio.sleep(0.1)
        server.snapshot = httpx.Response(200, stream=Chunks())
        with pytest.raises(SnapshotError) as late:
            await watch.source.snapshot("1")
    with pytest.raises(SnapshotError) as over:
        await watch.source.snapshot("1")
    assert [caught.value.status for caught in (early, late, over)] == [502, 504, 502]
    assert early.value.text == over.value.text == "a is not being watched"
    assert late.value.text == "a: no answer within 5s"


@pytest.mark.parametrize(
    ("said", "passed_on"),
    [("7", 7), ("3600", 3600), ("3601", None), ("0", None), ("", None), ("-1", None), ("²", None), ("9" * 30, None)],
)
async def test_when_a_snapshot_can_be_had_is_passed_on(
    autojump_clock: MockClock, said: str, passed_on: int | None
) -> None:
    response = httpx.Response(429, headers=[(b"retry-after", said.encode())], stream=httpx.ByteStream(b""))
    async with watching(Telemetry(snapshot=response)) as watch:
        await trio.sleep(0.1)
        with pytest.raises(SnapshotError, match="a moment ago") as caught:
            await watch.source.snapshot("1")
    assert (caught.value.status, caught.value.retry_after) == (429, passed_on)


async def test_the_clients_of_a_name_are_asked_for_as_it_is(autojump_clock: MockClock) -> None:
    server = Telemetry(topics=respond(200, b'{"clients":3,"silent":[]}'))
    async with watching(server, token=Secret.literal("s3cret", "T")) as watch:
        await trio.sleep(0.1)
        assert await watch.source.audience("batch;;a+b&name=c:log") == Audience(3)
        asked = server.requests[-1]
        assert dict(asked.url.params) == {"name": "batch;;a+b&name=c:log"}
        assert asked.headers["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("response", [respond(404), respond(500), respond(200, b"[]"), respond(200, b" " * 20_000)])
async def test_why_clients_are_not_known(autojump_clock: MockClock, response: httpx.Response) -> None:
    async with watching(Telemetry(topics=response)) as watch:
        await trio.sleep(0.1)
        with pytest.raises(AudienceError, match="a: "):
            await watch.source.audience("run:log")
    with pytest.raises(AudienceError, match="not being watched"):
        await watch.source.audience("run:log")


async def test_no_snapshot_of_a_source_that_is_away(autojump_clock: MockClock) -> None:
    server = Telemetry(up=False)
    async with watching(server) as watch:
        await trio.sleep(0.1)
        with pytest.raises(SnapshotError) as caught:
            await watch.source.snapshot("1")
    assert caught.value.status == 502
    with pytest.raises(SnapshotError) as caught:
        await watch.source.snapshot("1")
    assert caught.value.status == 502
    assert math.isinf(watch.source.reading.expires)
