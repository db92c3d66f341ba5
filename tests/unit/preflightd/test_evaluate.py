"""`preflightd evaluate`: JSON in, JSON out, one line and exit code 2 where it is none."""

from __future__ import annotations

import argparse
import io
import json
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from common.cli import run
from common.daemon_cli import program
from preflightd.checklist import packaged
from preflightd.daemon import PREFLIGHTD
from preflightd.evaluate import EVALUATE, BadInputError, evaluated

if TYPE_CHECKING:
    from pathlib import Path

NOTHING_DONE: Final = ",".join(f'"{key}":false' for key in packaged().rules)
EMPTY_ANSWER: Final = f'{{"checklist":{{{NOTHING_DONE}}},"lock_statuses":{{}},"last_modified":null}}'

BAD: Final = {
    "nothing": "",
    "no JSON": "checklist",
    "half an object": '{"a":',
    "two objects": "{} {}",
    "an array": "[]",
    "a string": '"a"',
    "null": "null",
    "a number": "1",
    "a number of 5,000 digits": "1" * 5000,
    "a number as value": '{"timestamps:build_channels":1}',
    "a boolean as value": '{"locked:a":true}',
    "null as value": '{"a":null}',
    "an object as value": '{"hash":{}}',
    "a control character in a string": '{"a":"\x01"}',
    "a byte order mark": "\ufeff{}",
    "arrays without end": "[" * 100_000,
    "objects without end": '{"a":' * 100_000,
}


@attrs.frozen
class Ran:
    """What a command did: its exit code, and what it wrote."""

    code: int
    out: str
    err: str


class Console:
    """The process's standard streams, in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def evaluate(self, *arguments: str, stdin: str | bytes = "") -> Ran:
        """Run `preflightd evaluate`."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        self._monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        code = run(program(PREFLIGHTD, [EVALUATE]), ["evaluate", *arguments], {})
        out, err = self._capsys.readouterr()
        return Ran(code, out, err)


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    return Console(monkeypatch, capsys)


def assert_one_line(ran: Ran, *, beginning: str = "preflightd evaluate: ") -> None:
    """Exit code 2 and one line that says why."""
    assert ran.code == 2
    assert ran.err.startswith(beginning)
    assert ran.err.endswith("\n")
    assert ran.err[:-1].isprintable()
    assert len(ran.err) > len(beginning) + 5


# -- one object to one object ------------------------------------------------------------------------------------------


def test_an_empty_object_is_a_run_without_a_hash() -> None:
    assert evaluated("{}", packaged()) == evaluated(" {\n} ", packaged()) == EMPTY_ANSWER


def test_an_answer_byte_for_byte() -> None:
    answer = evaluated(
        '{"locked:b":"true","locked:a\\n\\u00fc":"false","timestamps:run_rhem":"+0012","x":"y"}', packaged()
    )
    done = NOTHING_DONE.replace('"rhem":false', '"rhem":true')
    assert answer == f'{{"checklist":{{{done}}},"lock_statuses":{{"a\\nü":false,"b":true}},"last_modified":12}}'


@pytest.mark.parametrize("text", ['{"locked:\\ud800":"true"}', '{"locked:a":"\\udfff"}', '{"\\udc80":"\\ud83d"}'])
def test_half_a_surrogate_pair_is_no_text_and_breaks_nothing(text: str) -> None:
    answer = evaluated(text, packaged())
    assert answer.encode().decode() == answer
    assert set(json.loads(answer)) == {"checklist", "lock_statuses", "last_modified"}


def test_the_last_of_two_equal_fields_counts() -> None:
    assert '"last_modified":2' in evaluated('{"last_modified":"1","last_modified":"2"}', packaged())


@pytest.mark.parametrize("case", BAD)
def test_anything_else_is_refused_in_one_line(case: str) -> None:
    with pytest.raises(BadInputError) as refusal:
        evaluated(BAD[case], packaged())
    assert str(refusal.value).startswith("not ")
    assert str(refusal.value).isprintable()


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_without_a_file_it_reads_standard_input(console: Console, arguments: list[str]) -> None:
    ran = console.evaluate(*arguments, stdin='{"last_modified":"7"}')
    assert ran == Ran(0, EMPTY_ANSWER.replace("null", "7") + "\n", "")


