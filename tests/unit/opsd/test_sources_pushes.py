"""Sources that push: their events, and how they and the polls make one reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from opsd.sources.daemon import SILENCE
from opsd.sources.events import Comment, EventParser, EventTooLargeError, ServerEvent
from tests.support.opsd_sources import connections, watching
from tests.support.opsd_telemetry import Telemetry, answering, encoded, event, hang, respond

if TYPE_CHECKING:
    import httpx
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
