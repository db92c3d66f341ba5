"""The tests of a module against its mutants, drawn by a seed, until the minutes are used up."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from tools.mutation.mutants import mutants
from tools.mutation.results import TrialResult
from tools.mutation.tree import copy_tree

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from tools.mutation.modules import MutatedModule
    from tools.mutation.mutants import Mutant

BATCH: Final = 30
"""Mutants for one run of mutmut, which runs the tests without a mutant first. Between runs the time is looked at."""

_MEMORY: Final = 4 << 30
"""Bytes that a process may have: a mutant whose loop has lost its end must not take the machine's."""

_KILLED: Final = frozenset({-11, 1, 3})
"""How pytest ends where a test failed, or pytest itself; SIGSEGV is an end of the interpreter's."""
_SURVIVED: Final = frozenset({0, 5, 33})
"""All passed, or (5 and mutmut's 33) no test even came by."""
_TIMED_OUT: Final = frozenset({-24, -9, 24, 36, 152, 255})
"""SIGXCPU, by which mutmut ends what takes too long, and SIGKILL a second later."""


class MutationError(Exception):
    """No verdict: the tests fail without a mutant, or mutmut does. The message is for the user."""


@frozen
class TrialBudget:
    """What a trial may take."""

    minutes: float
    seed: int
    jobs: int


def attempt(module: MutatedModule, budget: TrialBudget, only: Collection[Mutant] | None = None) -> TrialResult:
    """Try mutants of `module`, in the order that the seed draws, or all of `only`, for which no budget counts.

    Raises MutationError.
    """
    deadline = time.monotonic() + 60 * budget.minutes
    with tempfile.TemporaryDirectory(prefix="mutation-") as directory:
        tree = Path(directory)
        copy_tree(tree, module)
        every = mutants(tree, module.path)
        names = sorted(name for name, mutant in every.items() if only is None or mutant in only)
        if only is not None and len(names) < len(only):
            raise MutationError(f"{module.path} is no longer what was tried: try it anew")
        random.Random(budget.seed).shuffle(names)  # noqa: S311 - which are tried first is no secret
        ends: dict[str, int] = {}
        for batch in _batches(names):
            if ends and only is None and time.monotonic() >= deadline:
                break
            ends |= _run(tree, module, batch, budget.jobs)
            print(f"mutation: {module.path}: {len(ends)} of {len(names)}", file=sys.stderr, flush=True)
    return _result(module, budget.seed, every, ends)


def _batches(names: Sequence[str]) -> Iterable[Sequence[str]]:
    return (names[start : start + BATCH] for start in range(0, len(names), BATCH))


def _run(tree: Path, module: MutatedModule, names: Sequence[str], jobs: int) -> dict[str, int]:
    """How pytest ended for each of these mutants."""
    run = subprocess.run(
        [sys.executable, "-m", "mutmut", "run", "--max-children", str(jobs), *names],
        cwd=tree,
        env=os.environ
        | {"PYTHONWARNINGS": "ignore::UserWarning", "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        preexec_fn=_bound_memory,
    )
    ends = json.loads((tree / "mutants" / f"{module.path}.meta").read_text())["exit_code_by_key"]
    if run.returncode or any(ends[name] is None for name in names):
        raise MutationError(f"{module.path}: mutmut ended with {run.returncode}:\n{run.stdout[-4000:]}")
    return {name: ends[name] for name in names}


def _bound_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def _result(module: MutatedModule, seed: int, every: dict[str, Mutant], ends: dict[str, int]) -> TrialResult:
    if strange := {end for end in ends.values() if end not in _KILLED | _SURVIVED | _TIMED_OUT}:
        raise MutationError(f"{module.path}: pytest ended with {sorted(strange)}, which is no verdict")
    kinds = Counter("timed out" if end in _TIMED_OUT else "killed" for end in ends.values() if end not in _SURVIVED)
    return TrialResult(
        module=module.path,
        seed=seed,
        mutants=len(every),
        tried=len(ends),
        killed=kinds["killed"],
        timed_out=kinds["timed out"],
        survivors=tuple(sorted(every[name] for name, end in ends.items() if end in _SURVIVED)),
    )
