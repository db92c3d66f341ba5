"""Mutants of a real module, tried by tests of which it is known what they notice (tools/mutation)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support.raw import PATIENCE
from tools.mutation.modules import MutatedModule
from tools.mutation.trial import MutationError, TrialBudget, attempt

if TYPE_CHECKING:
    from pathlib import Path

    from tools.mutation.results import TrialResult

pytestmark = pytest.mark.integration

MODULE: Final = "common/backoff.py"
HEAD: Final = """
import random
import time
from common.backoff import Backoff

DELAYS = Backoff(2.0, 8.0)

class Late(random.Random):
    def uniform(self, a, b):
        return b
"""
FIRST: Final = """
def test_the_first_delay_is_short():
    assert DELAYS.first(Late()) <= 1.0
"""
NEVER: Final = 10 * PATIENCE


def tried(tmp_path: Path, tests: str, *, seconds: float = NEVER, jobs: int = 1) -> TrialResult:
    """The mutants of the module, tried by these tests."""
    file = tmp_path / "test_delays.py"
    file.write_text(HEAD + tests)
    beside = "tests/unit/common/test_version.py"  # with which pytest finds the tree's own plugins
    return attempt(MutatedModule(MODULE, (beside, str(file))), TrialBudget(seconds, 7, jobs))


def test_what_no_test_calls_survives_and_what_a_test_fails_for_does_not(tmp_path: Path) -> None:
    result = tried(tmp_path, FIRST, jobs=2)
    assert result.mutants == result.tried == result.killed + len(result.survivors)
    alive = {mutant.lines for mutant in result.survivors if mutant.function == "Backoff.first"}
    assert "- return rng.uniform(0, self.base / 2)\n+ return rng.uniform(0, self.base / 3)" in alive
    assert "- return rng.uniform(0, self.base / 2)\n+ return rng.uniform(0, self.base * 2)" not in alive
    later = [mutant for mutant in result.survivors if mutant.function == "Backoff.after_failure"]
    assert len(later) + result.killed + len(alive) == result.mutants, "nothing has called it"


def test_what_waits_and_what_ends_pytest_has_a_verdict(tmp_path: Path) -> None:
    result = tried(
        tmp_path,
        """
def test_the_first_delay():
    delay = DELAYS.first(Late())
    while delay > 1.0:  # for ever
        pass
    if delay < 1.0:
        raise KeyboardInterrupt
""",
    )
    first = {mutant.lines for mutant in result.survivors if mutant.function == "Backoff.first"}
    assert first == {
        f"- return rng.uniform(0, self.base / 2)\n+ return rng.uniform({least}, self.base / 2)" for least in (1, None)
    }
    assert result.timed_out == 1


def test_tests_that_fail_without_a_mutant_are_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(MutationError, match=r"(?s)^common/backoff\.py: .*without a mutant.*assert 1 == 2"):
        tried(tmp_path, "def test_a():\n    assert 1 == 2\n")


def test_tests_that_cannot_be_collected_are_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(MutationError, match=r"(?s)^common/backoff\.py: .*no_such_module"):
        tried(tmp_path, "import no_such_module\n")


def test_tests_without_an_end_are_no_verdict_once_the_time_is_up(tmp_path: Path) -> None:
    with pytest.raises(MutationError, match=r"(?s)^common/backoff\.py: .*took longer than there was time for all"):
        tried(tmp_path, f"def test_a():\n    time.sleep({NEVER})\n", seconds=0.5)
