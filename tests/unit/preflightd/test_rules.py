"""The language of the checklist's rules: what it refuses, with the place and the nearest right word; its commands."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

import pytest

from common.cli import run
from common.config import ConfigError, load
from common.daemon_cli import program
from preflightd.checklist import load_checklist, packaged
from preflightd.checklist_command import CHECKLIST
from preflightd.daemon import PREFLIGHTD
from preflightd.evaluate import EVALUATE
from preflightd.language import DEEPEST, MOST_BYTES, MOST_KEYS, RulesError, parse_rules, read_rules
from preflightd.rules import Constant, Each, Field, Newer
from preflightd.settings import PreflightSettings

if TYPE_CHECKING:
    from pathlib import Path

VALUES: Final = """
[values]
one = "timestamps:one"
two = "timestamps:two"
some = { first = ["one", "two"] }
both = { each = ["one", "two"] }
"""


def rule(text: str) -> str:
    """A file with one rule."""
    return f"{VALUES}\n[checklist.key]\n{text}\n"


REFUSED: Final = {
    "": "checklist: is missing",
    "checklist = 5": "checklist: a number where a table is wanted",
    "[checklist]": f"checklist: has 0 keys, not 1 to {MOST_KEYS}",
    "[checklist]\n[checklists.a]": '"checklists" does not belong here, did you mean "checklist"?',
    "a = ": "not TOML: Invalid value (at end of document)",
    "[checklist.a]\nx = {": "not TOML: ",
    '[values]\none = 5\n[checklist.a]\npresent = "one"': 'values."one": a number where a table is wanted',
    '[values]\n"" = "x"\n[checklist.a]\npresent = ""': "values: a name is empty",
    '[values]\na = { last = ["b"] }\n[checklist.a]\npresent = "a"': 'values."a": there is no word "last"',
    '[values]\na = { latst = ["b"] }\n[checklist.a]\npresent = "a"': 'did you mean "latest"?',
    '[values]\na = { first = [], latest = [] }\n[checklist.a]\npresent = "a"': "has first and latest together",
    '[values]\na = {}\n[checklist.a]\npresent = "a"': "has none of them; one of first, latest, each, each_present",
    '[values]\na = { first = ["b"] }\nb = "x"\n[checklist.a]\npresent = "b"': 'there is no value "b" above it',
    rule("present = {}"): "checklist.key.present: a table where a name is wanted",
    rule('filled = ["one"]'): "checklist.key.filled: a list where a name is wanted",
    rule("present = 5"): "checklist.key.present: a number where a name is wanted",
    rule('present = "oen"'): 'checklist.key.present: there is no value "oen" above it, did you mean "one"?',
    rule('present = "some"'): '"some" stands for several values, and one field is wanted',
    rule('filled = "both"'): '"both" stands for several values, and one is wanted',
    rule('presnt = "one"'): 'checklist.key: there is no word "presnt", did you mean "present"?',
    rule('present = "one"\nfilled = "one"'): "checklist.key: has present and filled together",
    rule('present = "one"\nthan = "two"'): 'checklist.key: "than" does not belong here',
    rule('than = "one"'): "checklist.key: has none of them; one of present, filled, text",
    rule('newer = "one"'): "checklist.key: than is missing",
    rule('newer = "one"\nthan = []'): "checklist.key.than: an empty list where a list of one or more is wanted",
    rule('newer = "one"\nthan = [["two"]]'): "checklist.key.than: a list in a list",
    rule('newer = "one"\nthan = true'): "checklist.key.than: true or false where a name is wanted",
    rule('newer = "one"\nthan = 1.5'): "checklist.key.than: a number where a name is wanted",
    rule('newer = "one"\nthan = 9223372036854775808'): "a number must fit in signed 64 bits",
    rule('newer = "one"\nthan = 2024-01-01'): "checklist.key.than: a date where a name is wanted",
    rule('text = "one"'): "checklist.key: is is missing",
    rule('text = "one"\nis = 1'): "checklist.key.is: a number where a text is wanted",
    rule("all = []"): "checklist.key.all: an empty list where a list of one or more is wanted",
    rule('all = [{ present = "one" }, { present = "tow" }]'): 'checklist.key.all[2].present: there is no value "tow"',
    rule('if = { present = "one" }\nthen = { present = "two" }'): "checklist.key: else is missing",
    rule('if = { present = "one" }\nthen = "two"\nelse = "two"'): "checklist.key.then: a text where a table is wanted",
    f'{VALUES}\n[checklist."a\\u0007"]\npresent = "one"': "a key is one or more printable characters",
    f'{VALUES}\n[checklist.""]\npresent = "one"': "a key is one or more printable characters",
}


@pytest.mark.parametrize("text", REFUSED, ids=[reason[:40] for reason in REFUSED.values()])
def test_what_is_wrong_is_said_in_a_line_with_its_place(text: str) -> None:
    with pytest.raises(RulesError) as refusal:
        parse_rules(text)
    assert REFUSED[text] in str(refusal.value)
    assert str(refusal.value).isprintable()


def test_rules_within_rules_have_an_end() -> None:
    deep = '{ present = "one" }'
    for _ in range(DEEPEST - 1):
        deep = f"{{ all = [{deep}] }}"
    assert parse_rules(f"{VALUES}\n[checklist]\nkey = {deep}")
    with pytest.raises(RulesError, match="rules within rules"):
        parse_rules(f"{VALUES}\n[checklist]\nkey = {{ all = [{deep}] }}")
    with pytest.raises(RulesError):
        parse_rules("checklist = " + "[" * 100_000)


def test_a_text_without_utf8_can_come_from_json_only_and_is_refused() -> None:
    with pytest.raises(RulesError, match="a text that has no UTF-8"):
        read_rules({"values": {"a": "\ud800"}, "checklist": {"a": {"present": "a"}}})


def test_nothing_can_come_from_json_only_and_is_refused() -> None:
    with pytest.raises(RulesError, match=r"^checklist\.a\.present: nothing where a name is wanted$"):
        read_rules({"checklist": {"a": {"present": None}}})


def test_a_number_is_a_side() -> None:
    rules = parse_rules(rule('newer = "one"\nthan = [0, "two"]'))
    ours, theirs = Field("timestamps:one"), Field("timestamps:two")
    assert rules == {"key": Newer((Each(ours),), (Each(Constant(0)), Each(theirs)))}


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_is_read_once_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(rule('present = "one"'))
    checklist = load_checklist(str(path))
    assert checklist.source == str(path)
    assert checklist.evaluate({b"timestamps:one": b""}).checklist == (("key", True),)
    path.write_text(rule('present = "one"').ljust(MOST_BYTES, "#"))
    assert list(load_checklist(str(path)).rules) == ["key"]
    for size in (MOST_BYTES + 1, 1 << 40):  # more than there is memory for
        os.truncate(path, size)
        with pytest.raises(RulesError, match="is larger than 256 KB"):
            load_checklist(str(path))
    path.write_bytes(b"# \xff")
    with pytest.raises(RulesError, match="is not UTF-8 at byte 2"):
        load_checklist(str(path))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing", "No such file or directory"), (".", "Is a directory"), ("a\0b", "embedded null byte")],
)
def test_why_a_file_cannot_be_read_is_said_without_its_path(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(RulesError) as refusal:
        load_checklist(f"{tmp_path}/{name}")
    assert str(refusal.value) == reason


def test_the_variable_names_a_file_and_a_bad_one_ends_the_start(tmp_path: Path) -> None:
    assert load(PreflightSettings, {}).settings.checklist is packaged()
    path = tmp_path / "rules.toml"
    path.write_text(rule('present = "one"'))
    settings = load(PreflightSettings, {"PREFLIGHT_CHECKLIST": str(path)}).settings
    assert list(settings.checklist.rules) == ["key"]
    path.write_text(rule('present = "oen"'))
    with pytest.raises(ConfigError, match=r"^PREFLIGHT_CHECKLIST=.*checklist\.key\.present: .*did you mean"):
        load(PreflightSettings, {"PREFLIGHT_CHECKLIST": str(path)})


def test_what_is_pushed_is_one_of_two() -> None:
    assert load(PreflightSettings, {}).settings.push == "content"
    assert load(PreflightSettings, {"PREFLIGHT_PUSH": "HASH"}).settings.push == "hash"
    loaded = load(PreflightSettings, {"PREFLIGHT_PUSH": "all"})
    assert loaded.settings.push == "content"
    assert "neither content nor hash" in loaded.warnings[0]


# -- commands ----------------------------------------------------------------------------------------------------------


def command(*arguments: str) -> int:
    return run(program(PREFLIGHTD, [CHECKLIST, EVALUATE]), arguments, {})


def test_the_table_has_a_line_for_each_key(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("PREFLIGHT_CHECKLIST", raising=False)
    assert command("checklist") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(packaged().rules)
    assert max(map(len, lines)) <= 200
    assert "landuse               T(build_landuse) > T(abstract_watershed)" in lines


def test_the_json_is_read_again_to_the_same_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("checklist", "--json") == 0
    assert read_rules(json.loads(capsys.readouterr().out)) == packaged().rules


def test_the_commands_take_another_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, hash_ = tmp_path / "rules.toml", tmp_path / "hash.json"
    path.write_text(rule('newer = "both"\nthan = 3'))
    hash_.write_text('{"timestamps:one": "4", "timestamps:two": "5"}')
    assert command("checklist", str(path)) == 0
    assert capsys.readouterr().out == "key  each of T(one), T(two) > 3\n"
    assert command("evaluate", "--checklist", str(path), str(hash_)) == 0
    assert json.loads(capsys.readouterr().out)["checklist"] == {"key": True}


@pytest.mark.parametrize("arguments", [["checklist", "{}"], ["evaluate", "--checklist", "{}"]])
def test_a_bad_file_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(rule('presnt = "one"'))
    assert command(*(argument.format(path) for argument in arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"preflightd {arguments[0]}: {path}: checklist.key: there is no word")
