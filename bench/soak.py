"""`python -m bench.soak --minutes N`: clients that come and go on all three daemons, and what is left of them.

The time is cut into rounds. In each, 90 clients wander through statusd, preflightd and opsd (`bench.wanderers`), among
runs that change every few seconds, and in every third round Redis is restarted. Then everybody goes, and when the last
topic is gone the daemons are measured at rest: resident memory, descriptors, tasks, what the collector could not free.
They must end where they began: with no more descriptors or tasks than before the first client, and through the second
half memory grows by no more than its own noise. A day of it (`--minutes 1440`) is the canary of a release.

Exit status: 0; 1 when something grew or was left over. The seed, which is printed, brings the same clients again.
"""

from __future__ import annotations

import argparse
import random
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import attrs
import trio

from bench.drift import Drift
from bench.exposition import samples
from bench.holdings import Inside, look_inside, open_files, sockets_to
from bench.processes import wait_for
from bench.targets import FANOUT_TARGETS, HOST, OPS_TARGET, PREFLIGHT_TARGETS, open_target
from bench.verdicts import Verdict, render
from bench.wanderers import Gateway, Wanderers
from common.embedded import open_embedded_redis
from tests.support.load import Console, RedisGoneError
from tests.support.ports import free_port
from tests.support.preflight import WEPP
from tests.support.raw import fetch, open_stream, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.targets import RunningTarget
    from common.embedded import EmbeddedRedis

CLIENTS: Final = 90
ROUND: Final = 20.0
"""Seconds of a round, of which there are `MOST` at most: those of a long run are longer."""
CALM: Final = 8.0
"""Seconds of it, at the end, until the deaf are found out and the last subscription is given up."""
FEWEST: Final = 4
MOST: Final = 240
SEASON: Final = 5.0
"""Seconds for which there are the same runs."""
RUNS: Final = 5
"""At a time."""
PACE: Final = 0.05
"""Seconds between two messages, each with a write."""
AGAIN: Final = 0.1
"""Seconds until a Redis that is away is tried again."""
KEPT: Final = 60
"""Seconds after which a run's hash expires."""
RESTARTED: Final = 3
"""One round in so many."""
SETTLE: Final = 10.0
"""Seconds that a daemon at rest has to let go of what it held for its last clients."""
REST: Final = 120.0
"""Seconds until a daemon must be at rest at the latest: pings and lingering subscriptions are over in ten."""
GRAIN: Final = 1.0
"""MB: the memory that Python takes from the system at a time."""
BROKEN: Final = 1
_MINUTE: Final = 60.0

_PATIENT: Final = {"REDIS_RETRY_BASE": "100ms", "REDIS_RETRY_MAX": "1s", "REDIS_MAX_RETRIES": "0"}
_PINGS: Final = {"PING_INTERVAL": "1s", "PONG_TIMEOUT": "3s", "METRICS_ENABLED": "true"}


@attrs.frozen
class AtRest:
    """One daemon with nobody there; `inside` is None for one that does not tell."""

    time: float
    memory: float
    descriptors: int
    inside: Inside | None

    def holds_more(self, before: AtRest) -> bool:
        """Whether it has more descriptors or tasks than it had."""
        if self.descriptors > before.descriptors:
            return True
        return self.inside is not None and before.inside is not None and self.inside.tasks > before.inside.tasks


@attrs.frozen
class Soaked:
    """A daemon that is watched; `prefix` is that of its metrics."""

    running: RunningTarget
    prefix: str
    admin_port: int | None
    peers: tuple[int, ...]
    """Ports to which it keeps connections, as many as it happens to need: they are not counted."""

    async def quiet(self) -> bool:
        """Whether it has neither clients nor topics."""
        page = (await fetch(self.running.address[1], "/metrics")).body.decode()
        figures = samples(page, self.prefix)
        return not any(figures[name] for name in ("connections_active", "topics_active", "backlog_bytes"))

    async def measure(self) -> AtRest:
        """Now."""
        pid = self.running.pid
        theirs = {name for port in self.peers for name in sockets_to(pid, port)}
        admin = self.admin_port
        return AtRest(
            trio.current_time(),
            resident_mb(pid),
            len(open_files(pid) - theirs),
            None if admin is None else await look_inside(admin),
        )


