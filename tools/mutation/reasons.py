"""Why a mutant may survive, written by hand in `docs/mutation/reasons.toml`."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Final

from attrs import frozen

from tools.mutation.modules import TREE
from tools.mutation.mutants import Mutant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tools.mutation.results import TrialResult

REASONS: Final = TREE / "docs" / "mutation" / "reasons.toml"

Reasons = dict[Mutant, "Reason"]


@frozen
class Reason:
    """What was found when somebody looked."""

    text: str
    equivalent: bool
    """No test can tell it from the original: it does not count. One that a test could tell counts as alive."""


def read(text: str) -> Reasons:
    """Raises ValueError for an entry that is incomplete, unknown or there twice."""
    reasons: Reasons = {}
    for entry in tomllib.loads(text).get("survivor", []):
        try:
            change = Mutant(
                entry.pop("module"), entry.pop("function"), entry.pop("change").strip(), entry.pop("occurrence", 1)
            )
            reason = Reason(entry.pop("reason"), entry.pop("equivalent"))
        except KeyError as error:
            raise ValueError(f"a survivor without {error}: {entry}") from None
        if entry or change in reasons:
            raise ValueError(f"{', '.join(entry) or 'there twice'}: {change}")
        reasons[change] = reason
    return reasons


def unexplained(results: Mapping[str, TrialResult], reasons: Reasons) -> list[Mutant]:
    """The survivors for which nobody has given a reason."""
    return [change for result in results.values() for change in result.survivors if change not in reasons]


def outlived(results: Mapping[str, TrialResult], reasons: Reasons) -> list[Mutant]:
    """Those that have a reason and were not among the survivors of a trial of all the module's mutants."""
    whole = {path: set(result.survivors) for path, result in results.items() if result.tried == result.mutants}
    return [change for change in reasons if change.module in whole and change not in whole[change.module]]


def entry(change: Mutant) -> str:
    """What is to be written for a survivor, but for the reason."""
    again = f"occurrence = {change.occurrence}\n" if change.occurrence > 1 else ""
    return (
        f'[[survivor]]\nmodule = "{change.module}"\nfunction = "{change.function}"\n'
        f"change = '''\n{change.lines}\n'''\n{again}equivalent = false\nreason = \"\"\n"
    )
