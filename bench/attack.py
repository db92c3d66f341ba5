"""What clients that attack a daemon cost the healthy ones: `python -m bench.attack`.

For each daemon 100 healthy clients are measured without attackers and then beside more and more of each kind
(`bench.floods`), in one run and on one daemon a kind, so that the ratio is what counts. Beside them a prober asks for
`/health` and for a new conversation. The goals: p99 of the healthy at most 1.5 times that without, and 5 ms; newcomers
and `/health` answered within 100 ms; the daemon's memory at most `MEMORY` more than before, and back within `RETAINED`
of it when the attackers have gone.

    python -m bench.attack --daemon statusd --kind texts --kind pings --number 50 --seconds 5

Exit status: 0; 1 when a goal is missed or a healthy client did not get what it must.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import attrs
import trio

from bench.crowd import Site, open_crowd
from bench.feed import checklist_feed, status_feed
from bench.floods import FLOODS, HEALTHY
from bench.outcome import NS_PER_MS
from bench.stats import percentile
from bench.targets import FANOUT_TARGETS, HOST, PREFLIGHT_TARGETS, open_target
from bench.verdicts import Verdict, render
from common.embedded import open_embedded_redis

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.crowd import ClientCrowd
    from bench.feed import BenchFeed
    from bench.targets import BenchTarget

RATE: Final = 10.0
"""Messages, or writes of the hash, a second."""
SETTLE: Final = 1.0
"""Seconds of attack before the measure begins."""
RATIO: Final = 1.5
MARGIN: Final = 5.0
WITHIN: Final = 100.0
"""Milliseconds, as is the margin."""
MEMORY: Final = 128.0
"""MB that an attack may take while it lasts: 24 KB for each of 5,000 half-open heads is the most."""
RETAINED: Final = 64.0
"""MB that may stay afterwards: what the allocator keeps for the next time, which then takes no more."""
FORGET: Final = 2.0
"""Seconds that the daemon has to let go of the attackers, beside what their sockets took."""
_GRACE: Final = 20.0
_MB: Final = 1024.0


@attrs.frozen
class Subject:
    """A daemon under attack."""

    target: BenchTarget
    database: int
    feed: BenchFeed


SUBJECTS: Final = {
    "statusd": Subject(FANOUT_TARGETS["statusd"], 2, status_feed(["run:log"], 100)),
    "preflightd": Subject(PREFLIGHT_TARGETS["preflightd"], 0, checklist_feed("run")),
}


@attrs.frozen
class Block:
    """One measure: milliseconds."""

    p99: float
    health: float
    """The slowest."""
    newcomer: float
    """The slowest."""


class ResidentMemory:
    """The daemon's resident memory, in MB, from /proc."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")

    def now(self) -> float:
        """Now."""
        return self._read("VmRSS")

    def peak(self) -> float:
        """The most since `forget_peak`."""
        return self._read("VmHWM")

    def forget_peak(self) -> None:
        """Begin to measure the peak anew."""
        (self._proc / "clear_refs").write_text("5")

    def _read(self, field: str) -> float:
        found = re.search(rf"^{field}:\s+(\d+) kB$", (self._proc / "status").read_text(), re.MULTILINE)
        assert found is not None, field
        return int(found[1]) / _MB