def test_one_object_may_be_on_many_lines(console: Console) -> None:
    ran = console.evaluate(stdin='{\n  "last_modified": "7"\n}\n')
    assert ran == Ran(0, EMPTY_ANSWER.replace("null", "7") + "\n", "")


def test_what_is_unknown_is_null(console: Console) -> None:
    assert console.evaluate(stdin="{}") == Ran(0, EMPTY_ANSWER + "\n", "")


def test_a_file_is_read_as_utf_8(console: Console, tmp_path: Path) -> None:
    path = tmp_path / "hash.json"
    path.write_text('{"locked:m\u00fcller":"true"}', encoding="utf-8")
    ran = console.evaluate(str(path))
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out)["lock_statuses"] == {"m\u00fcller": True}
    assert "m\u00fcller" in ran.out


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_it_with_2_and_one_line(console: Console, tmp_path: Path, case: str) -> None:
    path = tmp_path / "hash.json"
    path.write_text(BAD[case], encoding="utf-8")
    for ran in (console.evaluate(stdin=BAD[case]), console.evaluate(str(path))):
        assert_one_line(ran)
        assert ran.out == ""


@pytest.mark.parametrize("lines", [False, True])
def test_bytes_that_are_not_utf_8_end_it_with_2_and_one_line(console: Console, tmp_path: Path, lines: bool) -> None:
    path = tmp_path / "hash.json"
    path.write_bytes(b'{"a":"\xff"}')
    options = ["--lines"] if lines else []
    assert_one_line(console.evaluate(str(path), *options))
    assert_one_line(console.evaluate(*options, stdin=b'{"a":"\xff"}'))


def test_a_file_that_cannot_be_read_ends_it_with_2_and_one_line(console: Console, tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        ran = console.evaluate(str(path))
        assert_one_line(ran)
        assert str(path) in ran.err
        assert ran.out == ""


@pytest.mark.parametrize("end", ["\n", "", "\r\n"])
@pytest.mark.parametrize("from_file", [False, True])
def test_with_lines_each_object_has_its_answer_in_order(
    console: Console, tmp_path: Path, end: str, from_file: bool
) -> None:
    text = (end or "\n").join(f'{{"last_modified":"{number}"}}' for number in range(300)) + end
    path = tmp_path / "hashes.jsonl"
    path.write_bytes(text.encode())
    ran = console.evaluate("--lines", str(path)) if from_file else console.evaluate("--lines", "-", stdin=text)
    assert (ran.code, ran.err) == (0, "")
    assert [json.loads(line)["last_modified"] for line in ran.out.splitlines()] == list(range(300))


def test_with_lines_nothing_in_is_nothing_out(console: Console) -> None:
    assert console.evaluate("--lines", stdin="") == Ran(0, "", "")


def test_a_line_separator_within_a_string_ends_no_line(console: Console) -> None:
    ran = console.evaluate("--lines", stdin='{"locked:a\u2028b\x85c":"true"}\n{}\n')
    assert (ran.code, ran.err) == (0, "")
    assert [json.loads(line)["lock_statuses"] for line in ran.out.split("\n")[:-1]] == [{"a\u2028b\x85c": True}, {}]


@pytest.mark.parametrize("bad", ["nonsense", '{"a":1}', "{}{}", "[" * 100_000])
def test_a_bad_line_ends_it_with_its_number_after_the_answers_before_it(console: Console, bad: str) -> None:
    ran = console.evaluate("--lines", stdin="{}\n{}\n" + bad + "\n{}\n")
    assert_one_line(ran, beginning="preflightd evaluate: line 3: not ")
    assert ran.out == f"{EMPTY_ANSWER}\n" * 2


def test_no_redis_and_no_configuration_is_needed(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFLIGHT_REDIS_URL", "redis://h/no number")
    assert console.evaluate(stdin="{}").code == 0


def test_a_reader_that_is_gone_is_no_bad_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its exit code is the one of `common.foreground`: 141, and not a word."""

    def gone(_text: str) -> int:
        raise BrokenPipeError

    parser = argparse.ArgumentParser()
    EVALUATE.add_arguments(parser)
    options = parser.parse_args([])
    monkeypatch.setattr("sys.stdin", io.StringIO("{}"))
    monkeypatch.setattr("sys.stdout.write", gone)
    with pytest.raises(BrokenPipeError):
        EVALUATE.run(options)
    assert capsys.readouterr().err == ""
