"""`python -m bench.latency [--rounds N]`: how soon those who watch know what happens, in milliseconds.

The daemons are those of the tests, each measure is taken `--rounds` times (40), and the contract's figure stands beside
it. It is one machine's answer at one moment, and exits with 0 whatever it is: the tests assert what makes it quick
(who is told, by whom, in which order, how often somebody is asked), never how quick.
"""

from __future__ import annotations

import argparse
import json
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio
from trio_websocket import open_websocket_url

from bench.stats import percentile
from common.embedded import open_embedded_redis
from tests.support.daemon import open_daemon
from tests.support.events import address_of, open_events
from tests.support.preflight import gather, wait_true
from tests.support.raw import HOST, connect, open_redis, open_stream, request_head, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio_websocket import WebSocketConnection

    from common.embedded import EmbeddedRedis
    from tests.support.daemon import DaemonProcess

CLIENTS: Final = 100
RATE: Final = 50.0
PAUSE: Final = 0.1
"""Seconds between two rounds: more than anybody holds back."""

_ADMIN: Final = {"admin_listen_addr": f"{HOST}:0"}


@attrs.frozen
class Measure:
    """One row of the table, and the milliseconds of the contract."""

    title: str
    take: Callable[[EmbeddedRedis, int], Awaitable[list[float]]]
    """The seconds of each round."""
    goal: str


async def run(rounds: int) -> None:
    """Take each measure on a Redis of its own, and print it."""
    print(f"{'ms':<58} {'p50':>8} {'p99':>8}   goal")
    for measure in MEASURES:
        async with open_embedded_redis() as redis:
            seconds = sorted(await measure.take(redis, rounds))
        p50, p99 = (percentile(seconds, percent) * 1000 for percent in (50, 99))
        print(f"{measure.title:<58} {p50:8.2f} {p99:8.2f}   {measure.goal}", flush=True)


# -- the operator's events ---------------------------------------------------------------------------------------------


async def connection_to_event(redis: EmbeddedRedis, rounds: int, *, workers: int) -> list[float]:
    """From a client's 101 to the event that counts it."""
    settings = _ADMIN | {"workers": str(workers)}
    seconds: list[float] = []
    async with (
        open_daemon(redis, settings) as daemon,
        open_events(daemon) as events,
        trio.open_nursery() as nursery,
    ):
        await events.until(0)
        for number in range(1, rounds + 1):
            await trio.sleep(PAUSE)
            await connect(nursery, daemon.port, "/run:log")
            start = trio.current_time()
            await events.until(number)
            seconds.append(trio.current_time() - start)
        nursery.cancel_scope.cancel()
    return seconds


# -- opsd --------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_platform(redis: EmbeddedRedis) -> AsyncIterator[tuple[DaemonProcess, DaemonProcess, DaemonProcess]]:
    """statusd, preflightd and an opsd that sees both."""
    async with AsyncExitStack() as stack:
        statusd, preflightd = [
            await stack.enter_async_context(open_daemon(redis, _ADMIN, module=module))
            for module in ("statusd", "preflightd")
        ]
        targets = ",".join(f"{d}=http://{address_of(p)}" for d, p in (("statusd", statusd), ("preflightd", preflightd)))
        opsd = await stack.enter_async_context(
            open_daemon(redis, {"targets": targets}, module="opsd", healthy=False, expect=["source unavailable"])
        )
        await wait_until(lambda: _is_healthy(opsd), "opsd is ready")
        yield statusd, preflightd, opsd


async def _is_healthy(daemon: DaemonProcess) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"http://{HOST}:{daemon.port}/health")).status_code == 200


