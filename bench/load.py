"""`python -m bench.load`: the daemons under the load of k6, with the scripts that operators run (`docs/load`).

300 browsers on one channel of statusd, then 200 on one run of preflightd, each with a Redis and a daemon of its own.
What is published says when, so that k6 measures publish -> receipt; in the middle Redis is restarted. The daemon's
metrics are scraped before the first browser comes and after the last has gone, kept beside what k6 writes, and
reconciled with it: what Redis handed on, what the daemon sent, and what the browsers got are the same number.

    python -m bench.load --seconds 10 --only status

Exit status: 0; 1 when a threshold is crossed, or the books don't balance; 2 without k6, which `make load` brings.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import attrs
import trio

from bench.k6 import THRESHOLDS_CROSSED, read_books, read_summary, reconcile
from bench.said import count_lines
from bench.stats import percentile
from bench.verdicts import Verdict, render
from common.embedded import open_embedded_redis
from tests.support.daemon import ROOT, open_daemon
from tests.support.raw import HOST, fetch, open_redis, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.k6 import DaemonBooks, K6Summary
    from common.embedded import EmbeddedRedis
    from tests.support.daemon import DaemonProcess

RESULTS: Final = Path(__file__).parent / "results" / "load"
RATE: Final = 5.0
"""Messages a second: 1,500 deliveries of 300 clients, which k6 takes without being what is measured."""
ARRIVAL: Final = 10.0
"""Seconds that k6 has to bring all its clients."""
TAIL: Final = 3.0
"""Seconds that they stay after the last message."""
RUN: Final = "load"
CHANNEL: Final = "log"
BROKEN: Final = 1
NO_K6: Final = 2

_MB: Final = float(1 << 20)

_INTERRUPTED: Final = ("redis stream interrupted", "redis unavailable, retrying", "read failed")
"""What the daemons say when Redis is restarted."""


@attrs.frozen(kw_only=True)
class LoadCase:
    """A daemon, k6's script for it, and what is expected."""

    name: str
    module: str
    prefix: str
    """Of the metrics, k6's as the daemon's; in capitals, of the script's variables."""
    sent: str
    """The daemon's counter of messages."""
    clients: int
    limit: int
    """Milliseconds, p95: k6's threshold."""
    meant: int
    """Milliseconds, p95: what it is in truth on a machine with nothing else to do."""
    exact: bool
    """Whether each message comes to every client; else several writes may be one frame."""

    def command(self, number: int) -> tuple[str | int | bytes, ...]:
        """Publish, or write, the time of now."""
        now = time.time_ns() // 1_000_000
        if self.exact:
            return ("PUBLISH", f"{RUN}:{CHANNEL}", json.dumps({"number": number, "sent": now}))
        return ("HSET", RUN, "timestamps:build_landuse", now // 1000, "last_modified", now)


CASES: Final = (
    LoadCase(
        name="status",
        module="statusd",
        prefix="status2",
        sent="messages_forwarded_total",
        clients=300,
        limit=50,
        meant=10,
        exact=True,
    ),
    LoadCase(
        name="preflight",
        module="preflightd",
        prefix="preflight2",
        sent="messages_sent_total",
        clients=200,
        limit=100,
        meant=15,
        exact=False,
    ),
)


@attrs.frozen
class Written:
    """What became of the messages: how many there were, and to how many subscribers Redis handed each."""

    subscribers: Sequence[int]
    late: Sequence[float]
    """Milliseconds by which each came later than it was due: how busy the machine is."""
    restarted: bool = True
    """Whether Redis was, in the middle."""


async def write(redis: EmbeddedRedis, case: LoadCase, seconds: float, *, undisturbed: bool = False) -> Written:
    """So many seconds of messages; in the middle Redis is restarted, between two of them, unless `undisturbed`."""
    total = max(2, round(RATE * seconds))
    subscribers: list[int] = []
    late: list[float] = []
    for half in (range(total // 2), range(total // 2, total)):
        if half.start and not undisturbed:
            await redis.restart()
        async with open_redis(redis) as connection:
            begun = trio.current_time()
            for place, number in enumerate(half):
                due = begun + place / RATE
                await trio.sleep_until(due)
                late.append((trio.current_time() - due) * 1000)
                reply = await connection.call(*case.command(number))
                assert isinstance(reply, int)
                subscribers.append(reply)
    return Written(subscribers, late, restarted=not undisturbed)


async def measure(
    case: LoadCase, k6: Path, directory: Path, seconds: float, *, undisturbed: bool = False
) -> list[Verdict]:
    """One run, whose files are put into `directory`; what the daemon said is printed."""
    codes: list[int] = []
    async with (
        open_embedded_redis() as redis,
        open_daemon(redis, {"metrics_enabled": "true"}, expect=_INTERRUPTED, module=case.module) as daemon,
    ):
        memory = [daemon.memory()]
        before = await _scrape(daemon, case, directory / f"{case.name}-before.prom")
        async with trio.open_nursery() as nursery:

            async def browse() -> None:
                codes.append(await _run_k6(k6, case, daemon.port, directory, seconds + ARRIVAL + TAIL))

            async def all_there() -> bool:
                return bool(codes) or await _active(daemon, case) == case.clients

            nursery.start_soon(browse)
            await wait_until(all_there, f"{case.clients} clients of k6", within=ARRIVAL)
            memory.append(daemon.memory())
            written = await write(redis, case, seconds, undisturbed=undisturbed)

        async def all_gone() -> bool:
            return await _active(daemon, case) == 0

        await wait_until(all_gone, "the clients of k6 are gone")
        after = await _scrape(daemon, case, directory / f"{case.name}-after.prom")
        memory.append(daemon.memory())
        print(f"{case.module} said", *count_lines(daemon.lines), sep="\n")
    summary = read_summary(json.loads((directory / f"{case.name}-summary.json").read_text()), case.prefix)
    return judge(case, codes[0], summary, after - before, written, memory)


def judge(
    case: LoadCase, code: int, k6: K6Summary, books: DaemonBooks, written: Written, memory: Sequence[int]
) -> list[Verdict]:
    """What the run has to say of each promise. Pure; `memory` is in bytes: before, with everybody, afterwards."""
    late = percentile(sorted(written.late), 95)
    over = [] if k6.p95 < case.limit else [f"p95 {k6.p95:g} ms"]
    failed = [f"{k6.failures} failed"] if k6.failures else []
    if code and not (code == THRESHOLDS_CROSSED and (over or failed)):
        failed.append(f"k6 ended with {code}")
    owed = sum(written.subscribers) * case.clients if case.exact else None
    told = f"{len(written.subscribers)} written, {books.sent} sent by the daemon, {k6.messages} got by k6"
    shown = " -> ".join(f"{size / _MB:.1f}" for size in memory)
    verdicts = [
        Verdict(
            f"{case.module}, p95 from write to receipt is below {case.limit} ms",
            f"{k6.latency()}; {case.meant} are meant on a quiet machine, and this one let the writer wait {late:.1f}"
            f" (p95); RSS {shown} MB",
            tuple(over),
        ),
        Verdict(
            f"{case.module}, no connection fails{' while Redis is restarted' if written.restarted else ''}",
            f"{k6.conversations} conversations, {k6.failures} failed",
            tuple(failed),
        ),
        Verdict(
            f"{case.module}, the daemon's metrics and k6 agree",
            told,
            tuple(reconcile(k6, books, clients=case.clients, owed=owed)),
        ),
    ]
    if case.exact:
        most = max(written.subscribers)
        verdicts.append(
            Verdict(
                f"{case.module}, one connection to Redis subscribes, whatever the number of clients",
                f"{case.clients} clients, {most} subscriber",
                () if most == 1 else (f"{most} subscribers",),
            )
        )
    return verdicts


async def _run_k6(k6: Path, case: LoadCase, port: int, directory: Path, seconds: float) -> int:
    """Its exit status."""
    prefix = case.prefix.upper()
    settings = {
        "WS_URL": f"ws://{HOST}:{port}",
        "RUN_ID": RUN,
        "CHANNEL": CHANNEL,
        "VUS": f"{case.clients}",
        "DURATION": f"{math.ceil(seconds)}s",
    }
    command = [
        *(str(k6), "run", "--no-usage-report", "--no-color", "--quiet"),
        *("--out", f"json={directory / case.name}.json.gz"),
        *("--summary-export", str(directory / f"{case.name}-summary.json")),
        *(part for name, value in settings.items() for part in ("--env", f"{prefix}_{name}={value}")),
        str(ROOT / "docs" / "load" / f"{case.name}.js"),
    ]
    with (directory / f"{case.name}-k6.txt").open("wb") as output:
        ended = await trio.run_process(
            command, stdin=b"", stdout=output.fileno(), stderr=subprocess.STDOUT, check=False
        )
    return ended.returncode


async def _active(daemon: DaemonProcess, case: LoadCase) -> float:
    return await daemon.metric(f"{case.prefix}_connections_active")


async def _scrape(daemon: DaemonProcess, case: LoadCase, path: Path) -> DaemonBooks:
    page = (await fetch(daemon.port, "/metrics")).body.decode()
    await trio.Path(path).write_text(page)
    return read_books(page, case.prefix, case.sent)


async def load(
    cases: Sequence[LoadCase], k6: Path, directory: Path, seconds: float, undisturbed: bool
) -> list[Verdict]:
    """One case after the other."""
    await trio.Path(directory).mkdir(parents=True, exist_ok=True)
    return [
        verdict for case in cases for verdict in await measure(case, k6, directory, seconds, undisturbed=undisturbed)
    ]


def find_k6(given: Path | None) -> Path | None:
    """The one that is given, that of `make load`, or that on PATH; None where there is none."""
    if given is not None:
        return given if shutil.which(given) else None
    own = ROOT / ".venv-load" / "bin" / "k6"
    on_path = shutil.which("k6")
    return own if own.exists() else None if on_path is None else Path(on_path)


def main() -> NoReturn:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, metavar="N", help="of messages, for each daemon [20]")
    parser.add_argument("--only", choices=[case.name for case in CASES], action="append", help="one of the two")
    parser.add_argument("--undisturbed", action="store_true", help="Redis is not restarted in the middle")
    parser.add_argument("--k6", type=Path, metavar="FILE", help="the program [of .venv-load, or on PATH]")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="where its files stay [bench/results/load/…]")
    options = parser.parse_args()
    k6 = find_k6(options.k6)
    if k6 is None:
        print("no k6: `make load` brings it, or --k6 names one", file=sys.stderr)
        sys.exit(NO_K6)
    directory = options.output or RESULTS / time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    cases = [case for case in CASES if not options.only or case.name in options.only]
    verdicts = trio.run(load, cases, k6, directory, options.seconds, options.undisturbed)
    print(render(verdicts))
    print(f"kept in {directory}")
    sys.exit(0 if all(verdict.kept for verdict in verdicts) else BROKEN)


if __name__ == "__main__":
    main()
