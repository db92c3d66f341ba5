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
            mutant = Mutant(
                entry.pop("module"), entry.pop("function"), entry.pop("change").strip(), entry.pop("occurrence", 1)
            )
            reason = Reason(entry.pop("reason"), entry.pop("equivalent"))
        except KeyError as error:
            raise ValueError(f"a survivor without {error}: {entry}") from None
        if entry or mutant in reasons:
            raise ValueError(f"{', '.join(entry) or 'there twice'}: {mutant}")
        reasons[mutant] = reason
    return reasons


def unexplained(results: Mapping[str, TrialResult], reasons: Reasons) -> list[Mutant]:
    """The survivors for which nobody has given a reason."""
    return [mutant for result in results.values() for mutant in result.survivors if mutant not in reasons]


def outlived(results: Mapping[str, TrialResult], reasons: Reasons) -> list[Mutant]:
    """Those that have a reason and were not among the survivors of a trial of all the module's mutants."""
    whole = {path: set(result.survivors) for path, result in results.items() if result.tried == result.mutants}
    return [mutant for mutant in reasons if mutant.module in whole and mutant not in whole[mutant.module]]


def entry(mutant: Mutant) -> str:
    """What is to be written for a survivor, but for the reason."""
    again = f"occurrence = {mutant.occurrence}\n" if mutant.occurrence > 1 else ""
    return (
        f'[[survivor]]\nmodule = "{mutant.module}"\nfunction = "{mutant.function}"\n'
        f"change = '''\n{mutant.lines}\n'''\n{again}equivalent = false\nreason = \"\"\n"
    )
