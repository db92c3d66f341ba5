"""The faults of the proxy, one by one, on memory streams and virtual time."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from tests.faultproxy import Connection, Line, Weather

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MemoryReceiveStream, MemorySendStream

    Ends = trio.StapledStream[MemorySendStream, MemoryReceiveStream]

DATA: Final = b"0123456789"


class Pair:
    """A client and a server with a connection between them."""

    def __init__(self, weather: Weather) -> None:
        self.client, near = memory_stream_pair()
        self.server, far = memory_stream_pair()
        self.line = Line(random.Random(1), weather)
        self.connection = Connection(near, far, self.line)

    async def exactly(self, stream: Ends, count: int) -> bytes:
        """So many bytes that come to `stream`."""
        data = b""
        while len(data) < count:
            chunk = await stream.receive_some(count - len(data))
            assert chunk, data
            data += chunk
        return data


@asynccontextmanager
async def connected(weather: Weather = Weather()) -> AsyncIterator[Pair]:  # noqa: B008 - frozen
    pair = Pair(weather)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.connection.run)
        yield pair
        nursery.cancel_scope.cancel()


async def test_clear_weather_carries_all_bytes_both_ways(autojump_clock: MockClock) -> None:
    async with connected() as pair:
        await pair.client.send_all(DATA)
        assert await pair.exactly(pair.server, len(DATA)) == DATA
        await pair.server.send_all(DATA[::-1])
        assert await pair.exactly(pair.client, len(DATA)) == DATA[::-1]
        assert trio.current_time() == 0.0


async def test_latency_is_added_to_each_chunk_and_delays_no_other(autojump_clock: MockClock) -> None:
    async with connected(Weather(latency=2.0)) as pair:
        await pair.client.send_all(b"a")
        await trio.sleep(1.0)
        await pair.client.send_all(b"b")
        assert await pair.server.receive_some() == b"a"
        assert trio.current_time() == 2.0
        assert await pair.server.receive_some() == b"b"
        assert trio.current_time() == 3.0


def test_jitter_and_loss_are_within_their_bounds_and_drawn_from_the_seed() -> None:
    weather = Weather(latency=0.2, jitter=0.05, loss=0.02)
    delays = [weather.delay(rng) for rng in [random.Random(7)] for _ in range(2000)]
    again = [weather.delay(rng) for rng in [random.Random(7)] for _ in range(2000)]
    assert delays == again
    usual = [delay for delay in delays if delay <= 0.25]
    stalled = [delay for delay in delays if delay > 0.25]
    assert min(usual) >= 0.15
    assert 0.35 <= min(stalled) <= max(stalled) <= 1.25
    assert 20 <= len(stalled) <= 60


async def test_what_left_later_does_not_arrive_earlier(autojump_clock: MockClock) -> None:
    async with connected(Weather(latency=0.2, jitter=0.2, loss=0.1)) as pair:
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                for number in range(200):
                    await pair.client.send_all(b"%3d" % number)
                    await trio.sleep(0.01)

            nursery.start_soon(write)
            data = await pair.exactly(pair.server, 600)
        assert data == b"".join(b"%3d" % number for number in range(200))


async def test_a_narrow_line_takes_its_time(autojump_clock: MockClock) -> None:
    async with connected(Weather(bandwidth=10.0, piece=1)) as pair:
        await pair.server.send_all(DATA)
        assert await pair.client.receive_some() == b"0"  # the drip is one byte
        assert await pair.exactly(pair.client, len(DATA) - 1) == DATA[1:]
        assert trio.current_time() == pytest.approx(0.9)


async def test_a_black_hole_says_nothing_and_gives_all_back(autojump_clock: MockClock) -> None:
    async with connected(Weather(silent=True)) as pair:
        await pair.client.send_all(DATA)
        with trio.move_on_after(3600) as hour:
            await pair.server.receive_some()
        assert hour.cancelled_caught
        pair.line.weather = Weather()
        assert await pair.exactly(pair.server, len(DATA)) == DATA


async def test_cut_behind_a_byte_in_the_middle_of_a_frame(autojump_clock: MockClock) -> None:
    async with connected() as pair:
        pair.connection.credit = 15
        await pair.server.send_all(DATA)
        await pair.server.send_all(DATA)
        assert await pair.exactly(pair.client, 15) == DATA + DATA[:5]
        assert await pair.client.receive_some() == b""
        assert await pair.server.receive_some() == b""


@pytest.mark.parametrize("how", ["cut", "reset"])
async def test_both_sides_are_ended_at_once(autojump_clock: MockClock, how: str) -> None:
    async with connected(Weather(latency=5.0)) as pair:
        await pair.server.send_all(DATA)
        getattr(pair.connection, how)()
        assert await pair.client.receive_some() == b""
        assert await pair.server.receive_some() == b""
        assert trio.current_time() == 0.0


async def test_half_closed_the_other_direction_goes_on(autojump_clock: MockClock) -> None:
    async with connected() as pair:
        pair.connection.half_close()
        assert await pair.client.receive_some() == b""
        await pair.client.send_all(DATA)
        assert await pair.exactly(pair.server, len(DATA)) == DATA


async def test_an_end_is_passed_on_behind_what_was_sent(autojump_clock: MockClock) -> None:
    async with connected(Weather(latency=1.0)) as pair:
        await pair.server.send_all(DATA)
        await pair.server.send_eof()
        assert await pair.exactly(pair.client, len(DATA)) == DATA
        assert await pair.client.receive_some() == b""
        await pair.client.send_all(b"still heard")
        assert await pair.exactly(pair.server, 11) == b"still heard"


async def test_a_side_that_breaks_breaks_the_other(autojump_clock: MockClock) -> None:
    async with connected() as pair:
        await pair.client.aclose()
        await pair.server.send_all(DATA)  # nobody is there for it
        assert await pair.server.receive_some() == b""
