"""`python -m bench failover`: the longest silence that a client sees when Redis fails over, by topology.

A publisher sends a numbered message every 20 ms and goes where the primary is; the fault comes in the middle. Beside
statusd's client, with the daemon as it is configured by default, stands a subscriber of a few lines on ioredis
(`bench/peers/node_ws/subscriber.js`), on a group of its own under the same fault. The publisher's own silence is what
Redis itself was away.

Exit status: 0; 1 when a client of statusd got a message twice or out of order, was ended, or heard nothing any more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

import attrs
import trio

from bench.silences import Receipt, account, longest
from bench.targets import FANOUT_TARGETS, TargetError, subscriber_command
from bench.verdicts import Verdict, render
from common.embedded import EmbeddedRedisError, open_embedded_redis
from common.embedded_cluster import open_embedded_cluster
from common.embedded_group import HOST, NotRunningError, RefusedError, ask
from common.embedded_sentinel import MASTER, open_embedded_sentinel
from tests.support.daemon import open_daemon
from tests.support.raw import connect, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from common.embedded import EmbeddedRedis
    from common.embedded_cluster import EmbeddedCluster
    from common.embedded_sentinel import EmbeddedSentinel

CHANNEL: Final = "run:log"
PACE: Final = 0.02
BEFORE: Final = 2.0
"""Seconds of messages before the fault."""
AFTER: Final = 15.0
"""Seconds of messages after it: a former primary is told after ten that it is one."""
DOWN_AFTER: Final = 1.0
NODE_TIMEOUT: Final = 2.0

_EXPECTED: Final = (
    "redis stream interrupted",
    "redis unavailable, retrying",
    "redis unavailable, clients ended",
    "connection ended with error",
    "redis is a replica",
)


class Scene(Protocol):
    """A Redis of whichever kind, as the publisher and the fault see it."""

    @property
    def url(self) -> str:
        """For the daemon."""

    @property
    def options(self) -> Mapping[str, object]:
        """For ioredis."""

    async def publish(self, payload: str) -> None:
        """Where the primary is now; raises EmbeddedRedisError when it does not get through."""

    async def fail(self) -> None:
        """The fault."""


@attrs.frozen
class _Single:
    server: EmbeddedRedis

    @property
    def url(self) -> str:
        return self.server.url(2)

    @property
    def options(self) -> Mapping[str, object]:
        return {"single": {"host": HOST, "port": self.server.port}}

    async def publish(self, payload: str) -> None:
        await ask(self.server, "PUBLISH", CHANNEL, payload)

    async def fail(self) -> None:
        await self.server.restart()


@attrs.frozen
class _UnderSentinels:
    group: EmbeddedSentinel
    killed: bool

    @property
    def url(self) -> str:
        return self.group.url(2)

    @property
    def options(self) -> Mapping[str, object]:
        sentinels = [{"host": HOST, "port": each.port} for each in self.group.sentinels]
        return {"sentinel": {"sentinels": sentinels, "name": MASTER}}

    async def publish(self, payload: str) -> None:
        await ask(await self.group.primary(), "PUBLISH", CHANNEL, payload)

    async def fail(self) -> None:
        if self.killed:
            await (await self.group.primary()).kill()
        else:
            await self.group.failover()


@attrs.frozen
class _Cluster:
    cluster: EmbeddedCluster
    killed: bool

    @property
    def url(self) -> str:
        return self.cluster.url()

    @property
    def options(self) -> Mapping[str, object]:
        return {"cluster": [{"host": HOST, "port": node.port} for node in self.cluster.nodes]}

    async def publish(self, payload: str) -> None:
        await ask(next(node for node in reversed(self.cluster.nodes) if node.answering), "PUBLISH", CHANNEL, payload)

    async def fail(self) -> None:
        """Of the node that the subscriber is on; of the channel's slot where that is a replica."""
        home = await self._home()
        if self.killed:
            await home.kill()
            return
        slot = await self.cluster.slot(CHANNEL)
        for first, _, ids in await self.cluster.ranges():
            if ids[0] == self.cluster.ids[home]:
                slot = first
        await self.cluster.failover(slot)

    async def _home(self) -> EmbeddedRedis:
        for node in self.cluster.nodes:
            reply = await ask(node, "PUBSUB", "NUMSUB", CHANNEL)
            if isinstance(reply, list) and int(reply[1]):
                return node
        raise EmbeddedRedisError("nobody listens")


@asynccontextmanager
async def _single() -> AsyncIterator[Scene]:
    async with open_embedded_redis() as server:
        yield _Single(server)


@asynccontextmanager
async def _sentinel(*, killed: bool) -> AsyncIterator[Scene]:
    async with open_embedded_sentinel(down_after=DOWN_AFTER) as group:
        yield _UnderSentinels(group, killed)


@asynccontextmanager
async def _cluster(*, killed: bool) -> AsyncIterator[Scene]:
    async with open_embedded_cluster(node_timeout=NODE_TIMEOUT) as cluster:
        yield _Cluster(cluster, killed)


TRIALS: Final[Mapping[str, Callable[[], AbstractAsyncContextManager[Scene]]]] = {
    "single, restarted": _single,
    "sentinel, planned": partial(_sentinel, killed=False),
    "sentinel, killed": partial(_sentinel, killed=True),
    "cluster, planned": partial(_cluster, killed=False),
    "cluster, killed": partial(_cluster, killed=True),
}


