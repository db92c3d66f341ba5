"""The tests of a module against its mutants, drawn by a seed, until the minutes are used up."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from tools.mutation.modules import TREE
from tools.mutation.mutants import mutated
from tools.mutation.results import TrialResult
from tools.mutation.session import SessionOrder
from tools.mutation.trials import MutantVerdict

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tools.mutation.modules import MutatedModule
    from tools.mutation.mutants import Mutant

_GRACE: Final = 60.0
"""Seconds over its own for a session to import, to collect and to end, before it is put down."""


class MutationError(Exception):
    """No verdict: the tests fail without a mutant, or don't end. The message is for the user."""


@frozen
class TrialBudget:
    """What a trial may take."""

    seconds: float
    seed: int
    jobs: int


def attempt(module: MutatedModule, budget: TrialBudget, only: Collection[Mutant] | None = None) -> TrialResult:
    """Try mutants of `module`, or of `only`, in the order that the seed draws, for as long as there is time.

    Raises MutationError.
    """
    code, every = mutated(module.path)
    names = sorted(name for name, mutant in every.items() if only is None or mutant in only)
    if only is not None and len(names) < len(only):
        raise MutationError(f"{module.path} is no longer what was tried: try it anew")
    random.Random(budget.seed).shuffle(names)  # noqa: S311 - which are tried first is no secret
    with tempfile.TemporaryDirectory(prefix="mutation-") as directory:
        log = Path(directory, "log")
        order = SessionOrder(
            module.path, code, module.tests, module.left_out, names, budget.jobs, budget.seconds, str(log)
        )
        command = [sys.executable, "-m", "tools.mutation.session"]
        try:
            verdicts = held(command, order.text(), budget.seconds + _GRACE)
        except MutationError as error:
            said = log.read_text()[-4000:] if log.exists() else ""
            raise MutationError(f"{module.path}: {error}:\n{said}") from None
    if names and not verdicts:
        raise MutationError(f"{module.path}: there was no time for any mutant")
    return _result(module, budget.seed, every, verdicts)


def held(command: Sequence[str], order: str, seconds: float) -> dict[str, MutantVerdict]:
    """Hold a session: give it its order, and take its verdicts. Nothing of it is left when this returns.

    Raises MutationError if it fails, or is not over after `seconds`.
    """
    with subprocess.Popen(
        command,
        cwd=TREE,
        env=os.environ | {"PYTHONPATH": str(TREE)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as session:
        try:
            told, _ = session.communicate(order, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise MutationError(f"no end after {seconds:.0f} seconds") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(session.pid, signal.SIGKILL)
    if session.returncode:
        raise MutationError(f"the session ended with {session.returncode}")
    return {name: MutantVerdict(verdict) for name, verdict in map(json.loads, told.splitlines())}


def _result(
    module: MutatedModule, seed: int, every: dict[str, Mutant], verdicts: dict[str, MutantVerdict]
) -> TrialResult:
    kinds = Counter(verdicts.values())
    survivors = (every[name] for name, verdict in verdicts.items() if verdict is MutantVerdict.SURVIVED)
    return TrialResult(
        module=module.path,
        seed=seed,
        mutants=len(every),
        tried=len(verdicts),
        killed=kinds[MutantVerdict.KILLED],
        timed_out=kinds[MutantVerdict.TIMED_OUT],
        survivors=tuple(sorted(survivors)),
    )
