"""Sources: what is believed of what they say, how soon it is known, and that none harms itself for good."""

from __future__ import annotations

import gzip
import math
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

import attrs
import httpx
import pytest
import trio
import trio.testing

from common.secret import Secret
from opsd.sources.daemon import SILENCE, DaemonSource
from opsd.sources.events import Comment, EventParser, EventTooLargeError, ServerEvent
from opsd.sources.polled import STATUS_LIMIT, PolledSource
from opsd.sources.source import Audience, AudienceError, SnapshotError
from opsd.sources.target import Endpoint, Target
from opsd.sources.workers import MOST_WORKERS, GarbageError, parse_status
from tests.support.opsd_telemetry import Telemetry, answering, encoded, endless, event, hang, respond, telemetry, worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio.testing import MockClock

# -- server-sent events ------------------------------------------------------------------------------------------------

STREAM = (
    b"\xef\xbb\xbf: alive\n\n"
    b"event: status\ndata: {}\n\n"
    b"data: one\r\ndata:two\r\nid: 7\r\nretry: 3\r\nunknown\r\n\r\n"
    b"event: nothing\r\r"
    b":\n"
    b"data\rdata:  x\r\n\r"
    b"data: never finished"
)
HEARD = [
    Comment(b"alive"),
    ServerEvent("status", b"{}"),
    ServerEvent("message", b"one\ntwo"),
    Comment(b""),
    ServerEvent("message", b"\n x"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_events_are_the_same_however_the_bytes_are_cut(size: int) -> None:
    parser = EventParser(1000)
    heard = [item for at in range(0, len(STREAM), size) for item in parser.feed(STREAM[at : at + size])]
    assert heard == HEARD


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_end_of_a_line_will_do(end: bytes) -> None:
    stream = end.join([b"event: status", b"data: a", b"data: b", b"", b": c", b"data: d", b"", b""])
    wanted = [ServerEvent("status", b"a\nb"), Comment(b"c"), ServerEvent("message", b"d")]
    assert EventParser(100).feed(stream) == wanted
    parser = EventParser(100)
    assert [item for byte in stream for item in parser.feed(bytes([byte]))] == wanted


@pytest.mark.parametrize(
    "piece", [b"x" * 10, b"data: x\n", b"event: longer than it should be\n", b"data: " + b"x" * 200]
)
def test_neither_a_line_nor_an_event_may_be_endless(piece: bytes) -> None:
    parser = EventParser(100)

    def feed_all() -> None:
        for _ in range(100):
            parser.feed(piece)

    with pytest.raises(EventTooLargeError):
        feed_all()


def test_many_small_events_are_not_one_large_one() -> None:
    parser = EventParser(100)
    assert len([item for _ in range(1000) for item in parser.feed(b"data: 0123456789\n\n: alive\n")]) == 2000
    assert len(parser.feed(b"data: 0123456789\n\n" * 100)) == 100


# -- what is believed --------------------------------------------------------------------------------------------------


def test_a_status_is_read_whole() -> None:
    status = parse_status(
        encoded(
            telemetry(
                {
                    "1": worker(
                        messages=5,
                        answers={"total": 10, "server_errors": 2, "seconds": 0.5, "in_flight": 1},
                        disconnects={"client_closed": 3, "internal_error": 1},
                    ),
                    "2": worker(uptime=99, pid=5),
                },
                retired={
                    "answers": {"total": 100, "server_errors": 1, "seconds": 1.5},
                    "disconnects": {"redis_unavailable": 2, "refused_by_redis": 1},
                    "messages": 7,
                },
            )
        )
    )
    totals = status.totals()
    assert (totals.answers, totals.server_errors, totals.seconds) == (110, 3, 2.0)
    assert (totals.ended, totals.failed, totals.messages) == (7, 4, 12)
    assert status.uptime == 99.0
    assert status.connected == 2
    assert status.members() == {(4711, "2026-01-15T12:34:56.789012Z"), (5, "2026-01-15T12:34:56.789012Z")}
    assert status.workers[0].document() == {
        "id": "1",
        **worker(
            messages=5,
            answers={"total": 10, "server_errors": 2, "seconds": 0.5, "in_flight": 1},
            disconnects={"client_closed": 3, "internal_error": 1},
        ),
    }


def test_the_most_workers_that_can_be_are_read() -> None:
    counts = {"client_closed": 1, "client_gone": 2, "drain": 3, "pong_timeout": 4, "slow_consumer": 5}
    body = encoded(telemetry({str(n): worker(disconnects=counts) for n in range(MOST_WORKERS)}))
    assert len(body) <= STATUS_LIMIT
    assert len(parse_status(body).workers) == MOST_WORKERS


def test_what_is_missing_is_0_and_what_is_unknown_is_passed_over() -> None:
    status = parse_status(b'{"workers":{"1":{"new":[]}},"newer":1}')
    assert status.workers[0].connections == 0
    assert status.routes == ()
    assert parse_status(b'{"connected":3}', outside=True).connected == 3


BAD_VALUES = ("NaN", "Infinity", "-Infinity", "1e400", "-1", '"1"', "null", "true", "[]", "{}", "1" * 5000, "9e18")
GARBAGE = [
    b"",
    b"{",
    b'{"workers":{"1":{"pid":1',
    b"hello",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"1",
    b"{}",
    b"[" * 100_000,
    b'{"workers":[]}',
    b'{"workers":{"1":1}}',
    b'{"workers":{},"routes":"x"}',
    b'{"workers":{},"routes":[1]}',
    b'{"workers":{},"draining":0}',
    b'{"workers":{},"retired":[]}',
    b'{"workers":{"\\ud800":{}}}',
    b'{"workers":{"1":{"redis":"\\u0000"}}}',
    encoded({"workers": {str(n): {} for n in range(2000)}}),
    encoded({"workers": {}, "x": [1] * 70_000}),
    encoded({"workers": {}, "x": [[]] * 9000}),
    encoded({"workers": {"1": {"disconnects": {str(n): 1 for n in range(200)}}}}),
    *(b'{"workers":{"1":{"rss":' + value.encode() + b"}}}" for value in BAD_VALUES),
    *(b'{"workers":{"1":{"cpu":' + value.encode() + b"}}}" for value in BAD_VALUES),
    *(b'{"workers":{"1":{"answers":{"total":' + value.encode() + b"}}}}" for value in BAD_VALUES),
]


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_not_believed_at_all(body: bytes) -> None:
    with pytest.raises(GarbageError):
        parse_status(body)


@pytest.mark.parametrize("body", [b'{"workers":{}}', b'{"connected":-1}', b'{"connected":"2"}', b'{"connected":null}'])
def test_the_outside_api_must_say_how_many_are_connected(body: bytes) -> None:
    with pytest.raises(GarbageError):
        parse_status(body, outside=True)


# -- polling -----------------------------------------------------------------------------------------------------------


@attrs.define
class Watch:
    """A source that runs, and what it told."""

    source: PolledSource
    changes: list[float] = attrs.field(factory=list)

    def asked(self) -> bool:
        """Whether the source has been asked once."""
        return self.source.asked

    def connections(self) -> int | None:
        """Of the first worker, None while the source is unavailable."""
        status = self.source.reading.current(trio.current_time()).status
        return None if status is None else status.workers[0].connections

    def problem(self) -> str:
        """Why the source is unavailable."""
        return self.source.reading.current(trio.current_time()).problem


@asynccontextmanager
async def watching(server: Telemetry, *, daemon: bool = False, token: Secret | None = None) -> AsyncIterator[Watch]:
    source: PolledSource
    if daemon:
        target = Target("statusd", Endpoint("http://127.0.0.1:9102"))
        source = DaemonSource(target, token=token, seconds=5.0, rng=Random(0), transport=server)
    else:
        endpoint = Endpoint("http://127.0.0.1:9102")
        source = PolledSource("a", endpoint, token=token, seconds=5.0, outside=False, rng=Random(0), transport=server)
    watch = Watch(source)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run, lambda: watch.changes.append(trio.current_time()))
        yield watch
        nursery.cancel_scope.cancel()


def connections(count: int) -> dict[str, object]:
    return telemetry({"1": worker(connections=count)})


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


# -- pushes ------------------------------------------------------------------------------------------------------------


async def test_a_push_is_known_at_once(autojump_clock: MockClock) -> None:
    server = Telemetry(pushes=True)
    async with watching(server, daemon=True) as watch:
        await trio.sleep(0.5)
        for count in range(10, 20):
            server.streams[-1].send(event(connections(count)))
            sent = trio.current_time()
            await trio.testing.wait_all_tasks_blocked()
            assert watch.connections() == count
            assert watch.changes[-1] == sent
            server.document = connections(count)
            await trio.sleep(0.05)


async def test_a_push_in_pieces_and_a_push_of_another_name(autojump_clock: MockClock) -> None:
    server = Telemetry(pushes=True)
    async with watching(server, daemon=True) as watch:
        await trio.sleep(0.1)
        for byte in event(connections(9)).replace(b"\n", b"\r\n"):
            server.streams[-1].send(bytes([byte]))
        server.streams[-1].send(event(connections(77), "other"))
        await trio.sleep(0.1)
        assert watch.connections() == 9


async def test_a_poll_that_is_older_than_a_push_does_not_undo_it(autojump_clock: MockClock) -> None:
    async def late() -> httpx.Response:
        document = connections(1)
        await trio.sleep(0.5)
        return respond(200, encoded(document))

    server = Telemetry(pushes=True, status=late)
    async with watching(server, daemon=True) as watch:
        await trio.sleep(0.25)
        server.streams[-1].send(event(connections(5)))
        await trio.sleep(0.5)
        assert watch.connections() == 5
        await trio.sleep(1)
        assert watch.connections() == 1


async def test_without_events_it_is_polled(autojump_clock: MockClock) -> None:
    server = Telemetry(document=connections(3))
    async with watching(server, daemon=True) as watch:
        for count in range(5):
            server.document = connections(count)
            await trio.sleep(1.01)
            assert watch.connections() == count


async def test_events_suffice_while_polls_fail(autojump_clock: MockClock) -> None:
    server = Telemetry(pushes=True, status=answering(500))
    async with watching(server, daemon=True) as watch:
        await trio.sleep(0.1)
        assert watch.connections() is None
        server.streams[-1].send(event(connections(5)))
        for _ in range(10):
            await trio.sleep(5)
            assert watch.connections() == 5
            server.streams[-1].send(b": alive\n\n")


async def test_a_stream_that_falls_silent_is_not_believed_and_a_new_one_is_made(autojump_clock: MockClock) -> None:
    server = Telemetry(pushes=True, status=hang)
    async with watching(server, daemon=True) as watch:
        await trio.sleep(0.1)
        server.streams[-1].send(event(connections(5)))
        await trio.sleep(SILENCE - 0.1)
        assert watch.connections() == 5
        await trio.sleep(0.2)
        assert watch.connections() is None
        assert server.streams[0].closed
        await trio.sleep(1.2)
        assert len(server.streams) == 2
        server.streams[-1].send(event(connections(6)))
        await trio.sleep(0.01)
        assert watch.connections() == 6


async def test_a_daemon_that_is_stopped_with_its_stream_open_is_soon_not_believed(autojump_clock: MockClock) -> None:
    server = Telemetry(pushes=True)
    async with watching(server, daemon=True) as watch:
        await trio.sleep(0.1)
        server.streams[-1].send(event(connections(5)))
        server.document = connections(5)
        await trio.sleep(4)
        server.status = hang
        await trio.sleep(1)
        assert watch.connections() == 5
        for _ in range(50):
            await trio.sleep(2.1)
            assert watch.connections() is None
        server.status = None
        await trio.sleep(5.1)
        assert watch.connections() == 5


async def test_polls_that_begin_to_fail_leave_the_events_to_be_believed(autojump_clock: MockClock) -> None:
    server = Telemetry(pushes=True)
    async with watching(server, daemon=True) as watch:
        await trio.sleep(0.1)
        server.streams[-1].send(event(connections(5)))
        server.document = connections(5)
        await trio.sleep(1)
        server.status = answering(500)
        for _ in range(100):
            server.streams[-1].send(b": alive\n\n")
            for _ in range(5):
                await trio.sleep(1)
                assert watch.connections() == 5


async def test_a_daemon_that_dies_is_unavailable_at_once_and_back_within_a_second(autojump_clock: MockClock) -> None:
    server = Telemetry(pushes=True)
    async with watching(server, daemon=True) as watch:
        await trio.sleep(0.1)
        for _ in range(5):
            server.streams[-1].send(event(connections(5)))
            await trio.sleep(2.5)
            server.crash()
            await trio.sleep(0.06)
            assert watch.connections() is None
            await trio.sleep(20.7)
            server.up = True
            await trio.sleep(1.01)
            assert watch.connections() == 2


@pytest.mark.parametrize(
    "chunk",
    [b"event: status\ndata: [1]\n\n", b"event: status\ndata: {\n\n", b"x" * (2 << 20), b"data: " + b"x" * (2 << 20)],
)
async def test_a_stream_of_garbage_is_left_and_polls_go_on(autojump_clock: MockClock, chunk: bytes) -> None:
    server = Telemetry(pushes=True, document=connections(3))
    async with watching(server, daemon=True) as watch:
        await trio.sleep(0.1)
        server.streams[-1].send(chunk)
        await trio.sleep(0.1)
        assert server.streams[0].closed
        assert watch.connections() == 3
        await trio.sleep(1.1)
        assert len(server.streams) == 2


async def test_a_flood_of_events_is_read_slowly(autojump_clock: MockClock) -> None:
    server = Telemetry(pushes=True)
    async with watching(server, daemon=True) as watch:
        await trio.sleep(0.5)
        before = len(watch.changes)
        for count in range(900):
            server.streams[-1].send(event(connections(count)))
        await trio.sleep(0.4)
        assert 30 <= len(watch.changes) - before <= 45
        await trio.sleep(9)
        assert watch.connections() in {899, 2}


async def test_a_stream_that_always_ends_soon_is_not_asked_for_in_a_storm(autojump_clock: MockClock) -> None:
    server = Telemetry(pushes=True)

    async def end_each() -> None:
        while True:
            for stream in server.streams:
                if not stream.ended:
                    stream.send(event(connections(2)))
                    stream.end()
            await trio.sleep(0.001)

    async with watching(server, daemon=True) as watch, trio.open_nursery() as nursery:
        nursery.start_soon(end_each)
        await trio.sleep(20)
        assert watch.connections() == 2
        assert 15 < len(server.streams) < 60
        assert len(server.polls()) < 80
        nursery.cancel_scope.cancel()


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
