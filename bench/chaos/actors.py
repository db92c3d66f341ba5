"""Each fault, done to the stage and undone at the end of its time.

`perform` returns when the fault is over. What it draws besides (which worker, behind which byte) comes from the fault's
own seed.
"""

from __future__ import annotations

import os
import random
import resource
import signal
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from bench.chaos import netem
from bench.chaos.faults import CLIENT_WAY, PROCESS, REDIS, REDIS_WAY
from bench.chaos.stage import ALLOWED, USER
from tests.faultproxy import CLEAR, Weather
from tests.support.raw import open_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from bench.chaos.faults import Fault
    from bench.chaos.stage import Service, Stage
    from tests.faultproxy import FaultProxy

WEATHERS: Final[Mapping[str, Weather]] = {
    "weather": Weather(latency=0.2, jitter=0.05, loss=0.02),
    "narrow": Weather(bandwidth=20_000.0, piece=2_000),
    "drip": Weather(bandwidth=2_000.0, piece=7),
    "silence": Weather(silent=True),
}

FLAP: Final = (0.05, 0.8)
"""Seconds between two cuts of a way that flaps, from and to."""

LONGEST_CUT: Final = 200
"""Bytes behind which a connection is cut at the latest: a few frames."""

BULK: Final = b"x" * 300_000
"""One message that is over the output buffer's limit by itself."""


async def perform(fault: Fault, stage: Stage, bulk_channel: str) -> None:
    """Do it, from its beginning to its end."""
    await trio.sleep(fault.begin)
    rng = random.Random(fault.seed)
    if fault.place == REDIS:
        await _REDIS[fault.name](fault, stage, bulk_channel)
        return
    service = stage.services[fault.daemon]
    if fault.place == PROCESS:
        await _PROCESS[fault.name](fault, service, rng)
        return
    assert fault.place in {REDIS_WAY, CLIENT_WAY}
    await _on_the_way(fault, service.redis_way if fault.place == REDIS_WAY else stage.client_ways[fault.daemon], rng)


async def _on_the_way(fault: Fault, proxy: FaultProxy, rng: random.Random) -> None:
    match fault.name:
        case "cut":
            proxy.cut()
        case "cut in mid-frame":
            proxy.cut_after(rng.randint(1, LONGEST_CUT))
        case "reset":
            proxy.reset()
        case "flap":
            with trio.move_on_after(fault.seconds):
                while True:
                    proxy.cut()
                    await trio.sleep(rng.uniform(*FLAP))
        case "half-close":
            proxy.half_close()
        case "refuse":
            proxy.refuse()
            proxy.cut()
            try:
                await trio.sleep(fault.seconds)
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                    await proxy.admit()
        case "weather" if netem.here():
            with netem.bad_weather():
                await trio.sleep(fault.seconds)
        case name:
            proxy.weather = WEATHERS[name]
            try:
                await trio.sleep(fault.seconds)
            finally:
                proxy.weather = CLEAR


# -- Redis ------------------------------------------------------------------------------------------------------------


async def _redis_killed(fault: Fault, stage: Stage, _channel: str) -> None:
    await stage.redis.kill()
    await trio.sleep(fault.seconds)
    await stage.redis.start()
    await stage.admit_daemons()


async def _redis_stopped(fault: Fault, stage: Stage, _channel: str) -> None:
    stage.redis.stop()
    try:
        await trio.sleep(fault.seconds)
    finally:
        stage.redis.cont()


async def _kill_pubsub(_fault: Fault, stage: Stage, _channel: str) -> None:
    async with open_redis(stage.redis) as control:
        await control.call("CLIENT", "KILL", "TYPE", "pubsub")


async def _kill_normal(_fault: Fault, stage: Stage, _channel: str) -> None:
    async with open_redis(stage.redis) as control:
        await control.call("CLIENT", "KILL", "TYPE", "normal")


async def _pause(fault: Fault, stage: Stage, _channel: str) -> None:
    async with open_redis(stage.redis) as control:
        await control.call("CLIENT", "PAUSE", round(1000 * fault.seconds), "ALL")
        await trio.sleep(fault.seconds)


async def _maxclients(fault: Fault, stage: Stage, _channel: str) -> None:
    async with open_redis(stage.redis) as control:
        await control.call("CONFIG", "SET", "maxclients", 1)
        await control.call("CLIENT", "KILL", "TYPE", "pubsub")
        await trio.sleep(fault.seconds)
        await control.call("CONFIG", "SET", "maxclients", 10_000)


async def _output_buffer(_fault: Fault, stage: Stage, channel: str) -> None:
    async with open_redis(stage.redis) as control:
        await control.call("CONFIG", "SET", "client-output-buffer-limit", "pubsub 65536 0 0")
        await control.call("PUBLISH", channel, BULK)
        await control.call("CONFIG", "SET", "client-output-buffer-limit", "pubsub 33554432 8388608 60")


