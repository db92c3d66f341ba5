"""Four replicas of statusd behind the shipped Caddyfile: what the end of one is to 400 pages of 40 runs."""

from __future__ import annotations

import random
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import pytest
import trio

from common.backoff import Backoff
from tests.support.client import handshake
from tests.support.daemon import DaemonProcess, open_daemon
from tests.support.proxies import PREFIX, open_caddy
from tests.support.raw import HOST, RawClient, open_redis, start_client, wait_until

if TYPE_CHECKING:
    from common.embedded import EmbeddedRedis
    from tests.support.raw import RedisConnection

pytestmark = pytest.mark.integration

RUNS: Final = [f"run;;{number}:wepp" for number in range(40)]
PAGES: Final = 10
"""For each run; each spells its path in its own way and asks for options of its own."""
REPLICAS: Final = 4
DELAYS: Final = Backoff(0.5, 4.0)
TRIES: Final = 3
"""How often a page asks at most until it is in again. Caddy itself looks for a replica that answers for two seconds,
which is longer than it takes to see that one is gone: where it has time to run, the first does."""
SETTINGS: Final = {
    "metrics_enabled": "true",
    "ping_interval": "1h",
    "pong_timeout": "3h",
    # Longer than it takes Caddy to see it: nobody who was told to come back is sent to the same one.
    "drain_delay": "4s",
    "drain_spread": "2s",
}


class Page:
    """A page of a run, which comes back after its backoff, as the platform's do, until the test ends."""

    def __init__(self, run: str, number: int, port: int) -> None:
        run_id, _, channel = run.rpartition(":")
        spelt = run if number % 2 else f"{run_id.replace(';', '%3B')}%3A{channel}"
        self.run = run
        self.messages: list[bytes] = []
        """All it has got but on the present connection."""
        self.tries: list[int] = []
        """How many handshakes each of its times needed."""
        self.codes: list[int | None] = []
        self._path = f"{PREFIX}/status/{spelt}?gap={number % 3 and 1}&page={number}"
        self._port = port
        self._rng = random.Random(run + str(number))
        self._client: RawClient | None = None

    @property
    def is_in(self) -> bool:
        return self._client is not None and self._client.status == 101 and not self._client.ended

    @property
    def got(self) -> list[bytes]:
        return self.messages + ([] if self._client is None else self._client.messages)

    async def live(self, nursery: trio.Nursery) -> None:
        while True:
            tries = 1
            while not await self._arrives(nursery):
                assert tries < TRIES, f"a page of {self.run} was refused {tries} times"
                await trio.sleep(DELAYS.after_failure(tries, self._rng))
                tries += 1
            self.tries.append(tries)
            client = self._client
            assert client is not None
            await client.wait_ended(within=float("inf"))
            self.codes.append(client.close_code)
            self.messages += client.messages
            self._client = None
            await trio.sleep(DELAYS.first(self._rng))

    async def _arrives(self, nursery: trio.Nursery) -> bool:
        client = await start_client(nursery, self._port, handshake(self._path))
        await client.wait(lambda client: client.status is not None or client.ended)
        self._client = client
        return client.status == 101


async def processes(redis: RedisConnection) -> list[int]:
    """On how many processes each run is."""
    reply = await redis.call("PUBSUB", "NUMSUB", *RUNS)
    assert isinstance(reply, dict | list)
    counts = list(reply.values()) if isinstance(reply, dict) else reply[1::2]
    return [int(count) for count in counts]


async def settled(pages: list[Page], redis: RedisConnection) -> None:
    async def all_in() -> bool:
        return all(page.is_in for page in pages) and await processes(redis) == [1] * len(RUNS)

    await wait_until(all_in, "every page is in, and every run on one process")


async def told(pages: list[Page], redis: RedisConnection, line: str) -> None:
    """Publish to every run; every page gets it."""
    for run in RUNS:
        assert await redis.call("PUBLISH", run, line) == 1
    expected = b'{"type":"status","data":"%b"}' % line.encode()
    await wait_until(lambda: all(page.got[-1:] == [expected] for page in pages), f"everybody has got {line!r}")


async def test_a_killed_and_a_drained_one_of_four_cost_its_own_pages_one_backoff(redis_server: EmbeddedRedis) -> None:
    async with AsyncExitStack() as stack:
        daemons: list[DaemonProcess] = [
            await stack.enter_async_context(
                open_daemon(redis_server, SETTINGS, code=-signal.SIGKILL if number == 0 else 0)
            )
            for number in range(REPLICAS)
        ]
        addresses = " ".join(f"{HOST}:{daemon.port}" for daemon in daemons)
        port = await stack.enter_async_context(open_caddy({"NEW_STATUS": addresses}))
        redis = await stack.enter_async_context(open_redis(redis_server))
        async with trio.open_nursery() as nursery:
            pages = [Page(run, number, port) for run in RUNS for number in range(PAGES)]
            for page in pages:
                nursery.start_soon(page.live, nursery)
            await settled(pages, redis)
            await told(pages, redis, "first")
            clients = [await daemon.metric("status2_connections_active") for daemon in daemons]
            assert sum(clients) == len(pages)
            assert all(count % PAGES == 0 for count in clients)

            lost = int(clients[0])
            daemons[0].signal(signal.SIGKILL)
            await daemons[0].wait_exit()
            await wait_until(lambda: sum(len(page.codes) for page in pages) == lost, "its pages have noticed")
            await settled(pages, redis)
            await told(pages, redis, "second")
            moved = [await daemon.metric("status2_connections_active") for daemon in daemons[1:]]
            assert sum(moved) == len(pages)

            left = int(moved[0])
            daemons[1].signal()
            await wait_until(lambda: sum(len(page.codes) for page in pages) == lost + left, "its pages were sent away")
            await settled(pages, redis)
            await told(pages, redis, "third")

            # Nobody else was disturbed, and each was away only as often as its own process went.
            drained = [page for page in pages if 1001 in page.codes]
            killed = [page for page in pages if None in page.codes]
            assert (len(drained), len(killed)) == (left, lost)
            assert {len({page.run for page in each}) * PAGES == len(each) for each in (drained, killed)} == {True}
            assert all(len(page.got) == 3 for page in pages), "each got each message once"
            nursery.cancel_scope.cancel()
