"""`python -m bench.drill metrics|jitter`: two drills of docs/operations.md, with a Redis and a statusd of their own.

A crowd listens to one channel, on which ten messages a second are published. `metrics` then holds what the daemon's
page says against what the clients got and what Redis counted, and shows every series that moved. `jitter` is the same
with a proxy before the daemon that delays and stalls what passes (`tests/faultproxy.py`): everybody stays, gets all of
it once and in order, and the metrics show the way to the clients.

Exit status: 0; 1 when a promise was broken. The seed is that of the weather.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from typing import TYPE_CHECKING, Final, NoReturn

import attrs
import trio

from bench.exposition import samples
from bench.said import count_lines
from bench.verdicts import Verdict, render
from common.embedded import open_embedded_redis
from common.histogram import BUCKETS
from tests.faultproxy import CLEAR, Weather, open_fault_proxy
from tests.support.daemon import open_daemon
from tests.support.load import open_traffic
from tests.support.raw import fetch, open_redis, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from common.embedded import EmbeddedRedis
    from tests.support.daemon import DaemonProcess
    from tests.support.load import Follower, Traffic

JITTER: Final = Weather(latency=0.2, jitter=0.05, loss=0.02)
"""What the playbook of the old service sets with netem, in each direction."""
DRILLS: Final = {"metrics": CLEAR, "jitter": JITTER}

CHANNEL: Final = "drill:log"
PACE: Final = 0.1
BROKEN: Final = 1

_PREFIX: Final = "status2"
_ROUND_TRIPS: Final = "client_round_trip_seconds"
_BUCKET: Final = re.compile(r'le="([^"]+)"')


@attrs.frozen(kw_only=True)
class DrillFigures:
    """What was seen of one drill."""

    clients: int
    lost: int
    """Conversations that ended before the drill did."""
    published: int
    publishes: int
    """The commands that Redis counted."""
    got: int
    """Messages that all clients together got."""
    wrong: tuple[str, ...]
    """Of each client that did not get everything once and in order, what was wrong."""
    before: Mapping[str, float]
    after: Mapping[str, float]
    """The daemon's samples, before the first client and while all are there."""

    def grown(self, name: str) -> float:
        """By how much a sample has grown."""
        return self.after.get(name, 0.0) - self.before.get(name, 0.0)


def least_round_trip(page: Mapping[str, float]) -> float:
    """The lower bound, in seconds, of the lowest bucket of the clients' round trips that has one; infinite of none."""
    lower = 0.0
    for name, count in page.items():
        if name.startswith(f"{_ROUND_TRIPS}_bucket"):
            bound = _BUCKET.search(name)
            assert bound is not None, name
            if count:
                return lower
            lower = float(bound[1])
    return float("inf")


def judge(figures: DrillFigures, weather: Weather) -> list[Verdict]:
    """What there is to say of each promise. Pure."""
    forwarded = figures.grown("messages_forwarded_total")
    active = figures.after.get("connections_active", 0.0)
    counted = [] if forwarded == figures.got else [f"{forwarded:g} forwarded by the daemon, {figures.got} got"]
    counted += [] if active == figures.clients else [f"{active:g} connections active, {figures.clients} clients"]
    redis = [] if figures.publishes == figures.published else [f"{figures.publishes} counted by Redis"]
    verdicts = [
        Verdict(
            "statusd, nobody is lost",
            f"{figures.lost} of {figures.clients} clients",
            (f"{figures.lost} lost",) if figures.lost else (),
        ),
        Verdict(
            "statusd, every client gets every message, once and in order",
            f"{figures.published} published, {figures.got} got by {figures.clients} clients",
            figures.wrong,
        ),
        Verdict(
            "statusd, the metrics agree with the clients",
            f"{forwarded:g} forwarded, {figures.got} got; {active:g} connections active",
            tuple(counted),
        ),
        Verdict(
            "Redis counts as many messages as were published",
            f"{figures.publishes} PUBLISH, {figures.published} published",
            tuple(redis),
        ),
    ]
    if weather != CLEAR:
        verdicts.append(_judge_round_trips(figures, weather))
    return verdicts


