"""From the signal to the exit: goodbyes, their spread and deadline, what newcomers are told (common/daemon.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from common.serving.server import RETRY_AFTER
from tests.support.client import HANGUP_PAYLOAD, Client, handshake
from tests.support.conversation import TRANSPORTS
from tests.support.service import CHANNEL, PATH, open_service, status

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.support.scripted_redis import ScriptedRedis


def goodbye(client: Client) -> tuple[list[bytes], int | None]:
    return client.messages, client.close_code


FAREWELL = ([HANGUP_PAYLOAD], 1001)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_everybody_gets_hangup_and_1001(transport: str, autojump_clock: MockClock) -> None:
    async with open_service() as running:
        clients = [await running.open(f"/run:{number % 3}", transport=transport) for number in range(50)]
        await trio.sleep(12.3)
        start = trio.current_time()
        await running.drained()
        assert running.code == 0
        assert running.stopped_at == start, "clients that answer hold nothing up"
        for client in clients:
            await client.wait_ended()
            assert goodbye(client) == FAREWELL
        assert {command[1] for command in running.redis.asked(b"UNSUBSCRIBE")} == {b"run:0", b"run:1", b"run:2"}
        assert running.service.counters.disconnects == {"drain": 50}
        assert len(running.logbook.said("connection closed")) == 50
        assert [line["connections"] for line in running.logbook.said("draining")] == [50]
        assert [line["code"] for line in running.logbook.said("stopped")] == [0]


@pytest.mark.parametrize("hangup", ["none", "pong_timeout"])
async def test_the_hangup_frame_follows_its_policy(hangup: str, autojump_clock: MockClock) -> None:
    async with open_service(hangup=hangup) as running:
        client = await running.open()
        await running.drained()
        await client.wait_ended()
        assert goodbye(client) == ([], 1001)


async def test_the_spread_is_even(autojump_clock: MockClock) -> None:
    async with open_service(drain_spread="10s") as running:
        clients = [await running.open() for _ in range(40)]
        start = trio.current_time()
        await running.drained()
        said = [client.seen[-1].time - start for client in clients]
        assert said == [pytest.approx(10 * number / 40) for number in range(40)]
        assert all(goodbye(client) == FAREWELL for client in clients)
        assert running.stopped_at - start == pytest.approx(9.75)


async def test_messages_flow_to_those_whose_turn_has_not_come(autojump_clock: MockClock) -> None:
    async with open_service(drain_spread="10s") as running:
        first, last = await running.open(), await running.open()
        running.stop.set()
        await trio.sleep(2)
        running.redis.publish(CHANNEL, b"still here")
        await running.drained()
        await last.wait_ended()
        assert goodbye(first) == FAREWELL
        assert last.messages == [b'{"type":"status","data":"still here"}', HANGUP_PAYLOAD]


async def test_one_that_leaves_before_its_turn_holds_nothing_up(autojump_clock: MockClock) -> None:
    async with open_service(drain_spread="10s") as running:
        clients = [await running.open() for _ in range(4)]
        start = trio.current_time()
        running.stop.set()
        await trio.sleep(1)
        await clients[3].send_close()
        await running.drained()
        assert running.service.counters.disconnects == {"drain": 3, "client_closed": 1}
        assert running.stopped_at - start <= 10


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_deadline_holds_against_clients_that_never_read(transport: str, autojump_clock: MockClock) -> None:
    async with open_service(drain_timeout="15s", write_timeout="100s") as running:
        deaf = []
        for _ in range(5):
            client = running.arrive(transport=transport, reads=False, answers=False)
            await client.send_raw(handshake(PATH))
            if transport == "lockstep":
                assert await client.stream.receive_some()
            deaf.append(client)
        await trio.testing.wait_all_tasks_blocked()
        good = [await running.open() for _ in range(45)]
        running.redis.publish(CHANNEL, b"x" * 200_000)
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        await running.drained()
        assert running.code == 0
        # A stream without a socket is cut off in the middle of a frame: there is no goodbye to wait for.
        torn = transport == "lockstep"
        assert running.stopped_at - start == pytest.approx(0.0 if torn else 15.0)
        assert [line["connections"] for line in running.logbook.said("drain timed out")] == ([] if torn else [5])
        assert all((client.messages[1:], client.close_code) == FAREWELL for client in good)
        assert running.service.counters.disconnects == {"drain": 50}


async def test_a_drain_without_a_timeout_to_spend_still_ends(autojump_clock: MockClock) -> None:
    async with open_service(drain_timeout="0s") as running:
        for _ in range(3):
            await running.open(answers=False)
        start = trio.current_time()
        await running.drained()
        assert (running.code, running.stopped_at) == (0, start)


async def test_newcomers_are_told_to_come_again(autojump_clock: MockClock) -> None:
    async with open_service(drain_timeout="15s", write_timeout="10s") as running:
        await running.open(answers=False)
        half = running.arrive()
        await half.send_raw(handshake(PATH)[:20])
        running.stop.set()
        await trio.sleep(1)
        refused = await running.ask()
        assert (refused.status, refused.header("retry-after")) == (503, str(RETRY_AFTER))
        await half.send_raw(handshake(PATH)[20:])
        await half.wait(lambda client: client.status is not None)
        assert (half.status, half.header("retry-after")) == (503, str(RETRY_AFTER))
        health = await running.get("/health")
        assert (health.status, bytes(health.body)) == (503, b"draining\n")
        assert (await running.get("/health/live")).status == 200
        assert running.service.counters.rejected == {"draining": 2}
        assert not running.stopped.is_set()


async def test_a_delay_lets_proxies_see_the_end_before_any_client_does(autojump_clock: MockClock) -> None:
    async with open_service(drain_delay="10s", drain_timeout="15s", write_timeout="100s") as running:
        before, deaf = await running.open(), await running.open(answers=False)
        start = trio.current_time()
        running.stop.set()
        await trio.sleep(9.9)
        health = await running.get("/health")
        assert (health.status, bytes(health.body)) == (503, b"draining\n")
        newcomer = await running.open()
        running.redis.publish(CHANNEL, b"still here")
        await trio.testing.wait_all_tasks_blocked()
        assert [client.messages for client in (before, newcomer)] == [[status(b"still here")]] * 2
        assert running.logbook.said("draining") == []
        await trio.sleep(0.2)
        refused = await running.ask()
        assert (refused.status, refused.header("retry-after")) == (503, str(RETRY_AFTER))
        await running.drained()
        for client in (before, newcomer):
            assert (client.messages[1:], client.close_code) == FAREWELL
            assert client.seen[-1].time - start == pytest.approx(10)
        assert not deaf.messages[2:]
        assert running.stopped_at - start == pytest.approx(10 + 15), "the delay is no part of the timeout"
        assert running.code == 0


async def test_the_end_at_once_does_not_wait_for_the_delay(autojump_clock: MockClock) -> None:
    async with open_service(drain_delay="1h") as running:
        client = await running.open()
        running.stop.set()
        await trio.sleep(1)
        start = trio.current_time()
        running.scope.cancel()
        await running.stopped.wait()
        assert running.stopped_at == start
        await client.wait_ended()


async def test_a_handshake_that_waits_for_redis_is_told_too(autojump_clock: MockClock) -> None:
    async with open_service(write_timeout="10s") as running:
        await running.open("/run:other", answers=False)
        running.redis.holding = True
        waiting = running.arrive()
        await waiting.send_raw(handshake(PATH))
        await trio.testing.wait_all_tasks_blocked()
        running.stop.set()
        await trio.testing.wait_all_tasks_blocked()
        running.redis.release()
        await waiting.wait_ended()
        assert (waiting.status, waiting.header("retry-after")) == (503, str(RETRY_AFTER))


async def test_sockets_that_say_nothing_hold_nothing_up(autojump_clock: MockClock) -> None:
    async with open_service() as running:
        mute = [running.arrive() for _ in range(3)]
        await mute[1].send_raw(b"GET /")
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        await running.drained()
        assert running.stopped_at == start
        for client in mute:
            await client.wait_ended()


async def test_a_silent_redis_delays_the_end_by_its_request_timeout_only(autojump_clock: MockClock) -> None:
    async with open_service(redis_request_timeout="1s") as running:
        client = await running.open()
        running.redis.holding = True
        start = trio.current_time()
        await running.drained()
        assert running.code == 0
        assert running.stopped_at - start <= 1.0
        assert goodbye(client) == FAREWELL


async def test_a_lost_redis_does_not_hinder_the_end(autojump_clock: MockClock) -> None:
    async with open_service() as running:
        client = await running.open()
        running.redis.unreachable = ConnectionRefusedError(111, "Connection refused")
        running.redis.drop_all()
        await trio.sleep(1)
        start = trio.current_time()
        await running.drained()
        assert (running.code, running.stopped_at) == (0, start)
        assert goodbye(client) == FAREWELL


def unreachable(redis: ScriptedRedis) -> None:
    redis.unreachable = ConnectionRefusedError(111, "Connection refused")


async def test_a_stop_before_redis_was_reached_is_a_clean_end(autojump_clock: MockClock) -> None:
    async with open_service(online=False, prepare=unreachable) as running:
        await trio.sleep(2)
        health = await running.get("/health")
        assert (health.status, bytes(health.body)) == (503, b"redis is unavailable\n")
        assert (await running.get("/health/live")).status == 200
        refused = await running.ask()
        assert (refused.status, refused.header("retry-after")) == (503, str(RETRY_AFTER))
        start = trio.current_time()
        await running.drained()
        assert (running.code, running.stopped_at) == (0, start)


async def test_redis_unavailable_at_the_start_is_exit_code_1(autojump_clock: MockClock) -> None:
    async with open_service(online=False, prepare=unreachable, redis_max_retries="3") as running:
        running.expected_errors.add("redis unavailable at start")
        waiting = running.arrive()
        with trio.fail_after(60):
            await running.stopped.wait()
        assert running.code == 1
        assert len(running.redis.attempts) == 3
        await waiting.wait_ended()


async def test_refused_credentials_at_the_start_are_exit_code_1(autojump_clock: MockClock) -> None:
    def guard(redis: ScriptedRedis) -> None:
        redis.password = b"secret"

    async with open_service(online=False, prepare=guard) as running:
        running.expected_errors.add("redis unavailable at start")
        with trio.fail_after(60):
            await running.stopped.wait()
        assert running.code == 1
        assert len(running.redis.attempts) == 1


async def test_cancelling_the_service_ends_all_at_once(autojump_clock: MockClock) -> None:
    async with open_service() as running:
        clients = [await running.open(transport=transport) for transport in TRANSPORTS]
        start = trio.current_time()
        running.scope.cancel()
        with trio.fail_after(1):
            await running.stopped.wait()
        for client in clients:
            await client.wait_ended()
            assert goodbye(client) == ([], None)
        assert trio.current_time() == start