async def _flushall(_fault: Fault, stage: Stage, _channel: str) -> None:
    async with open_redis(stage.redis) as control:
        await control.call("FLUSHALL")


async def _user_deleted(fault: Fault, stage: Stage, _channel: str) -> None:
    async with open_redis(stage.redis) as control:
        await control.call("ACL", "DELUSER", USER)
        await trio.sleep(fault.seconds)
        await control.call(*ALLOWED)


async def _channels_revoked(fault: Fault, stage: Stage, _channel: str) -> None:
    async with open_redis(stage.redis) as control:
        await control.call("ACL", "SETUSER", USER, "resetchannels")
        await trio.sleep(fault.seconds)
        await control.call("ACL", "SETUSER", USER, "allchannels")


async def _reads_revoked(fault: Fault, stage: Stage, _channel: str) -> None:
    async with open_redis(stage.redis) as control:
        await control.call("ACL", "SETUSER", USER, "-hgetall", "-hlen")
        await trio.sleep(fault.seconds)
        await control.call("ACL", "SETUSER", USER, "+@all")


_REDIS: Final[Mapping[str, Callable[[Fault, Stage, str], Awaitable[None]]]] = {
    "killed": _redis_killed,
    "stopped": _redis_stopped,
    "CLIENT KILL pubsub": _kill_pubsub,
    "CLIENT KILL normal": _kill_normal,
    "CLIENT PAUSE": _pause,
    "maxclients": _maxclients,
    "output buffer": _output_buffer,
    "FLUSHALL": _flushall,
    "ACL user deleted": _user_deleted,
    "ACL channels revoked": _channels_revoked,
    "ACL reads revoked": _reads_revoked,
}


# -- processes --------------------------------------------------------------------------------------------------------


async def _worker_killed(_fault: Fault, service: Service, rng: random.Random) -> None:
    await trio.lowlevel.checkpoint()
    _signal(rng.choice(service.workers), signal.SIGKILL)


async def _worker_stopped(fault: Fault, service: Service, rng: random.Random) -> None:
    await _stopped([rng.choice(service.workers)], fault.seconds)


async def _parent_stopped(fault: Fault, service: Service, _rng: random.Random) -> None:
    await _stopped(service.pids[:1], fault.seconds)


async def _all_stopped(fault: Fault, service: Service, _rng: random.Random) -> None:
    """As when its machine sleeps."""
    await _stopped(service.pids, fault.seconds)


async def _stopped(pids: Sequence[int], seconds: float) -> None:
    for pid in pids:
        _signal(pid, signal.SIGSTOP)
    try:
        await trio.sleep(seconds)
    finally:
        for pid in pids:
            _signal(pid, signal.SIGCONT)


async def _parent_killed(_fault: Fault, service: Service, _rng: random.Random) -> None:
    await trio.lowlevel.checkpoint()
    service.kill_parent()


async def _log_full(fault: Fault, service: Service, _rng: random.Random) -> None:
    # No file of theirs may grow: writing fails as on a full disk, with another number.
    async with _limited(service.pids, resource.RLIMIT_FSIZE, [service.log_size] * len(service.pids)):
        await trio.sleep(fault.seconds)


async def _descriptors(fault: Fault, service: Service, _rng: random.Random) -> None:
    workers = service.workers
    async with _limited(workers, resource.RLIMIT_NOFILE, [_highest_descriptor(pid) for pid in workers]):
        await trio.sleep(fault.seconds)


_PROCESS: Final[Mapping[str, Callable[[Fault, Service, random.Random], Awaitable[None]]]] = {
    "worker killed": _worker_killed,
    "worker stopped": _worker_stopped,
    # An event loop that is blocked is, from outside, a process that does not run.
    "worker blocked": _worker_stopped,
    "parent killed": _parent_killed,
    "parent stopped": _parent_stopped,
    "all stopped": _all_stopped,
    "log full": _log_full,
    "descriptors": _descriptors,
}


def _highest_descriptor(pid: int) -> int:
    return max(int(link.name) for link in Path(f"/proc/{pid}/fd").iterdir())


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


@asynccontextmanager
async def _limited(pids: Sequence[int], limit: int, values: Sequence[int]) -> AsyncIterator[None]:
    """The processes with this soft limit each, for the block."""
    before = {pid: resource.prlimit(pid, limit) for pid in pids}
    for pid, value in zip(pids, values, strict=True):
        resource.prlimit(pid, limit, (value, before[pid][1]))
    try:
        yield
    finally:
        for pid, limits in before.items():
            with suppress(ProcessLookupError):
                resource.prlimit(pid, limit, limits)
