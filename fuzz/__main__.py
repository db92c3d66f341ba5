"""`python -m fuzz [--seconds N] [--seed S] [TARGET...]`: look for counterexamples until the time is up.

Each property runs in rounds, in turn with the others; a round has a seed of its own, one more than the round before.
Failing examples are kept in `.hypothesis-fuzz` and are the first that the next run tries.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from fuzz.registry import TARGETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuzz.target import FuzzTarget, Property

EXAMPLES: Final = 200
"""Examples of one round."""

SAVED: Final = Path(__file__).resolve().parent.parent / ".hypothesis-fuzz"

_SEEDS: Final = 1 << 32


def main(arguments: Sequence[str] | None = None, targets: Sequence[FuzzTarget] = TARGETS, saved: Path = SAVED) -> int:
    """Run; the exit code is 1 if anything was found."""
    names = [target.name for target in targets]
    parser = _parser(names)
    options = parser.parse_args(arguments)
    for name in options.targets:
        if name not in names:
            parser.error(f"there is no target {name}; there are: {', '.join(names)}")
    number = random.SystemRandom().randrange(_SEEDS) if options.seed is None else options.seed
    chosen = [target for target in targets if not options.targets or target.name in options.targets]
    print(
        f"fuzz: seed {number}, {options.seconds:g} seconds: {', '.join(target.name for target in chosen)}", flush=True
    )
    return fuzz(chosen, number, time.monotonic() + options.seconds, saved)


def fuzz(targets: Sequence[FuzzTarget], number: int, deadline: float, saved: Path) -> int:
    """Run every property at least once, then in turn until `deadline` (`time.monotonic`), or until each has failed.

    Returns the exit code: 1 if anything was found.
    """
    how = settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=False,
        database=DirectoryBasedExampleDatabase(saved),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    holding = {(target.name, item.name): item for target in targets for item in target.properties}
    found = rounds = 0
    for rounds in count():
        for (target, name), item in list(holding.items()):
            if rounds and time.monotonic() >= deadline:
                break
            if not _holds(item, how, number + rounds, target):
                found += 1
                del holding[target, name]
        if not holding or time.monotonic() >= deadline:
            break
    print(f"fuzz: {len(holding)} properties hold after {rounds + 1} rounds of {EXAMPLES} examples, {found} do not")
    return int(found > 0)


def _holds(item: Property, how: settings, number: int, target: str) -> bool:
    try:
        item.run(how, number)
    except Exception:  # noqa: BLE001 - whatever a property raises is what was looked for
        traceback.print_exc(file=sys.stdout)
        print(f"fuzz: {target}: {item.name} does not hold; again: python -m fuzz --seconds 0 --seed {number} {target}")
        sys.stdout.flush()
        return False
    return True


def _parser(names: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Look for inputs that break what must hold.")
    parser.add_argument(
        "--seconds", type=float, default=60.0, metavar="N", help="end after N seconds, or one round of each [60]"
    )
    parser.add_argument("--seed", type=int, metavar="S", help="the seed of the first round [a fresh one]")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"which [all]: {', '.join(names)}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
