"""`python -m bench cluster-many-runs`: 3,000 runs with a client each on three primaries, classic and sharded.

Beside them stands the same load on one server. The CPU time is that of statusd, and of all servers together; a message
goes to the primary that owns its channel's slot, as a cluster's clients send it, and in a classic cluster from there
over the bus to all nodes. Primaries have no replicas here: each would take what a primary takes of the bus.

Exit status: 0; 1 when a client did not get what it must.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

import attrs
import trio
from redis.crc import key_slot

from bench.crowd import Site
from bench.feed import status_feed
from bench.outcome import REDIS, TARGET, Outcome
from bench.runner import raise_descriptor_limit
from bench.scenarios.stream import Stream
from bench.targets import FANOUT_TARGETS, HOST, open_target
from common.embedded import open_embedded_redis
from common.embedded_cluster import SLOTS, open_embedded_cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from common.embedded import EmbeddedRedis

PRIMARIES: Final = 3
CHANNELS: Final = [f"bench;;run-{number};;_base:wepp" for number in range(3000)]
SIZE: Final = 100


@attrs.frozen
class Shape:
    """A Redis, by its servers in the order of their slots, and the words of the URL and of the publisher for it."""

    servers: Sequence[EmbeddedRedis]
    url: str
    verb: str = "PUBLISH"


@asynccontextmanager
async def _one() -> AsyncIterator[Shape]:
    async with open_embedded_redis() as server:
        yield Shape([server], server.url(2))


@asynccontextmanager
async def _cluster(pubsub: str, verb: str) -> AsyncIterator[Shape]:
    async with open_embedded_cluster(primaries=PRIMARIES, replicas=0) as cluster:
        yield Shape(cluster.nodes, cluster.url(options=f"pubsub={pubsub}"), verb)


SHAPES: Final[Mapping[str, Callable[[], AbstractAsyncContextManager[Shape]]]] = {
    "one server": _one,
    "cluster, classic": partial(_cluster, "classic", "PUBLISH"),
    "cluster, sharded": partial(_cluster, "sharded", "SPUBLISH"),
}


def server_of(channel: str, servers: int) -> int:
    """Which of so many primaries owns the channel's slot, as `open_embedded_cluster` spreads them. Pure."""
    slot = key_slot(channel.encode())
    return next(number for number in range(servers) if slot < SLOTS * (number + 1) // servers)


async def measure(open_shape: Callable[[], AbstractAsyncContextManager[Shape]], rate: float, seconds: float) -> Outcome:
    """One shape, on servers of its own. The CPU of each of them is watched."""
    async with (
        open_shape() as shape,
        open_target(FANOUT_TARGETS["statusd"], shape.url) as running,
    ):
        first, *more = shape.servers
        watched = {f"{REDIS}-{number}": server.pid for number, server in enumerate(more, 1)}
        site = Site(
            running.address,
            (HOST, first.port),
            {TARGET: running.pid, REDIS: first.pid, **watched},
            [(HOST, server.port) for server in more],
        )
        feed = status_feed(CHANNELS, SIZE, shape.verb, partial(server_of, servers=len(shape.servers)))
        scenario = Stream(feed=feed, clients=len(CHANNELS), rate=rate, seconds=seconds, warmup=1)
        return await trio.to_thread.run_sync(partial(scenario.measure, site), abandon_on_cancel=True)


async def run(rate: float, seconds: float) -> bool:
    """Measure all, print the table; whether every client got what it must."""
    print("| Redis | statusd, CPU µs a message | servers, CPU µs a message | p99, ms | faults |\n|---|---|---|---|---|")
    well = True
    for name, open_shape in SHAPES.items():
        outcome = await measure(open_shape, rate, seconds)
        values = outcome.values
        well = well and not outcome.faults.total
        print(
            f"| {name} | {values['cpu_us_target']:.0f} | {values['cpu_us_redis']:.1f} | {values['p99_ms']:.1f}"
            f" | {outcome.faults.describe() if outcome.faults.total else ''} |",
            flush=True,
        )
    return well


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run, and exit."""
    parser = argparse.ArgumentParser(
        prog="python -m bench cluster-many-runs", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rate", type=float, default=2000.0, help="messages a second in all [2000]")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the measured window [5]")
    options = parser.parse_args(arguments)
    raise_descriptor_limit()
    sys.exit(0 if trio.run(run, options.rate, options.seconds) else 1)


if __name__ == "__main__":
    main()