@attrs.frozen
class Receiver:
    """A subscriber: `received` are numbers and times, `trouble` is what became of it besides."""

    received: list[tuple[int, float]]
    trouble: Callable[[], str]


@asynccontextmanager
async def _statusd(stage: Scene) -> AsyncIterator[Receiver]:
    async with open_daemon(stage.url, expect=_EXPECTED) as daemon, trio.open_nursery() as nursery:
        client = await connect(nursery, daemon.port, f"/{CHANNEL}")
        received: list[tuple[int, float]] = []

        def trouble() -> str:
            received[:] = [
                (int(json.loads(seen.payload)["data"]), seen.time)
                for seen in client.seen
                if seen.payload.startswith(b'{"type":"status"')
            ]
            return "ended" if client.ended or client.close_code is not None else ""

        yield Receiver(received, trouble)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _ioredis(stage: Scene) -> AsyncIterator[Receiver]:
    target = FANOUT_TARGETS["node_ws"]
    assert target.prepare is not None
    await target.prepare()
    command = subscriber_command(json.dumps({"channel": CHANNEL, **stage.options}))
    received: list[tuple[int, float]] = []
    ready = trio.Event()
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )

    async def read() -> None:
        rest = b""
        assert process.stdout is not None
        async for chunk in process.stdout:
            now = trio.current_time()
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line == b"ready":
                    ready.set()
                else:
                    received.append((int(line), now))

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            with trio.fail_after(60):
                await ready.wait()
            yield Receiver(received, lambda: "" if process.returncode is None else "its process has ended")
            nursery.cancel_scope.cancel()
    finally:
        process.kill()
        with trio.move_on_after(30, shield=True):
            await process.wait()


SUBSCRIBERS: Final[Mapping[str, Callable[[Scene], AbstractAsyncContextManager[Receiver]]]] = {
    "statusd": _statusd,
    "ioredis": _ioredis,
}


@attrs.frozen
class Failover:
    """One trial of one subscriber; `away` is the publisher's longest silence."""

    account: Receipt
    away: float
    trouble: str


async def measure(open_stage: Callable[[], AbstractAsyncContextManager[Scene]], subscriber: str) -> Failover:
    """One trial, on a Redis of its own."""
    published: dict[int, float] = {}
    async with open_stage() as stage, SUBSCRIBERS[subscriber](stage) as receiver:
        stop = trio.Event()

        async def publish() -> None:
            number, due = 0, trio.current_time()
            while not stop.is_set():
                number += 1
                at = trio.current_time()
                try:
                    await stage.publish(str(number))
                except (NotRunningError, RefusedError):
                    pass  # it does not count
                else:
                    published[number] = at
                due = max(due + PACE, trio.current_time())
                await trio.sleep_until(due)
            stop_done.set()

        stop_done = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            await trio.sleep(BEFORE)
            await stage.fail()
            await trio.sleep(AFTER)
            stop.set()
            with trio.fail_after(60):
                await stop_done.wait()
        last = max(published)

        def heard() -> bool:
            trouble = receiver.trouble()
            return bool(trouble) or any(number == last for number, _ in receiver.received[-1:])

        try:
            await wait_until(heard, "the last message", within=30)
            trouble = receiver.trouble()
        except AssertionError:
            trouble = "hears nothing any more"
        return Failover(account(published, receiver.received), longest(sorted(published.values())), trouble)


async def run(only: str) -> list[Verdict]:
    """Measure all whose name begins with `only`, and print the table."""
    print(
        "| Redis | subscriber | published | lost | twice | out of order | longest silence, s | Redis away, s | |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    verdicts = []
    for name, open_stage in TRIALS.items():
        if not name.startswith(only):
            continue
        for subscriber in SUBSCRIBERS:
            why = FANOUT_TARGETS["node_ws"].missing() if subscriber == "ioredis" else None
            if why is not None:
                print(f"| {name} | {subscriber} | not here: {why} |", flush=True)
                continue
            try:
                result = await measure(open_stage, subscriber)
            except TargetError as error:
                print(f"| {name} | {subscriber} | not here: {str(error).splitlines()[0]} |", flush=True)
                continue
            it = result.account
            print(
                f"| {name} | {subscriber} | {it.published} | {it.lost} | {it.twice} | {it.disordered}"
                f" | {it.silence:.2f} | {result.away:.2f} | {result.trouble} |",
                flush=True,
            )
            if subscriber == "statusd":
                verdicts.append(judge(name, result))
    return verdicts


def judge(name: str, result: Failover) -> Verdict:
    """What statusd promises of each. Pure."""
    it = result.account
    findings = [result.trouble] if result.trouble else []
    if it.twice or it.disordered:
        findings.append(f"{it.twice} messages twice, {it.disordered} out of order")
    return Verdict(f"{name}, clients stay and get nothing twice", f"{it.silence:.2f} s of silence", tuple(findings))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run, and exit."""
    parser = argparse.ArgumentParser(prog="python -m bench failover", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="those trials whose names begin so, `sentinel` for instance")
    options = parser.parse_args(arguments)
    verdicts = trio.run(run, options.only)
    print(render(verdicts))
    sys.exit(0 if all(verdict.kept for verdict in verdicts) else 1)


if __name__ == "__main__":
    main()
