"""What `make mutation` tells: what each mutant is, how many of a module were noticed, and why the others live."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs
import pytest

from tools.mutation import page, reasons, results
from tools.mutation.modules import MODULES, TREE, chosen, dotted
from tools.mutation.mutants import Mutant, changes
from tools.mutation.results import TrialResult

CODE: Final = '''
@frozen
class Tea:
    def steep(self, cups: int = 1) -> int:
        pass

    def xǁTeaǁsteep__mutmut_orig(self, cups: int = 1) -> int:
        """Docs."""
        if cups > 1:
            cups += 1
        cups += 1
        return cups

    def xǁTeaǁsteep__mutmut_1(self, cups: int = 2) -> int:
        """Docs."""
        if cups > 1:
            cups += 1
        cups += 1
        return cups

    def xǁTeaǁsteep__mutmut_2(self, cups: int = 1) -> int:
        """Docs."""
        if cups > 1:
            cups -= 1
        cups += 1
        return cups

    def xǁTeaǁsteep__mutmut_10(self, cups: int = 1) -> int:
        """Docs."""
        if cups > 1:
            cups += 1
        cups -= 1
        return cups

async def x__brew__mutmut_orig():
    return None

async def x__brew__mutmut_1():
    return ""
'''
FILE: Final = "common/backoff.py"
DIFFERENT: Final = Mutant(FILE, "f", "- a\n+ b")
SAME: Final = Mutant(FILE, "f", "- a\n+ c", 2)

RESULT: Final = TrialResult(FILE, seed=7, mutants=200, tried=100, killed=90, timed_out=5, survivors=(DIFFERENT, SAME))

REASONS: Final = """
[[survivor]]
module = "common/backoff.py"
function = "f"
change = '''
- a
+ c
'''
occurrence = 2
equivalent = true
reason = "Both are None."
"""


def test_a_mutant_is_known_by_what_was_changed_in_which_function() -> None:
    assert changes(CODE, "pack/tea.py") == {
        "pack.tea.xǁTeaǁsteep__mutmut_1": Mutant(
            "pack/tea.py",
            "Tea.steep",
            "- def (self, cups: int = 1) -> int:\n+ def (self, cups: int = 2) -> int:",
        ),
        "pack.tea.xǁTeaǁsteep__mutmut_2": Mutant("pack/tea.py", "Tea.steep", "- cups += 1\n+ cups -= 1"),
        "pack.tea.xǁTeaǁsteep__mutmut_10": Mutant("pack/tea.py", "Tea.steep", "- cups += 1\n+ cups -= 1", 2),
        "pack.tea.x__brew__mutmut_1": Mutant("pack/tea.py", "_brew", '- return None\n+ return ""'),
    }


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.path)
def test_each_module_and_its_tests_are_there(module: object) -> None:
    for module in MODULES:
        assert (TREE / module.path).is_file()
        assert all((TREE / test).is_file() for test in module.tests)
        for path, _, test in (left_out.partition("::") for left_out in module.left_out):
            assert path in module.tests
            assert f"def {test}(" in (TREE / path).read_text()


def test_no_module_is_there_twice() -> None:
    assert len({module.path for module in MODULES}) == len(MODULES)


def test_modules_are_chosen_by_path_or_name() -> None:
    assert chosen([]) == list(MODULES)
    assert [module.path for module in chosen(["common.web.wire", FILE])] == ["common/web/wire.py", FILE]
    with pytest.raises(ValueError, match=r"^no module other\.py; there are: common/backoff\.py, "):
        chosen([FILE, "other.py"])


def test_what_came_out_is_read_as_it_was_written() -> None:
    known = {FILE: RESULT, "common/fanout.py": attrs.evolve(RESULT, module="common/fanout.py", survivors=())}
    text = results.write(dict(reversed(known.items())))
    assert list(results.read(text).items()) == list(known.items())


def test_survivors_that_were_killed_later_are_no_longer_among_them() -> None:
    tried = attrs.evolve(RESULT, seed=8, tried=2, killed=1, timed_out=0, survivors=(SAME,))
    assert RESULT.again(tried) == attrs.evolve(RESULT, killed=91, survivors=(SAME,))


def test_a_mutant_that_nobody_can_tell_does_not_count() -> None:
    explained = reasons.read(REASONS)
    assert page.score(RESULT, {}) == pytest.approx(95 / 100)
    assert page.score(RESULT, explained) == pytest.approx(95 / 99)
    alive = {SAME: attrs.evolve(explained[SAME], equivalent=False)}
    assert page.score(RESULT, alive) == pytest.approx(95 / 100), "a reason alone does not make it equivalent"
    assert page.score(TrialResult(FILE, 1, 0, 0, 0, 0, ()), {}) == 1.0


def test_a_survivor_without_a_reason_and_a_reason_without_a_survivor_are_told() -> None:
    explained = reasons.read(REASONS)
    assert reasons.unexplained({FILE: RESULT}, explained) == [DIFFERENT]
    killed = attrs.evolve(RESULT, survivors=())
    assert reasons.outlived({FILE: killed}, explained) == [], "there was no time for it"
    assert reasons.outlived({FILE: attrs.evolve(killed, tried=200)}, explained) == [SAME]
    assert reasons.outlived({FILE: attrs.evolve(RESULT, tried=200)}, explained) == []


def test_what_is_printed_of_a_new_survivor_is_an_entry_without_a_reason() -> None:
    for change in (DIFFERENT, SAME):
        assert reasons.read(reasons.entry(change)) == {change: reasons.Reason("", equivalent=False)}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (REASONS + REASONS, "there twice"),
        (REASONS.replace("reason =", "raeson ="), "without 'reason'"),
        (REASONS + 'unknown = "x"', "unknown"),
    ],
)
def test_a_bad_reason_is_refused(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        reasons.read(text)


def test_the_page_says_how_many_were_tried_and_why_each_survivor_lives() -> None:
    text = page.page({FILE: RESULT}, reasons.read(REASONS))
    assert "| `common/backoff.py` | 200 | 100 | 7 | 90 | 5 | 2 | 1 | 96.0% |" in text
    assert "`f`. Not looked at yet.\n\n```diff\n- a\n+ b\n```" in text
    assert "`f`, number 2 of its kind. Equivalent: Both are None.\n\n```diff\n- a\n+ c\n```" in text
    assert "\nNot tried yet: `common/redis/resp.py`, " in text
    whole = page.page({FILE: attrs.evolve(RESULT, mutants=100)}, {})
    assert "| `common/backoff.py` | 100 | all |  | 90 | 5 | 2 | 0 | 95.0% |" in whole


def test_the_page_in_the_tree_is_that_of_the_results_and_reasons_in_the_tree() -> None:
    known = results.read(results.RESULTS.read_text())
    explained = reasons.read(reasons.REASONS.read_text())
    assert page.PAGE.read_text() == page.page(known, explained)
    assert known.keys() <= {module.path for module in MODULES}


def test_every_survivor_in_the_tree_has_a_reason_and_every_module_reaches_the_goal() -> None:
    known = results.read(results.RESULTS.read_text())
    explained = reasons.read(reasons.REASONS.read_text())
    assert reasons.unexplained(known, explained) == []
    assert all(reason.text for reason in explained.values())
    assert [path for path, result in known.items() if page.score(result, explained) < page.GOAL] == []


def test_a_module_is_named_as_python_names_it() -> None:
    assert dotted("common/web/wire.py") == "common.web.wire"
    assert Path(FILE).stem == dotted(FILE).rpartition(".")[2]