async def connection_to_live_frame(redis: EmbeddedRedis, rounds: int) -> list[float]:
    """From a client's 101, of statusd and preflightd in turn, to opsd's frame that counts it."""
    seconds: list[float] = []
    async with open_platform(redis) as (statusd, preflightd, opsd):
        address = f"ws://{HOST}:{opsd.port}/api/dev/status/live"
        async with open_websocket_url(address) as websocket, trio.open_nursery() as nursery:
            for number in range(1, rounds + 1):
                await trio.sleep(PAUSE)
                daemon, path = (statusd, "/run:log") if number % 2 else (preflightd, "/run")
                await connect(nursery, daemon.port, path)
                start = trio.current_time()
                while await _counted(websocket) != number:
                    pass
                seconds.append(trio.current_time() - start)
            nursery.cancel_scope.cancel()
    return seconds


async def _counted(websocket: WebSocketConnection) -> int:
    return int(json.loads(await websocket.get_message())["vector"]["sessions"]["websocketConnections"])


async def answers(redis: EmbeddedRedis, rounds: int, *, fresh: bool) -> list[float]:
    """opsd's status, asked for at `RATE`; each on a connection of its own if `fresh`."""
    seconds: list[float] = []
    async with open_platform(redis) as (_, _, opsd), AsyncExitStack() as stack:
        request = request_head("/api/dev/status", headers={"Host": f"{HOST}:{opsd.port}"})
        stream = await stack.enter_async_context(await open_stream(opsd.port))
        begun = trio.current_time()
        for number in range(3 * rounds):
            await trio.sleep_until(begun + number / RATE)
            start = trio.current_time()
            if fresh:
                async with await open_stream(opsd.port) as stream:
                    await _read_answer(stream, request)
                    seconds.append(trio.current_time() - start)
            else:
                await _read_answer(stream, request)
                seconds.append(trio.current_time() - start)
    return seconds


async def _read_answer(stream: trio.SocketStream, request: bytes) -> None:
    await stream.send_all(request)
    answer = b""
    while b'"meta"' not in answer or not answer.endswith(b"}}"):
        answer += (chunk := await stream.receive_some())
        assert chunk, "closed in the middle of an answer"


# -- preflightd --------------------------------------------------------------------------------------------------------


async def write_to_last_client(redis: EmbeddedRedis, rounds: int) -> list[float]:
    """From the answer to the last of 20 writes to the frame of the last of `CLIENTS` clients."""
    seconds: list[float] = []
    async with (
        open_daemon(redis, {"resync_interval": "0"}, module="preflightd") as daemon,
        open_redis(redis) as commands,
        trio.open_nursery() as nursery,
    ):
        clients = await gather(nursery, daemon.port, ["run"], CLIENTS)
        for number in range(1, rounds + 1):
            await trio.sleep(PAUSE)
            for write in range(20):
                await commands.call("HSET", "run", "last_modified", 100 * number + write)
            start = trio.current_time()
            await wait_true(commands, {"run": clients})
            seconds.append(max(0.0, max(client.seen[-1].time for client in clients) - start))
        nursery.cancel_scope.cancel()
    return seconds


async def _one_worker(redis: EmbeddedRedis, rounds: int) -> list[float]:
    return await connection_to_event(redis, rounds, workers=1)


async def _two_workers(redis: EmbeddedRedis, rounds: int) -> list[float]:
    return await connection_to_event(redis, rounds, workers=2)


async def _kept(redis: EmbeddedRedis, rounds: int) -> list[float]:
    return await answers(redis, rounds, fresh=False)


async def _fresh(redis: EmbeddedRedis, rounds: int) -> list[float]:
    return await answers(redis, rounds, fresh=True)


MEASURES: Final = (
    Measure("a client connects -> the operator's event, one worker", _one_worker, "p50 100"),
    Measure("a client connects -> the operator's event, two workers", _two_workers, "p50 100"),
    Measure("a client connects -> opsd's live frame", connection_to_live_frame, "p50 100"),
    Measure("opsd's status at 50 a second, on one connection", _kept, "p50 5, p99 15"),
    Measure("opsd's status at 50 a second, each on a new connection", _fresh, "p50 5, p99 15"),
    Measure("a run is written -> the last of 100 clients is told", write_to_last_client, "p50 100"),
)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="how often each is measured")
    trio.run(run, parser.parse_args().rounds)


if __name__ == "__main__":
    main()
