"""Man pages and completion from the parsers: nothing is left out, nothing of roff is taken for roff."""

from __future__ import annotations

import argparse
import re
from datetime import date
from typing import TYPE_CHECKING, Final

import pytest

from common.version import version
from tools.manuals import roff
from tools.manuals.__main__ import main
from tools.manuals.page import manual_page
from tools.manuals.synopsis import Argument, read
from tools.manuals.tree import COMMANDS, PAGES, SCRIPTS, manuals

if TYPE_CHECKING:
    from pathlib import Path

    from tools.manuals.documented import Documented

DAY: Final = date(2020, 1, 31)
TEXTS: Final = manuals(DAY)
NAMES: Final = [command.name for command in COMMANDS]

_ESCAPE: Final = re.compile(r"\\f[BIR]|\\&")


def page(name: str) -> str:
    """As it reads: without fonts, and each hyphen one."""
    text = _ESCAPE.sub("", TEXTS[PAGES.format(name)])
    return text.replace(r"\-", "-").replace(r"\(dq", '"').replace(r"\e", "\\")


def test_every_command_of_the_project_has_its_page_and_scripts() -> None:
    assert NAMES == ["statusd", "preflightd", "opsd"]
    assert set(TEXTS) == {path.format(name) for name in NAMES for path in (PAGES, *SCRIPTS.values())}


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_a_page_tells_all_that_the_help_does(command: Documented, capsys: pytest.CaptureFixture[str]) -> None:
    """Word for word: it is wrapped otherwise, and the page has more words."""
    said = " ".join(page(command.name).split()).lower()
    parser = command.parser()
    for arguments in ([], *([known.name] for known in read(parser).commands)):
        with pytest.raises(SystemExit):
            parser.parse_args([*arguments, "--help"])
        words = {word.strip("[],:") for word in capsys.readouterr().out.lower().split()}
        missing = {word for word in words if word not in said}
        assert missing <= {"usage", "positional", "arguments", "default", "codes"}


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_a_page_names_every_variable_and_exit_code_with_its_words(command: Documented) -> None:
    environment = page(command.name).partition(".SH ENVIRONMENT\n")[2].partition(".SH ")[0]
    for row in command.variables:
        assert f".TP\n{row.variable}\n" in environment
        assert f"[{row.default or 'unset'}]\n" in environment.partition(f"\n{row.variable}\n")[2].partition(".TP")[0]
    status = page(command.name).partition(".SH EXIT STATUS\n")[2].partition(".SH ")[0]
    for code, words in command.exit_codes.items():
        assert f".TP\n{code:d}\n{words}\n" in status


def test_a_page_is_of_its_version_and_day_and_names_the_others() -> None:
    text = TEXTS["man/man1/opsd.1"]
    assert text.startswith(
        f'.TH OPSD 1 2020-01-31 "run\\-status\\-daemons {version()}" "User Commands"\n.SH NAME\nopsd \\- '
    )
    assert text.endswith(".SH SEE ALSO\n\\fBstatusd\\fR(1),\n\\fBpreflightd\\fR(1)\n")


def test_what_is_hidden_from_the_help_is_hidden_here() -> None:
    """What a daemon tells its workers is for nobody else."""
    for text in TEXTS.values():
        said = text.replace(r"\-", "-")
        assert not [name for name in ("worker", "channel", "listeners", "kept") if f"--{name}" in said]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        (".TH is no request", r"\&.TH is no request"),
        ("'quoted'", r"\&'quoted'"),
        (r"C:\new", r"C:\enew"),
        ("--help", r"\-\-help"),
        ('say "so"', r"say \(dqso\(dq"),
        ("1 ≤ 2…", r"1 \[u2264] 2\[u2026]"),
        ("two\nlines", "two lines"),
    ],
)
def test_text_is_only_text(text: str, escaped: str) -> None:
    assert roff.escape(text) == escaped


def test_a_parser_is_read_as_its_help_shows_it() -> None:
    parser = argparse.ArgumentParser(prog="prog", add_help=False)
    parser.add_argument("place", help="of %(prog)s")
    parser.add_argument("more", nargs="?", metavar="MORE", help="or not")
    parser.add_argument("-n", "--number", default=7, help="[%(default)s]")
    parser.add_argument("--flag", action="store_true", help="yes")
    parser.add_argument("--maybe", nargs="?", metavar="WHAT", help="perhaps")
    parser.add_argument("--hidden", help=argparse.SUPPRESS)
    assert read(parser).arguments == [
        Argument(flags=[], value="PLACE", needed=True, help="of prog"),
        Argument(flags=[], value="MORE", needed=False, help="or not"),
        Argument(flags=["-n", "--number"], value="NUMBER", needed=True, help="[7]"),
        Argument(flags=["--flag"], value="", needed=False, help="yes"),
        Argument(flags=["--maybe"], value="WHAT", needed=False, help="perhaps"),
    ]


@pytest.mark.parametrize("nargs", ["*", "+", 2])
def test_an_argument_that_no_page_could_tell_of_is_refused(nargs: str | int) -> None:
    parser = argparse.ArgumentParser(prog="prog")
    parser.add_argument("--pair", nargs=nargs)
    with pytest.raises(ValueError, match="prog: pair takes"):
        read(parser)


def test_the_pages_depend_on_the_day_alone() -> None:
    assert manuals(DAY) == TEXTS
    [command, *_] = COMMANDS
    other = manual_page(command, NAMES[1:], version(), date(2021, 1, 1))
    assert other.replace("2021-01-01", "2020-01-31") == TEXTS["man/man1/statusd.1"]


def test_they_are_written_where_they_belong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1580428800")
    assert main([str(tmp_path / "share")]) == 0
    written = {str(path.relative_to(tmp_path / "share")) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == set(TEXTS)
    assert (tmp_path / "share" / "man/man1/statusd.1").read_text().startswith(".TH STATUSD 1 2020-01-31 ")
    assert f"{len(TEXTS)} files" in capsys.readouterr().out


def test_a_place_that_can_not_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main([str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.startswith("no manuals: ")
