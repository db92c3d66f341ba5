"""`python -m bench.chaos [--seconds N] [--seed N] [--list]`: see the package.

Exit status: 0; 1 when a promise was broken; what it prints last says which. The same seed has the same acts.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import NoReturn

import trio

from bench.chaos import netem
from bench.chaos.play import Play
from bench.chaos.programme import Size
from bench.chaos.schedule import draw
from bench.verdicts import render

BROKEN = 1


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> NoReturn:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, metavar="N", help="about how long the acts take [60]")
    parser.add_argument("--seed", type=int, metavar="N", help="of the schedule and of the clients [drawn]")
    parser.add_argument("--status", type=int, default=Size().status, metavar="N", help="clients of statusd [80]")
    parser.add_argument("--preflight", type=int, default=Size().preflight, metavar="N", help="of preflightd [40]")
    parser.add_argument("--logs", type=Path, metavar="DIRECTORY", help="where the daemons' logs are to stay")
    parser.add_argument("--list", action="store_true", help="only say what would be done")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    acts = draw(seed, options.seconds)
    again = f"python -m bench.chaos --seconds {options.seconds:g} --seed {seed}"
    if options.list:
        print(again, *(f"{number:3}  {act}" for number, act in enumerate(acts, 1)), sep="\n")
        sys.exit(0)
    if options.logs is not None:
        options.logs.mkdir(parents=True, exist_ok=True)
    without = netem.enter()
    weather = "netem" if netem.here() else f"the proxy's; netem skipped: {without}"
    print(
        f"seed {seed}: {len(acts)} acts, {options.status} + {options.preflight} clients; weather: {weather}", flush=True
    )
    play = Play(acts, seed, Size(status=options.status, preflight=options.preflight), _say, logs=options.logs)
    try:
        verdicts = trio.run(play.run)
    except BaseException:
        print(f"seed {seed} broke off; again: {again}")
        raise
    print(render(verdicts))
    broken = [verdict for verdict in verdicts if not verdict.kept]
    print(
        f"seed {seed}: {len(verdicts) - len(broken)} promises kept, {len(broken)} broken"
        + (f"; again: {again}" if broken else "")
    )
    sys.exit(BROKEN if broken else 0)


if __name__ == "__main__":
    main()