def _judge_round_trips(figures: DrillFigures, weather: Weather) -> Verdict:
    number, total = figures.grown(f"{_ROUND_TRIPS}_count"), figures.grown(f"{_ROUND_TRIPS}_sum")
    # There and back, and no delay is shorter; of the bucket that a round trip of this length is in, the lower bound.
    due = max(bound for bound in BUCKETS if bound <= 2 * (weather.latency - weather.jitter))
    least = least_round_trip(figures.after)
    findings = [] if number else ["nobody was asked for long enough"]
    findings += [] if least >= due else [f"some were faster than {due:g} s, which the weather does not allow"]
    mean = total / number if number else 0.0
    return Verdict(
        "statusd, the metrics show the way to the clients",
        f"{number:g} round trips, {mean:.3f} s in the mean, none below {least:g} s",
        tuple(findings),
    )


def moved(figures: DrillFigures) -> list[str]:
    """The daemon's samples that changed, without the buckets of histograms."""
    return [
        f"{_PREFIX}_{name}  {figures.before.get(name, 0.0):g} -> {value:g}"
        for name, value in figures.after.items()
        if figures.grown(name) and "_bucket{" not in name and "_created" not in name
    ]


async def run(weather: Weather, rng: random.Random, clients: int, seconds: float) -> tuple[DrillFigures, list[str]]:
    """One drill: its figures, and what the daemon said."""
    async with (
        open_embedded_redis() as redis,
        open_daemon(redis, {"metrics_enabled": "true"}) as daemon,
        open_fault_proxy(daemon.port, rng=rng) as proxy,
        open_traffic(redis, [CHANNEL], pace=PACE) as traffic,
        trio.open_nursery() as nursery,
    ):
        before = await _samples(daemon)
        proxy.weather = weather
        followers = await traffic.gather(nursery, proxy.port, clients)
        await trio.sleep(seconds)
        await traffic.stop(followers)
        await wait_until(lambda: _all_counted(daemon, followers), "the last message counted")
        figures = DrillFigures(
            clients=clients,
            lost=sum(not follower.undisturbed for follower in followers),
            published=len(traffic.sent[CHANNEL]),
            publishes=await _publishes(redis),
            got=_got(followers),
            wrong=tuple(_wrong(traffic, followers)),
            before=before,
            after=await _samples(daemon),
        )
        said = count_lines(daemon.lines)
        proxy.weather = CLEAR
        for follower in followers:
            await follower.client.leave()
        nursery.cancel_scope.cancel()
    return figures, said


async def _samples(daemon: DaemonProcess) -> dict[str, float]:
    return samples((await fetch(daemon.port, "/metrics")).body.decode(), _PREFIX)


async def _all_counted(daemon: DaemonProcess, followers: Sequence[Follower]) -> bool:
    """A batch is counted when the last of its frames was written, which a client may have read by then."""
    return await daemon.metric(f"{_PREFIX}_messages_forwarded_total") >= _got(followers)


def _got(followers: Iterable[Follower]) -> int:
    return sum(len(follower.client.messages) for follower in followers)


def _wrong(traffic: Traffic, followers: Sequence[Follower]) -> list[str]:
    found = []
    for number, follower in enumerate(followers, 1):
        try:
            traffic.check(follower)
        except AssertionError as error:
            found.append(f"client {number}: {error}")
    return found


async def _publishes(redis: EmbeddedRedis) -> int:
    async with open_redis(redis) as connection:
        stats = await connection.call("INFO", "commandstats")
    assert isinstance(stats, bytes)
    found = re.search(r"^cmdstat_publish:calls=(\d+)", stats.decode(), re.MULTILINE)
    return int(found[1]) if found else 0


def main() -> NoReturn:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m bench.drill", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("drill", choices=list(DRILLS))
    parser.add_argument("--seconds", type=float, default=20.0, metavar="N", help="of messages [20]")
    parser.add_argument("--clients", type=int, default=60, metavar="N", help="that listen [60]")
    parser.add_argument("--seed", type=int, metavar="N", help="of the weather [drawn]")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    weather = DRILLS[options.drill]
    figures, said = trio.run(run, weather, random.Random(seed), options.clients, options.seconds)
    verdicts = judge(figures, weather)
    print(*moved(figures), "the daemon said", *said, render(verdicts), f"seed {seed}", sep="\n")
    sys.exit(0 if all(verdict.kept for verdict in verdicts) else BROKEN)


if __name__ == "__main__":
    main()
