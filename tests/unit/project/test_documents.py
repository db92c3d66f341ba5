"""What the documents name exists: variables, series, reasons and commands, held against the code."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from common.cli import run
from common.config import rows
from common.daemons import DAEMONS
from common.exits import WORDS, Exit
from opsd.cli import OPSD
from opsd.settings import OpsSettings
from preflightd.cli import PROGRAM as PREFLIGHTD
from preflightd.settings import PreflightSettings
from statusd.cli import PROGRAM as STATUSD
from statusd.settings import StatusSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT: Final = Path(__file__).parents[3]
DOCUMENTS: Final = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")])

_VARIABLE: Final = re.compile(r"\b(?:STATUS|PREFLIGHT|OPS)_[A-Z][A-Z0-9_]*[A-Z0-9]\b")

# The load test's own, which operators of the old service know.
_OTHERS: Final = re.compile(r"STATUS2_\w+")


def known() -> set[str]:
    """The variables that the daemons read."""
    return {row.variable for settings in (StatusSettings, PreflightSettings, OpsSettings) for row in rows(settings)}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_variable_that_a_document_names_exists(path: Path) -> None:
    named = {name for name in _VARIABLE.findall(path.read_text("utf-8")) if not _OTHERS.fullmatch(name)}
    assert named - known() == set()


def test_the_readme_names_every_variable() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    missing = [name for name in sorted(known()) if not any(spelt in text for spelt in _spellings(name))]
    assert missing == []


def test_the_readme_says_what_the_exit_codes_mean() -> None:
    said = "; ".join(f"{code:d} {words}" for code, words in WORDS.items())
    assert f"Exit codes: {said}." in " ".join((ROOT / "README.md").read_text("utf-8").split())


@pytest.mark.parametrize(
    ("ask", "failed"),
    [
        (partial(run, STATUSD), WORDS[Exit.FAILED]),
        (partial(run, PREFLIGHTD), WORDS[Exit.FAILED]),
        (partial(run, OPSD), "a second signal"),
    ],
    ids=DAEMONS,
)
def test_every_help_says_what_the_exit_codes_mean(
    ask: Callable[..., int], failed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        ask(["--help"], {})
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    meant = {**WORDS, Exit.FAILED: failed}
    assert lines[-len(meant) :] == [f"{code:d} {words}" for code, words in meant.items()]


def _spellings(name: str) -> Iterator[str]:
    """How the README may name a variable: whole, with `(_FILE)`, or the shared one with STATUS_ for both daemons."""
    whole = name.removesuffix("_FILE") + "(_FILE)" if name.endswith("_FILE") else name
    for spelt in (name, whole):
        yield spelt
        if spelt.startswith("PREFLIGHT_"):
            yield spelt.replace("PREFLIGHT_", "STATUS_", 1)
    if not name.endswith("_FILE"):
        yield f"{name}(_FILE)"
