"""The difference between silence and business: when a connection is probed, when it is dead, and when it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from common.redis.errors import StalledError
from common.redis.resp import encode
from common.redis.subscription import Subscription
from tests.support.connections import ConnectionBench, open_connection
from tests.support.scripted_redis import message, push

if TYPE_CHECKING:
    from common.redis.connection import Batch


async def answer_probes(bench: ConnectionBench, count: int) -> None:
    """Be a healthy server for so many probes."""
    for _ in range(count):
        assert await bench.server.receive_some() == encode("PING")
        await bench.server.send_all(b"+PONG\r\n")


# The shorter interval is the one in use; a day of it takes long even on this clock.
@pytest.mark.parametrize(("idle", "probe_interval"), [(3_600, 2.0), (86_400, 30.0)], ids=["an hour", "a day"])
async def test_an_idle_channel_costs_a_probe_per_interval_and_still_delivers_the_next_message(
    idle: int, probe_interval: float, autojump_clock: MockClock
) -> None:
    async with open_connection(probe_interval=probe_interval) as bench, trio.open_nursery() as nursery:
        bench.connection._active[b"c"] = Subscription(b"c")
        probes = 0

        @nursery.start_soon
        async def serve() -> None:
            nonlocal probes
            while True:
                assert await bench.server.receive_some() == encode("PING")
                probes += 1
                await bench.server.send_all(b"+PONG\r\n")

        await trio.sleep(idle + 1)
        await bench.server.send_all(message(b"c", b"good morning"))
        with trio.fail_after(1):
            await bench.handler.wait_for("messages")
        assert bench.handler.heard == {b"c": [b"good morning"]}
        assert probes == idle / probe_interval
        assert autojump_clock.current_time() == idle + 1
        nursery.cancel_scope.cancel()


async def test_traffic_spares_the_probe(autojump_clock: MockClock) -> None:
    async with open_connection() as bench:
        for _ in range(100):
            await trio.sleep(1.9)
            await bench.server.send_all(push(b"invalidate"))
        with trio.move_on_after(0.1) as scope:
            await bench.server.receive_some()
        assert scope.cancelled_caught
        assert autojump_clock.current_time() == pytest.approx(190.1)


@pytest.mark.parametrize("answered", [0, 1, 2, 500])
async def test_silence_is_noticed_one_probe_and_one_timeout_after_the_last_byte(
    answered: int, autojump_clock: MockClock
) -> None:
    async with open_connection() as bench, trio.open_nursery() as nursery:
        nursery.start_soon(answer_probes, bench, answered)
        error = await bench.end()
        assert isinstance(error, StalledError)
        assert (str(error), error.command, error.waited_for) == ("no answer to PING for 1s", "PING", False)
        assert bench.ended_at == answered * 2 + 3
        assert autojump_clock.current_time() >= bench.ended_at
        nursery.cancel_scope.cancel()


async def test_a_request_without_an_answer_is_a_stall_after_the_timeout_and_fails_as_stalled(
    autojump_clock: MockClock,
) -> None:
    async with open_connection() as bench:
        await trio.sleep(0.7)
        reply = bench.connection.request("GET", "k")
        error = await bench.end()
        assert isinstance(error, StalledError)
        assert (error.command, error.waited_for, reply.stalled) == ("GET", True, True)
        assert bench.ended_at == 1.7
        assert autojump_clock.current_time() >= 1.7


async def test_any_byte_is_life_so_a_reply_behind_a_long_burst_is_no_stall(autojump_clock: MockClock) -> None:
    async with open_connection() as bench:
        bench.connection._active[b"c"] = Subscription(b"c")
        reply = bench.connection.request("GET", "k")
        burst = b"".join(message(b"c", b"%d" % i) for i in range(100))
        # One byte every 0.9 s: each read but the last of a message completes nothing.
        for i in range(0, len(burst), 61):
            await trio.sleep(0.9)
            await bench.server.send_all(burst[i : i + 61])
        await bench.server.send_all(b"+v\r\n")
        with trio.fail_after(1):
            await reply.wait()
        assert reply.value == b"v"
        assert bench.handler.heard == {b"c": [b"%d" % i for i in range(100)]}
        assert autojump_clock.current_time() > 40
        assert bench.connection.error is None


async def test_a_burst_that_ends_in_silence_is_a_stall_one_timeout_after_its_last_byte(
    autojump_clock: MockClock,
) -> None:
    async with open_connection() as bench:
        bench.connection.request("GET", "k")
        for _ in range(10):
            await trio.sleep(0.9)
            await bench.server.send_all(push(b"invalidate"))
        await bench.end()
        assert bench.ended_at == pytest.approx(10.0)
        assert autojump_clock.current_time() >= 10


async def test_our_own_process_being_busy_is_no_stall_when_the_answer_is_there(mock_clock: MockClock) -> None:
    async with open_connection() as bench:
        reply = bench.connection.request("PING")
        assert await bench.heard() == encode("PING")
        # The answer is in the stream, and time is long past, before any of the connection's tasks runs again.
        mock_clock.jump(30)
        await bench.server.send_all(b"+PONG\r\n")
        await wait_all_tasks_blocked()
        assert reply.value == b"PONG"
        assert bench.connection.error is None


async def test_an_answer_that_is_there_when_the_deadline_is_noticed_a_little_late_is_an_answer(
    mock_clock: MockClock,
) -> None:
    # Whether the reader or the watchdog runs first is trio's choice, made anew each time.
    for _ in range(20):
        ours, theirs = memory_stream_pair()
        async with open_connection((ours, theirs)) as bench:
            bench.connection.request("PING")
            assert await bench.heard() == encode("PING")
            mock_clock.jump(1.1)
            ours.receive_stream.put_data(b"+PONG\r\n")
            await wait_all_tasks_blocked()
            assert bench.connection.error is None


async def test_a_handler_that_stands_still_past_every_deadline_is_no_stall(mock_clock: MockClock) -> None:
    handled = trio.Event()

    async def on_messages(_batch: Batch, _read_at: float) -> None:
        for _ in range(10):
            mock_clock.jump(0.75)
            await wait_all_tasks_blocked()
        handled.set()

    async with open_connection(on_messages=on_messages) as bench:
        await bench.subscribe(b"c")
        reply = bench.connection.request("PING")
        await bench.server.send_all(message(b"c", b"x"))
        await handled.wait()
        await wait_all_tasks_blocked()
        assert bench.connection.error is None
        await bench.say(b"+PONG\r\n")
        assert reply.value == b"PONG"


async def test_after_a_standstill_of_ours_redis_gets_one_timeout_from_then_and_no_more(mock_clock: MockClock) -> None:
    async with open_connection() as bench:
        bench.connection.request("PING")
        await wait_all_tasks_blocked()
        mock_clock.jump(30)
        await wait_all_tasks_blocked()
        assert bench.connection.error is None
        mock_clock.jump(1)
        await wait_all_tasks_blocked()
        assert isinstance(bench.connection.error, StalledError)


async def test_a_write_without_progress_is_a_stall_even_while_redis_talks(autojump_clock: MockClock) -> None:
    # On a lockstep stream a write ends only when the other side reads.
    async with open_connection(lockstep_stream_pair()) as bench, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def talk() -> None:
            while True:
                await bench.server.send_all(push(b"invalidate"))
                await trio.sleep(0.4)

        await trio.sleep(3)
        bench.connection.request("GET", "k")
        error = await bench.end()
        assert str(error) == "nothing could be written for 1s"
        assert bench.ended_at == pytest.approx(4.0)
        assert autojump_clock.current_time() >= 4
        nursery.cancel_scope.cancel()


async def test_a_slow_write_that_makes_progress_is_no_stall(autojump_clock: MockClock) -> None:
    async with open_connection(lockstep_stream_pair()) as bench:
        value = b"x" * (10 * 65536)
        reply = bench.connection.request("SET", "k", value)
        command = encode("SET", "k", value)
        heard = b""
        while len(heard) < len(command):
            await trio.sleep(0.9)
            heard += await bench.server.receive_some(65536)
        assert heard == command
        await bench.server.send_all(b"+OK\r\n")
        await reply.wait()
        assert reply.value == b"OK"
        assert autojump_clock.current_time() > 9
