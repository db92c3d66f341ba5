"""Results and reasons as `docs/mutation.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tools.mutation.modules import MODULES, TREE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tools.mutation.mutants import Mutant
    from tools.mutation.reasons import Reasons
    from tools.mutation.results import TrialResult

PAGE: Final = TREE / "docs" / "mutation.md"

GOAL: Final = 0.97
"""Of the mutants that a test could notice, those that one does."""

_HEAD: Final = """\
# Mutation testing

Written by `make mutation`, which changes one thing in a module, runs the module's unit tests, and looks whether one of
them fails. `make mutation MODULE=common/backoff.py MINUTES=10` does it for one module, within 10 minutes; a fresh seed
draws which mutants are tried where the minutes don't suffice for all, and `SEED=7` draws the same ones again. At night
it is done for every module, within 60 minutes on two cores: each has its share of what is left. Whatever a mutant does,
the run ends: what computes is ended by the processor's time that its tests may take, what waits by the clock, and what
is left of either by the module's share.

The mutants are those of [mutmut](https://mutmut.readthedocs.io): it changes what is inside of functions, but for those
with a decorator. `score` is killed and timed out (the tests did not come to an end) of all tried but the equivalent
ones, which nobody can tell from the original; the goal is 97 %. What survived may have been tried again after tests
were added for it (`ARGS=--again`): of mutants that nobody has looked at yet, a fresh seed tells.

Every survivor is below with the reason why it may live, kept in [reasons.toml](mutation/reasons.toml) under what was
changed; the figures are in [results.json](mutation/results.json).

| module | mutants | tried | seed | killed | timed out | survived | of them equivalent | score |
|---|---|---|---|---|---|---|---|---|
"""


def score(result: TrialResult, reasons: Reasons) -> float:
    """From 0 to 1. Nothing that could be noticed is wholly noticed."""
    noticed = result.killed + result.timed_out
    able = result.tried - len(equivalent(result.survivors, reasons))
    return noticed / able if able else 1.0


def equivalent(survivors: Iterable[Mutant], reasons: Reasons) -> list[Mutant]:
    """Those of which a reason says so."""
    return [mutant for mutant in survivors if mutant in reasons and reasons[mutant].equivalent]


def page(results: Mapping[str, TrialResult], reasons: Reasons) -> str:
    """The whole document."""
    rows = [_row(result, reasons) for result in results.values()]
    survivors = [_survivors(result, reasons) for result in results.values() if result.survivors]
    table = "\n".join([*rows, _total(results, reasons)])
    return f"{_HEAD}{table}\n{_untried(results)}\n## Survivors\n{''.join(survivors)}"


def _untried(results: Mapping[str, TrialResult]) -> str:
    untried = [f"`{module.path}`" for module in MODULES if module.path not in results]
    return f"\nNot tried yet: {', '.join(untried)}.\n" if untried else ""


def _row(result: TrialResult, reasons: Reasons) -> str:
    tried = "all" if result.tried == result.mutants else f"{result.tried}"
    drawn = "" if result.tried == result.mutants else f"{result.seed}"
    same = len(equivalent(result.survivors, reasons))
    return (
        f"| `{result.module}` | {result.mutants} | {tried} | {drawn} | {result.killed} | {result.timed_out} "
        f"| {len(result.survivors)} | {same} | {score(result, reasons):.1%} |"
    )


def _total(results: Mapping[str, TrialResult], reasons: Reasons) -> str:
    values = list(results.values())
    tried, noticed = sum(each.tried for each in values), sum(each.killed + each.timed_out for each in values)
    same = sum(len(equivalent(each.survivors, reasons)) for each in values)
    return (
        f"| all | {sum(each.mutants for each in values)} | {tried} | | {sum(each.killed for each in values)} "
        f"| {sum(each.timed_out for each in values)} | {sum(len(each.survivors) for each in values)} | {same} "
        f"| {noticed / max(tried - same, 1):.1%} |"
    )


def _survivors(result: TrialResult, reasons: Reasons) -> str:
    return f"\n### `{result.module}`\n" + "".join(_survivor(mutant, reasons) for mutant in result.survivors)


def _survivor(mutant: Mutant, reasons: Reasons) -> str:
    reason = reasons.get(mutant)
    kind = "Not looked at yet." if reason is None else ("Equivalent: " if reason.equivalent else "") + reason.text
    which = f", number {mutant.occurrence} of its kind" if mutant.occurrence > 1 else ""
    return f"\n`{mutant.function}`{which}. {kind}\n\n```diff\n{mutant.lines}\n```\n"
