"""The page of `make proof`: what the README promises, what showed it, and when that is not enough."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from bench.page import CLAIMS, Claim, Part, is_kept, make_page
from bench.proof import commands, conformed
from bench.recovery import CLIENTS, TRIALS, Result, judge
from bench.verdicts import SHOWN, Verdict, parse, render

README: Final = " ".join((Path(__file__).parents[3] / "README.md").read_text("utf-8").split())

SHOWING: Final = tuple(
    Verdict(f"of {part}, as seen", f"figure {place}") for claim in CLAIMS for place, part in enumerate(claim.shown_by)
)


def parts(*verdicts: Verdict, code: int = 0) -> list[Part]:
    return [Part("one", SHOWING, 0, 1.0), Part("other", verdicts, code, 2.0)]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.text[:30])
def test_a_claim_is_the_readmes(claim: Claim) -> None:
    assert claim.text in README


def test_every_promise_of_the_readme_is_claimed() -> None:
    promised = README.partition("What they promise: ")[2].partition("Ports, environment variables")[0]
    for claim in CLAIMS:
        promised = promised.replace(claim.text, "")
    assert set(re.findall(r"\w+", promised)) <= {"and"}


def test_what_is_rendered_is_parsed() -> None:
    verdicts = [Verdict("it lives", "1 s: fine"), Verdict("it counts", "3", ("lost: 1", "  indented"))]
    assert parse(f"seed 7: 2 acts\n{render(verdicts)}\n| a | table: of |\n") == verdicts


def test_findings_that_are_not_printed_still_break_a_promise() -> None:
    [verdict] = parse(render([Verdict("it counts", "3", tuple(map(str, range(20))))]))
    assert verdict.findings == (*map(str, range(SHOWN)), "and 12 more")


def test_a_promise_can_be_told_from_its_figure() -> None:
    with pytest.raises(ValueError, match="told from its figure"):
        Verdict("statusd: it lives", "1")


def test_everything_shown_is_kept() -> None:
    assert is_kept(parts(Verdict("more", "5")))
    page = make_page(parts(Verdict("more", "5")), 7, "2 cores")
    assert "BROKEN" not in page
    assert page.startswith("seed 7; 2 cores\none 1 s, other 2 s\n")
    assert page.endswith(f"{len(SHOWING) + 1} kept, 0 broken; seed 7")
    assert all(page.count(render([verdict])) == 1 for verdict in SHOWING)
    assert "And besides\nkept    more: 5" in page


def test_a_broken_promise_is_no_proof() -> None:
    broken = parts(Verdict("more", "5", ("less",)))
    assert not is_kept(broken)
    assert "BROKEN  more: 5\n          less" in make_page(broken, 7, "")


def test_what_is_not_shown_is_no_proof() -> None:
    partly = [Part("one", SHOWING[1:], 0, 1.0)]
    assert not is_kept(partly)
    assert f"BROKEN  not shown: {CLAIMS[0].shown_by[0]}" in make_page(partly, 7, "")


def test_a_tool_that_fails_without_a_word_is_no_proof() -> None:
    failed = parts(code=2)
    assert not is_kept(failed)
    assert "BROKEN  other ended with 2 and no broken promise" in make_page(failed, 7, "")


def test_pytest_is_believed_by_its_status() -> None:
    assert conformed("....\n888 passed in 9.1s\n", 0) == Verdict(
        "both daemons answer as RFC 6455 wants, case by case", "888 passed in 9.1s"
    )
    assert not conformed("1 failed, 887 passed in 9.1s\n", 1).kept
    assert not conformed("", -1).kept


def test_whoever_draws_gets_the_seed() -> None:
    drawing = {name for name, arguments in commands(7, Path("k6")).items() if arguments[-2:] == ["--seed", "7"]}
    assert drawing == {"chaos", "recovery", "soak"}


def test_an_outage_that_nobody_survives_is_judged_by_its_goodbyes() -> None:
    [trial] = [trial for trial in TRIALS if not trial.survives]
    assert judge(trial, Result(CLIENTS, CLIENTS, (), 0.5, 1.0)).kept
    assert not judge(trial, Result(CLIENTS, CLIENTS - 1, (), 0.5, 1.0)).kept


def test_an_outage_is_judged_by_who_is_lost_and_by_the_backoff_that_was_due() -> None:
    trial = TRIALS[0]
    assert judge(trial, Result(0, 0, (0.3, 0.55), 0.5, 1.0)).kept
    assert not judge(trial, Result(1, 1, (0.3, 0.55), 0.5, 1.0)).kept
    assert not judge(trial, Result(0, 0, (0.3, 0.7), 0.5, 1.0)).kept
