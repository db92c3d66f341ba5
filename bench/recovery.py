"""`python -m bench.recovery`: how soon clients hear again when Redis was away, and how many are lost.

20 clients and an update every 100 ms, on statusd as it is configured by default; Redis is killed, and started again
0.3, 6 and 20 seconds later. Beside each row stands what the service that statusd replaces did. The goals: nobody is
lost in the first two, and the first update comes within the backoff's delay that was due, and 100 ms. At 20 s with the
default retries all clients are ended as documented (1013), and with REDIS_MAX_RETRIES=0 none.

Below, a histogram: 200 replicas that lose Redis together, simulated with the same backoff (`bench.storm`).

Exit status: 0; 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final, NoReturn

import attrs
import trio

from bench.storm import WINDOW, histogram, most_at_once, returns
from bench.verdicts import Verdict, render
from common.backoff import Backoff
from common.embedded import open_embedded_redis
from tests.support.daemon import open_daemon
from tests.support.load import open_traffic
from tests.support.raw import PATIENCE, connect, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.daemon import DaemonProcess

CLIENTS: Final = 20
PACE: Final = 0.1
BASE: Final = 1.0
"""REDIS_RETRY_BASE, in seconds."""
LATEST: Final = 0.1
"""Seconds beyond the delay that was due."""
TRY_AGAIN_LATER: Final = 1013
REPLICAS: Final = 200
CHANNEL: Final = "run:log"


@attrs.frozen
class Trial:
    """How long Redis is away, with which settings, and what the service that is replaced did of it."""

    away: float
    settings: Mapping[str, str]
    retries: str
    replaced: str
    survives: bool


TRIALS: Final = (
    Trial(0.3, {}, "5", "0 lost, first update after 1.8-2.6 s", survives=True),
    Trial(6.0, {}, "5", "7 lost, the rest after 1.5-8.2 s", survives=True),
    Trial(20.0, {}, "5", "20 lost", survives=False),
    Trial(20.0, {"redis_max_retries": "0"}, "no limit", "20 lost", survives=True),
)


@attrs.frozen
class Result:
    """What came of it; times are seconds after Redis was back."""

    lost: int
    documented: int
    """Of them, those that were told why."""
    first_updates: tuple[float, ...]
    due: float
    """The backoff's delay that was due when Redis came back."""
    ready: float
    """When the daemon was ready again."""

    def missed(self, trial: Trial) -> list[str]:
        """The goals that are missed, in words."""
        if not trial.survives:
            return (
                []
                if self.documented == CLIENTS
                else [f"{CLIENTS - self.documented} clients without the documented end"]
            )
        found = [f"{self.lost} clients lost"] if self.lost else []
        worst = max(self.first_updates, default=0.0)
        if worst > self.due + LATEST:
            found.append(f"an update after {worst:.2f} s, {self.due:.2f} s were due")
        return found


async def measure(trial: Trial) -> Result:
    """One trial, with a Redis and a daemon of its own."""
    expect = ("redis stream interrupted", "redis unavailable, retrying", "redis unavailable, clients ended")
    async with (
        open_embedded_redis() as redis,
        open_daemon(redis, trial.settings, expect=(*expect, "connection ended with error")) as daemon,
        open_traffic(redis, [CHANNEL], pace=PACE) as traffic,
        trio.open_nursery() as nursery,
    ):
        clients = [await connect(nursery, daemon.port, f"/{CHANNEL}") for _ in range(CLIENTS)]
        await traffic.wait_heard()
        await redis.kill()
        await trio.sleep(trial.away)
        await redis.start()
        back = trio.current_time()
        due = _due(daemon, time.time())
        await wait_until(lambda: _is_ready(daemon), "ready again")
        ready = trio.current_time() - back
        await traffic.wait_heard() if trial.survives else await trio.lowlevel.checkpoint()
        places = {sent.frame: sent.at for sent in traffic.sent[CHANNEL]}
        first: list[float] = []
        for client in clients:
            if trial.survives and not client.ended:
                await client.wait(
                    lambda client: any(places.get(text, back) >= back for text in client.messages[-1:]), within=PATIENCE
                )
        for client in clients:
            news = [seen.time for seen in client.seen if places.get(seen.payload, 0.0) >= back]
            first += [news[0] - back] if news else []
        lost = [client for client in clients if client.ended or client.close_code is not None]
        result = Result(
            len(lost), sum(client.close_code == TRY_AGAIN_LATER for client in lost), tuple(first), due, ready
        )
        nursery.cancel_scope.cancel()
    return result


def _due(daemon: DaemonProcess, now: float) -> float:
    """The delay under way at `now`: the last that was told, or the first of an outage."""
    told = [
        line["backoff"]
        for line in daemon.said("redis unavailable, retrying")
        if datetime.fromisoformat(line["time"]).timestamp() <= now
    ]
    return float(told[-1]) if told else BASE / 2


async def _is_ready(daemon: DaemonProcess) -> bool:
    return await daemon.health() == 200


def _row(trial: Trial, result: Result) -> str:
    first = "-"
    if result.first_updates:
        first = f"{min(result.first_updates):.2f}-{max(result.first_updates):.2f}"
    missed = "; ".join(result.missed(trial)) or "met"
    return (
        f"| {trial.away:g} | {trial.retries} | {result.lost} ({result.documented} with {TRY_AGAIN_LATER}) | {first}"
        f" | {result.due:.2f} | {result.ready:.2f} | {trial.replaced} | {missed} |"
    )


async def run() -> list[Verdict]:
    """Measure all, and print the table."""
    print(
        "| Redis away, s | retries | clients lost of 20 | first update, s after its return | backoff due, s"
        " | ready after, s | the service that is replaced | goals |\n|---|---|---|---|---|---|---|---|"
    )
    verdicts: list[Verdict] = []
    for trial in TRIALS:
        result = await measure(trial)
        print(_row(trial, result), flush=True)
        verdicts.append(judge(trial, result))
    return verdicts


def judge(trial: Trial, result: Result) -> Verdict:
    """The promise of one trial. Pure."""
    what = f"Redis away for {trial.away:g} s with {trial.retries} retries"
    if not trial.survives:
        return Verdict(
            f"{what}, all are told why they have to go",
            f"{result.documented} of {CLIENTS} with {TRY_AGAIN_LATER}",
            tuple(result.missed(trial)),
        )
    worst = max(result.first_updates, default=0.0)
    return Verdict(
        f"{what}, nobody is lost",
        f"{result.lost} of {CLIENTS}, and updates again {worst:.2f} s after its return beside {result.due:.2f} s of"
        f" backoff that were due; replaced, {trial.replaced}",
        tuple(result.missed(trial)),
    )


def show_storm(seed: int) -> None:
    """Print the histograms."""
    for away in (0.3, 6.0, 20.0):
        times = returns(Backoff(BASE, 30.0), REPLICAS, away, seed)
        print(
            f"\n{REPLICAS} replicas lose Redis for {away:g} s (seed {seed}): back between {times[0]:.2f} and"
            f" {times[-1]:.2f} s after its return, at most {most_at_once(times)} within {WINDOW:g} s;"
            f" without jitter {REPLICAS}\n{histogram(times)}"
        )


def main() -> NoReturn:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m bench.recovery", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, help="of the simulated replicas [drawn]")
    parser.add_argument("--storm", action="store_true", help="only the histograms")
    options = parser.parse_args()
    verdicts = [] if options.storm else trio.run(run)
    show_storm(random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed)
    print(render(verdicts))
    sys.exit(0 if all(verdict.kept for verdict in verdicts) else 1)


if __name__ == "__main__":
    main()
