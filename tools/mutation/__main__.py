"""`python -m tools.mutation [--minutes N] [--seed S] [--jobs N] [--again] [MODULE...]`: do the tests notice?

The exit code is 1 if a module's score is below the goal, and 2 if there was no verdict. A survivor for which nobody has
given a reason is told as new, and counts as alive.

The minutes are those of the whole run. Each module has its share of what is left: what a small one does not need is for
those that follow.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from typing import TYPE_CHECKING, Final

from tools.mutation import page, reasons, results
from tools.mutation.modules import MODULES, chosen
from tools.mutation.trial import MutationError, TrialBudget, attempt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tools.mutation.modules import MutatedModule
    from tools.mutation.mutants import Mutant
    from tools.mutation.results import TrialResult

_SEEDS: Final = 1 << 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Run."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        modules = chosen(options.modules)
    except ValueError as error:
        parser.error(str(error))
    seed = random.SystemRandom().randrange(_SEEDS) if options.seed is None else options.seed
    print(f"mutation: seed {seed}, {options.minutes:g} minutes for {len(modules)} modules", flush=True)
    deadline = time.monotonic() + 60 * options.minutes
    explained = reasons.read(reasons.REASONS.read_text())
    known = _known()
    tried: dict[str, TrialResult] = {}
    for number, module in enumerate(modules):
        seconds = share(deadline - time.monotonic(), len(modules) - number)
        try:
            result = _tried(module, TrialBudget(seconds, seed, options.jobs), known, again=options.again)
        except MutationError as error:
            print(f"mutation: {error}", flush=True)
            continue
        tried[module.path] = result
        _keep(result, explained)
        _say(result, explained)
    return max(_verdict(tried, explained), 2 if len(tried) < len(modules) else 0)


def share(left: float, modules: int) -> float:
    """The seconds of the first of so many modules, of those that are left for all."""
    return max(0.0, left) / modules


def _known() -> dict[str, TrialResult]:
    return results.read(results.RESULTS.read_text()) if results.RESULTS.exists() else {}


def _tried(module: MutatedModule, budget: TrialBudget, known: Mapping[str, TrialResult], *, again: bool) -> TrialResult:
    before = known.get(module.path)
    if not again or before is None:
        return attempt(module, budget)
    if not before.survivors:
        return before
    tried = attempt(module, budget, before.survivors)
    if tried.tried < len(before.survivors):
        raise MutationError(f"{module.path}: there was no time for all that survived")
    return before.again(tried)


def _keep(result: TrialResult, explained: reasons.Reasons) -> None:
    """After each module, for a run may be ended early; and beside those that another run has kept meanwhile."""
    text = results.write({**_known(), result.module: result})
    results.RESULTS.write_text(text)
    page.PAGE.write_text(page.page(results.read(text), explained))


def _say(result: TrialResult, explained: reasons.Reasons) -> None:
    same = len(page.equivalent(result.survivors, explained))
    print(
        f"mutation: {result.module}: {result.tried} of {result.mutants} mutants, drawn by seed {result.seed}: "
        f"{result.killed} killed, {result.timed_out} timed out, {len(result.survivors)} survived, {same} of them "
        f"equivalent: {page.score(result, explained):.1%}",
        flush=True,
    )


def _verdict(tried: Mapping[str, TrialResult], explained: reasons.Reasons) -> int:
    low = [result.module for result in tried.values() if page.score(result, explained) < page.GOAL]
    new: list[Mutant] = reasons.unexplained(tried, explained)
    for mutant in new:
        print(f"mutation: a new survivor:\n{reasons.entry(mutant)}")
    for mutant in reasons.outlived(tried, explained):
        print(f"mutation: has a reason and is no survivor: {mutant.module}: {mutant.function}:\n{mutant.lines}")
    print(f"mutation: {len(new)} new survivors; below {page.GOAL:.0%}: {', '.join(low) or 'none'}", flush=True)
    return int(bool(low))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.mutation", description="Do the tests notice a change?")
    parser.add_argument("--minutes", type=float, default=60.0, metavar="N", help="the budget of all modules [60]")
    parser.add_argument("--seed", type=int, metavar="S", help="draws which mutants come first [a fresh one]")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="mutants at once [1]")
    parser.add_argument("--again", action="store_true", help="try only what survived the last time")
    parser.add_argument(
        "modules", nargs="*", metavar="MODULE", help=f"which [all]: {', '.join(each.path for each in MODULES)}"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