def measure_kind(site: Site, subject: Subject, kind: str, numbers: Sequence[int], seconds: float) -> Verdict:
    """Print a line for each number of attackers; return what they showed."""
    feed = subject.feed
    writes = round(RATE * seconds)
    figures: list[str] = []
    findings: list[str] = []
    with open_crowd(site, feed.paths, feed.writes(writes * (len(numbers) + 2)), coalesced=feed.coalesced) as crowd:
        crowd.command(*feed.prepare)
        crowd.open(HEALTHY, feed.greeting)
        before = crowd.start_measuring()
        _measure(crowd, 0, writes)  # the first is slower than any other
        alone = _measure(crowd, writes, writes)
        print(
            f"  {'nobody':>12}      p99 {alone.p99:7.1f} ms          "
            f"health {alone.health:6.1f} ms  newcomer {alone.newcomer:6.1f} ms"
        )
        memory = ResidentMemory(site.watched["target"])
        for place, number in enumerate(numbers, 2):
            at_rest = memory.now()
            memory.forget_peak()
            with _process("flood", kind, str(number), *_address(site), crowd.path):
                crowd.serve(SETTLE)
                block = _measure(crowd, place * writes, writes, full=FLOODS[kind].fills)
            good = block.p99 <= RATIO * alone.p99 + MARGIN and block.health <= WITHIN and block.newcomer <= WITHIN
            peak = memory.peak()
            crowd.serve(FORGET)
            after = memory.now()
            good = good and peak - at_rest <= MEMORY and after - at_rest <= RETAINED
            figures.append(f"{block.p99:.1f} beside {number} with {peak - at_rest:.0f} MB more")
            findings += [] if good else [f"beside {number} a goal is missed"]
            print(
                f"  {kind:>12} {number:>4} p99 {block.p99:7.1f} ms {block.p99 / alone.p99:5.2f} x  "
                f"health {block.health:6.1f} ms  newcomer {block.newcomer:6.1f} ms  "
                f"memory {at_rest:5.1f} -> {peak:5.1f} -> {after:5.1f} MB{'' if good else '  MISSED'}"
            )
        faults = crowd.observed(before, crowd.read_clocks()).faults
    findings += [faults.describe()] if faults.total else []
    return Verdict(
        f"{subject.target.name}, {kind} slow nobody else down",
        f"p99 of {HEALTHY} healthy {alone.p99:.1f} ms alone, {', '.join(figures)}",
        tuple(findings),
    )


def _measure(crowd: ClientCrowd, begin: int, writes: int, *, full: bool = False) -> Block:
    known = len(crowd.ledger.latency)
    with _process("probe-full" if full else "probe", *_address(crowd.site), crowd.path) as prober:
        crowd.write(begin, begin + writes, RATE)
        crowd.settle(begin + writes, _GRACE)
        output, _ = prober.communicate(timeout=2 * _GRACE)
    taken = json.loads(output)
    return Block(
        percentile(sorted(crowd.ledger.latency[known:]), 99) / NS_PER_MS, max(taken["health"]), max(taken["newcomer"])
    )


def _address(site: Site) -> tuple[str, str]:
    host, port = site.server
    return host, str(port)


@contextmanager
def _process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """One of `bench.attackers`; it ends when its standard input does."""
    command = [sys.executable, "-m", "bench.attackers", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()


async def attack(
    subject: Subject, kinds: Sequence[str], numbers: Sequence[int] | None, seconds: float
) -> list[Verdict]:
    """One kind after the other, each on a fresh daemon. `numbers` are the kind's own unless given."""
    verdicts: list[Verdict] = []
    async with open_embedded_redis() as redis:
        for kind in kinds:
            async with open_target(subject.target, redis.url(subject.database), FLOODS[kind].settings) as running:
                site = Site(running.address, (HOST, redis.port), {"target": running.pid})
                measure = partial(measure_kind, site, subject, kind, numbers or FLOODS[kind].numbers, seconds)
                verdicts.append(await trio.to_thread.run_sync(measure))
    return verdicts


def main() -> NoReturn:
    parser = argparse.ArgumentParser(prog="python -m bench.attack", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--daemon", choices=SUBJECTS, action="append")
    parser.add_argument("--kind", choices=FLOODS, action="append")
    parser.add_argument("--number", type=int, action="append", help="attackers at a time")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measure")
    options = parser.parse_args()
    verdicts: list[Verdict] = []
    for name in options.daemon or SUBJECTS:
        print(name)
        verdicts += trio.run(attack, SUBJECTS[name], options.kind or tuple(FLOODS), options.number, options.seconds)
    print(render(verdicts))
    sys.exit(0 if all(verdict.kept for verdict in verdicts) else 1)


if __name__ == "__main__":
    main()
