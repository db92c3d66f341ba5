"""What the documents name exists: variables and their defaults, series, close codes, log lines, exit codes.

Commands are `test_commands.py`'s, links `test_site.py`'s. docs/monitoring.md has a test of its own for the other way.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from common import disconnect
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
from tests.support.series import served, served_to_operators
from tools.site.documents import ROOT, documents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DOCUMENTS: Final = documents()
TEXTS: Final = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in DOCUMENTS}
CONFIGURATION: Final = TEXTS["docs/configuration.md"]
CONVERSATION: Final = TEXTS["docs/conversation.md"]

_VARIABLE: Final = re.compile(r"\b(?:STATUS|PREFLIGHT|OPS)_[A-Z][A-Z0-9_]*[A-Z0-9]\b")

SETTINGS: Final = (StatusSettings, PreflightSettings, OpsSettings)

_CODE: Final = re.compile(r"`([^`\n]+)`")
_ROW: Final = re.compile(r"^\| (.+?) \| (.*?) ?\| (.+) \|$", re.MULTILINE)

# The load test's own, which operators of the old service know.
_OTHERS: Final = re.compile(r"STATUS2_\w+")


def known() -> set[str]:
    """The variables that the daemons read."""
    return {row.variable for settings in SETTINGS for row in rows(settings)}


@pytest.mark.parametrize("document", TEXTS)
def test_every_variable_that_a_document_names_exists(document: str) -> None:
    named = {name for name in _VARIABLE.findall(TEXTS[document]) if not _OTHERS.fullmatch(name)}
    assert named - known() == set()


def test_the_configuration_names_every_variable() -> None:
    missing = [name for name in sorted(known()) if not any(spelt in CONFIGURATION for spelt in _spellings(name))]
    assert missing == []


def defaults() -> dict[str, str]:
    """Variable -> default, of the rows of docs/configuration.md whose defaults are values, as many as variables."""
    found: dict[str, str] = {}
    for cells in _ROW.findall(CONFIGURATION):
        variables, values = (_CODE.findall(cell) for cell in cells[:2])
        if len(variables) == len(values):
            found.update(zip(variables, values, strict=True))
    return found


def test_the_defaults_in_the_configuration_are_those_of_the_code() -> None:
    ours = {row.variable: row.default for settings in SETTINGS for row in rows(settings)}
    told = {name: value for name, value in defaults().items() if name in ours}
    assert len(told) > 40
    assert told == {name: ours[name] for name in told}


def test_the_words_on_running_say_what_the_exit_codes_mean() -> None:
    said = "; ".join(f"{code:d} {words}" for code, words in WORDS.items())
    assert f"Exit codes: {said}." in " ".join(TEXTS["docs/running.md"].split())


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
    """How the document may name a variable: whole, with `(_FILE)`, or the shared one with STATUS_ for both daemons."""
    whole = name.removesuffix("_FILE") + "(_FILE)" if name.endswith("_FILE") else name
    for spelt in (name, whole):
        yield spelt
        if spelt.startswith("PREFLIGHT_"):
            yield spelt.replace("PREFLIGHT_", "STATUS_", 1)
    if not name.endswith("_FILE"):
        yield f"{name}(_FILE)"


# -- series ------------------------------------------------------------------------------------------------------------

_SERIES: Final = re.compile(r"(?<![\w./-])(\*|status2|preflight2|opsd)_([a-z][a-z0-9_]+)(?:\{(\w+)=\"(\w+)\"\})?")
_SUFFIX: Final = re.compile(r"_(?:bucket|sum|count)$")
_NOT_SERIES: Final = frozenset({"status2_message_latency_ms", "status2_connection_failures", "status2_messages"})
"""k6's own, which operators of the old service know."""


@pytest.mark.parametrize("document", TEXTS)
async def test_every_series_that_a_document_names_is_served(document: str) -> None:
    known_series = await served() | served_to_operators()
    for prefix, rest, label, value in _SERIES.findall(TEXTS[document]):
        names = [f"{each}_{rest}" for each in (("status2", "preflight2") if prefix == "*" else (prefix,))]
        found = [known_series[name] for each in names for name in (each, _SUFFIX.sub("", each)) if name in known_series]
        assert found or names[0] in _NOT_SERIES, f"{prefix}_{rest}"
        if label:
            assert all(value in series.labels[label] for series in found), f"{prefix}_{rest}{{{label}={value}}}"


# -- ends --------------------------------------------------------------------------------------------------------------

_CLOSE_CODE: Final = re.compile(r"(?<![\d,.])10(?:0\d|1[0-5])(?![\d,.]\d)\b")
_OF_OTHERS: Final = {1000, 1006, 1014}
"""What a browser says where it closed by itself, and where no close frame came; what a client may send."""


def ends() -> dict[str, tuple[set[int], bool]]:
    """Reason -> close codes, and whether it can send a hangup, of the table of docs/conversation.md."""
    table = CONVERSATION.partition("because of | close code |")[2].partition("\n\n")[0]
    found = {}
    for reasons, codes, hangup in _ROW.findall(table):
        if reasons.startswith("`"):
            for reason in re.findall(r"`([a-z_]+)`", reasons.partition(" (")[0]):
                found[reason] = (set(map(int, re.findall(r"\d{4}", codes))), hangup == "yes")
    return found


def test_the_table_of_ends_is_that_of_the_code() -> None:
    ours: dict[str, tuple[set[int], bool]] = {}
    for end in disconnect.ALL:
        if not end.reason.startswith("client_"):
            codes, _ = ours.setdefault(end.reason, (set(), end.hangup))
            codes |= {end.close_code} if end.close_code is not None else set()
    assert ends() == ours


@pytest.mark.parametrize("document", TEXTS)
def test_every_close_code_that_a_document_names_is_sent(document: str) -> None:
    sent = {end.close_code for end in disconnect.ALL}
    assert set(map(int, _CLOSE_CODE.findall(TEXTS[document]))) <= sent | _OF_OTHERS


# -- log lines ---------------------------------------------------------------------------------------------------------

_SAID: Final = re.compile(r"log lines? ((?:`[^`\n]+`(?:, | and |, and )?)+)")
SOURCES: Final = "\n".join(
    path.read_text("utf-8") for top in ("common", *DAEMONS) for path in sorted((ROOT / top).rglob("*.py"))
)


@pytest.mark.parametrize("document", TEXTS)
def test_every_log_line_that_a_document_names_is_said(document: str) -> None:
    named = [line for found in _SAID.findall(" ".join(TEXTS[document].split())) for line in _CODE.findall(found)]
    assert [line for line in named if f'"{line}"' not in SOURCES] == []


def test_the_documents_name_log_lines() -> None:
    assert sum(len(_SAID.findall(text)) for text in TEXTS.values()) > 20