def resident_mb(pid: int) -> float:
    """Of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


class Chatter:
    """Whoever writes: messages and hashes of the runs that there are at the moment."""

    def __init__(self) -> None:
        self.messages = 0
        self._begun = trio.current_time()

    def run(self, rng: random.Random) -> str:
        """One of the runs that there are now."""
        return f"run-{(trio.current_time() - self._begun) // SEASON:.0f}-{rng.randrange(RUNS)}"

    async def talk(self, redis: EmbeddedRedis, rng: random.Random) -> None:
        """Until cancelled, over as many connections as it takes."""
        while True:
            try:
                async with await open_stream(redis.port) as stream:
                    await self._talk(Console(stream), rng)
            except (OSError, RedisGoneError):
                await trio.sleep(AGAIN)

    async def _talk(self, console: Console, rng: random.Random) -> None:
        while True:
            run = self.run(rng)
            self.messages += 1
            await console.ask(
                ("PUBLISH", f"{run}:log", f"message {self.messages}"),
                ("HSET", run, b"timestamps:" + rng.choice(WEPP), 1_700_000_000 + self.messages),
                ("EXPIRE", run, KEPT),
            )
            await trio.sleep(PACE)


def plan(minutes: float) -> tuple[int, float]:
    """How many rounds there are, and for how many seconds of each somebody is there."""
    seconds = minutes * _MINUTE
    rounds = min(MOST, max(FEWEST, round(seconds / ROUND)))
    return rounds, max(CALM, seconds / rounds - CALM)


async def soak(minutes: float, seed: int) -> list[Verdict]:
    """The whole run."""
    rounds, seconds = plan(minutes)
    rng = random.Random(seed)
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_embedded_redis())
        daemons = await _open_daemons(stack, redis)
        chatter = Chatter()
        statusd, preflightd, opsd = (daemon.running.address[1] for daemon in daemons.values())
        doors = (
            Gateway(statusd, lambda rng: f"/{chatter.run(rng)}:log"),
            Gateway(preflightd, lambda rng: f"/{chatter.run(rng)}"),
            Gateway(opsd, lambda _: "/api/dev/status/live"),
        )
        wanderers = Wanderers(doors, CLIENTS, seed)
        rests = {name: [await daemon.measure()] for name, daemon in daemons.items()}
        restarts = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chatter.talk, redis, random.Random(rng.getrandbits(64)))
            for number in range(rounds):
                restarts += await _round(wanderers, redis, seconds, rng if number % RESTARTED == 1 else None)
                for name, daemon in daemons.items():
                    rests[name].append(await _rest(name, daemon, rests[name][0]))
                shown = ", ".join(f"{name} {rests[name][-1].memory:.1f} MB" for name in rests)
                print(f"round {number + 1} of {rounds}: {sum(wanderers.ends.values())} came, {shown}", file=sys.stderr)
            nursery.cancel_scope.cancel()
    verdicts = [verdict for name, found in rests.items() for verdict in judge(name, found)]
    return [came(wanderers, chatter.messages, restarts), *verdicts]


async def _open_daemons(stack: AsyncExitStack, redis: EmbeddedRedis) -> dict[str, Soaked]:
    daemons: dict[str, Soaked] = {}
    for target, database in ((FANOUT_TARGETS["statusd"], 2), (PREFLIGHT_TARGETS["preflightd"], 0)):
        admin = free_port()
        settings = {**_PATIENT, **_PINGS, "ADMIN_LISTEN_ADDR": f"{HOST}:{admin}"}
        running = await stack.enter_async_context(open_target(target, redis.url(database), settings))
        daemons[running.name] = Soaked(running, f"{target.name.removesuffix('d')}2", admin, (redis.port,))
    targets = ",".join(f"{name}=http://{HOST}:{daemon.admin_port}" for name, daemon in daemons.items())
    admins = tuple(daemon.admin_port for daemon in daemons.values() if daemon.admin_port is not None)
    running = await stack.enter_async_context(open_target(OPS_TARGET, redis.url(3), {"TARGETS": targets}))
    daemons[running.name] = Soaked(running, "", None, (redis.port, *admins))
    return daemons


async def _round(wanderers: Wanderers, redis: EmbeddedRedis, seconds: float, restart: random.Random | None) -> int:
    """Let them wander, and return how often Redis was restarted: at a moment that `restart` chooses, if it is given."""
    home = trio.Event()
    end = trio.current_time() + seconds
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wanderers.wander, home)
        if restart is not None:
            await trio.sleep(restart.uniform(0.2, 0.8) * seconds)
            await redis.restart()
        await trio.sleep_until(end)
        home.set()
    return int(restart is not None)


async def _rest(name: str, daemon: Soaked, before: AtRest) -> AtRest:
    if daemon.prefix:
        await wait_until(daemon.quiet, f"{name} at rest", within=REST)

    async def settled() -> bool:
        return not (await daemon.measure()).holds_more(before)

    await wait_for(settled, SETTLE)
    return await daemon.measure()


def came(wanderers: Wanderers, messages: int, restarts: int) -> Verdict:
    """Who was there: a run in which nobody was has shown nothing."""
    ends = ", ".join(f"{way} {count}" for way, count in sorted(wanderers.ends.items()))
    refused = ", ".join(f"{why} {count}" for why, count in sorted(wanderers.refused.items()))
    conversations = sum(wanderers.ends.values())
    return Verdict(
        "clients come and go while runs change and Redis is restarted",
        f"{conversations} conversations ({ends}), {wanderers.frames} frames, {messages} messages, {restarts} restarts;"
        f" handshakes refused: {refused or 'none'}",
        () if conversations and wanderers.frames else ("nobody heard anything",),
    )


def judge(name: str, rests: Sequence[AtRest]) -> list[Verdict]:
    """Whether a daemon ended where it began."""
    memory = Drift("MB", tuple(rest.time for rest in rests), tuple(rest.memory for rest in rests), GRAIN)
    first, last = rests[0], rests[-1]
    most = max(rest.descriptors for rest in rests)
    findings = [f"{last.descriptors - first.descriptors} more descriptors"] * (last.descriptors > first.descriptors)
    told = f"descriptors {first.descriptors} at first, {last.descriptors} at last, {most} at most"
    if first.inside is not None and last.inside is not None:
        told += f"; tasks {first.inside.tasks} at first, {last.inside.tasks} at last"
        told += f"; {last.inside.lost} objects that the collector could not free"
        more = last.inside.tasks - first.inside.tasks
        findings += [f"{more} more tasks"] * (more > 0)
        findings += [f"{last.inside.lost} objects that can't be freed"] * (last.inside.lost > 0)
    return [
        Verdict(
            f"{name}, memory at rest grows by no more than its noise or {GRAIN:g} MB",
            f"{memory}, over {len(rests)} rests",
            ("it grows",) if memory.grows else (),
        ),
        Verdict(f"{name}, no topic, descriptor, task or object is left over", told, tuple(findings)),
    ]


def main() -> NoReturn:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="1440 is a release's canary [10]")
    parser.add_argument("--seed", type=int, metavar="N", help="of the clients and of the restarts [drawn]")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    rounds, seconds = plan(options.minutes)
    print(f"seed {seed}: {rounds} rounds, in each {CLIENTS} clients for {seconds:.0f} s", flush=True)
    verdicts = trio.run(partial(soak, options.minutes, seed))
    print(render(verdicts))
    kept = all(verdict.kept for verdict in verdicts)
    print(
        f"seed {seed}" + ("" if kept else f"; again: python -m bench.soak --minutes {options.minutes:g} --seed {seed}")
    )
    sys.exit(0 if kept else BROKEN)


if __name__ == "__main__":
    main()
