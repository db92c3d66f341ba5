"""A day in the life of both daemons, on a MockClock: heartbeats, visitors of every kind, restarts of Redis.

At the end everything is as it was after the first hour: tasks, topics, subscriptions, places, and objects by type.
Nobody's conversation but the visitors' has ended.
"""

from __future__ import annotations

import gc
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio
import trio.testing

from common.fanout import LINGER
from tests.support.client import PONG_PAYLOAD, TEXT, Client
from tests.support.service import Running, open_service, seldom_asking
from tests.support.subjects import SUBJECTS, Subject

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio.testing import MockClock


HOUR: Final = 3600.0
HOURS: Final = 24
VISITS: Final = 6
"""Times an hour in which visitors come."""
PING_INTERVAL: Final = 120.0
PONG_TIMEOUT: Final = 300.0
RESIDENTS: Final = 3
OUTAGES: Final = (0.0, 3.0, 40.0)
"""Seconds that Redis is away, hour by hour."""

OURS: Final = ("common", "statusd", "preflightd", "trio", "wsproto", "h11", "hiredis")
HELD: Final = 2
"""Objects of a type that a task at rest may still hold from the last that it did: a leak would be one a visit."""
SPARE: Final = 400
"""Objects that the interpreter's own caches may have gained: less than half a one for each visitor."""


@attrs.frozen
class State:
    """What there is at a moment when nothing is under way."""

    tasks: int
    peers: int
    open: int
    beats: int
    topics: frozenset[bytes]
    subscribed: frozenset[bytes]
    connections: int
    """To Redis."""
    ours: Counter[str] = attrs.field(eq=False)
    """Objects of the daemon and what it is made of, by type."""
    objects: int = attrs.field(eq=False)
    """All that the collector knows."""


def tasks_under(nurseries: Iterable[trio.Nursery]) -> int:
    """Tasks in these nurseries, and in those of the tasks."""
    tasks = [task for nursery in nurseries for task in nursery.child_tasks]
    return len(tasks) + sum(tasks_under(task.child_nurseries) for task in tasks)


def look(running: Running) -> State:
    service, redis = running.service, running.redis
    root = trio.lowlevel.current_root_task()
    assert root is not None
    gc.collect()
    known = gc.get_objects()
    ours = Counter(
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in map(type, known)
        # A class of somebody's extension may have something else than a name there.
        if str(kind.__module__).partition(".")[0] in OURS
    )
    live = [peer for peer in redis.peers if not peer.closed]
    return State(
        tasks=tasks_under(root.child_nurseries),
        peers=len(service.server.peers),
        open=service.server._admission.open,
        beats=len(service.heartbeat),
        topics=frozenset(topic.channel for topic in service.hub.topics),
        subscribed=frozenset(channel for peer in live for channel in peer.channels),
        connections=len(live),
        ours=ours,
        objects=len(known),
    )


def forget(running: Running, residents: Iterable[Client]) -> None:
    """Let go of what only the test keeps."""
    redis = running.redis
    redis.commands.clear()
    redis.attempts.clear()
    redis.peers[:] = [peer for peer in redis.peers if not peer.closed]
    running.logbook.lines.clear()
    for client in residents:
        client.seen.clear()
        client.body.clear()
    for client in [client for client in running.sockets if client not in residents]:
        del running.sockets[client]


async def visit(running: Running, subject: Subject, number: int) -> None:
    """Visitors of every kind, each on a topic of its own but for those of the residents' run."""
    path = subject.path.replace("run", f"run{number}")
    polite, vanishing, silent, reloading = [await running.open(path) for _ in range(4)]
    guest = await running.open(subject.path)
    silent.answers = False
    broken = await running.open(path)
    half_open = running.arrive()
    refused = await running.ask(subject.path.replace("run", "a b"))
    assert refused.status == 400
    await polite.send_close()
    await vanishing.stream.send_stream.aclose()  # type: ignore[attr-defined]
    await broken.send_raw(b"\xff\xff\xff")
    running.sockets[guest].reset()
    await guest.stream.send_stream.aclose()  # type: ignore[attr-defined]
    await reloading.send_close()
    await trio.sleep(LINGER / 2)
    again = await running.open(path)
    await again.send(TEXT, b"nonsense")
    await again.send_close()
    for client in (polite, vanishing, broken, reloading, half_open, again):
        await client.wait_ended()
    await silent.wait_ended(within=2 * PONG_TIMEOUT)
    assert silent.close_code == 1008


def has_heard(word: bytes, client: Client) -> bool:
    return any(word in text for text in client.messages)


async def restart(running: Running, away: float) -> None:
    """Redis ends, and is back after so many seconds."""
    running.redis.unreachable = OSError("connection refused") if away else None
    running.redis.drop_all()
    await trio.sleep(away)
    running.redis.unreachable = None
    with trio.fail_after(120):
        await trio.testing.wait_all_tasks_blocked()
        await running.service.hub.link.wait_online()


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
async def test_after_a_day_everything_is_as_after_its_first_hour(subject: Subject, autojump_clock: MockClock) -> None:
    variables = {} if subject.greeting == 0 else {"resync_interval": "10m"}
    async with open_service(
        of=seldom_asking(subject.daemon),
        ping_interval=f"{PING_INTERVAL:g}s",
        pong_timeout=f"{PONG_TIMEOUT:g}s",
        redis_max_retries="0",
        **variables,  # type: ignore[arg-type]
    ) as running:
        residents = [await running.open(subject.path) for _ in range(RESIDENTS)]
        states: list[State] = []
        visitors = 0
        for hour in range(HOURS):
            begun = trio.current_time()
            pings = 0
            for _ in range(VISITS):
                visitors += 1
                await visit(running, subject, visitors)
            await restart(running, OUTAGES[hour % len(OUTAGES)])
            for client in residents:
                pings += len(client.pings)
                client.seen.clear()
            subject.change(running.redis, hour + 1)
            await trio.sleep(subject.delay)
            for client in residents:
                await client.wait(partial(has_heard, b"%d" % (hour + 1)))
                await client.send(TEXT, PONG_PAYLOAD)
            await trio.sleep_until(begun + HOUR)
            pings += sum(len(client.pings) for client in residents)
            assert abs(pings - RESIDENTS * HOUR / PING_INTERVAL) <= RESIDENTS, "heartbeats of an hour"
            forget(running, residents)
            states.append(look(running))
        first, last = states[0], states[-1]
        assert first.topics == first.subscribed == {subject.channel}
        assert (first.peers, first.open, first.beats) == (RESIDENTS,) * 3
        assert last == first
        assert {name: more for name, more in (last.ours - first.ours).items() if more > HELD} == {}
        assert last.objects - first.objects < SPARE
        assert running.service.counters.connections == RESIDENTS + 7 * visitors
