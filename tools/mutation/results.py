"""What came out, kept in `docs/mutation/results.json`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import attrs
from attrs import frozen

from tools.mutation.modules import MODULES, TREE
from tools.mutation.mutants import Mutant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RESULTS: Final = TREE / "docs" / "mutation" / "results.json"


@frozen
class TrialResult:
    """A module's last trial."""

    module: str
    seed: int
    """By which the mutants were drawn of which there was time for `tried`."""
    mutants: int
    tried: int
    killed: int
    """A test failed."""
    timed_out: int
    """Noticed as well: the tests did not come to an end."""
    survivors: tuple[Mutant, ...]

    def again(self, tried: TrialResult) -> TrialResult:
        """This trial, of which the survivors (all, and none else) were tried again, after tests were added."""
        return attrs.evolve(
            self,
            killed=self.killed + tried.killed,
            timed_out=self.timed_out + tried.timed_out,
            survivors=tried.survivors,
        )


def read(text: str) -> dict[str, TrialResult]:
    """By the module's path."""
    results = [_result(entry) for entry in json.loads(text)]
    return {result.module: result for result in results}


def write(results: Mapping[str, TrialResult]) -> str:
    """The modules in the order of their table, each survivor on a line."""
    return json.dumps([_entry(results[path]) for path in _order(results)], indent=1, ensure_ascii=False) + "\n"


def _order(paths: Iterable[str]) -> list[str]:
    known = [module.path for module in MODULES]
    return sorted(paths, key=known.index)


def _entry(result: TrialResult) -> dict[str, object]:
    entry = attrs.asdict(result, recurse=False)
    entry["survivors"] = [[change.function, change.lines, change.occurrence] for change in result.survivors]
    return entry


def _result(entry: dict[str, Any]) -> TrialResult:
    survivors = tuple(Mutant(entry["module"], *survivor) for survivor in entry.pop("survivors"))
    return TrialResult(**entry, survivors=survivors)
