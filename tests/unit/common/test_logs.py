"""Log lines: their fields, and their shape whatever is in them."""

from __future__ import annotations

import errno
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import common.logs
from common.logs import LEVELS, TEXT_LIMIT, TRACEBACK_LIMIT, make_logger
from tests.support.log_output import Output, strictly, writing_to

METHODS: Final = ["debug", "info", "warning", "error"]


class Lines:
    """A sink that keeps lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        """Take one line."""
        self.lines.append(line)


def logged(method: str = "info", msg: str = "hello", **fields: object) -> dict[str, object]:
    """The one line that an event makes."""
    sink = Lines()
    getattr(make_logger("debug", "statusd", sink), method)(msg, **fields)
    (line,) = sink.lines
    return strictly(line)


# -- fields ------------------------------------------------------------------------------------------------------------


def test_the_fixed_fields_come_first_and_the_others_as_they_were_given() -> None:
    sink = Lines()
    log = make_logger("info", "statusd", sink).bind(run_id="run", channel="log")
    log.info("connection closed", reason="drain", attempt=1, backoff=0.5)
    (line,) = sink.lines
    assert list(strictly(line)) == [
        "time", "level", "msg", "component", "daemon", "run_id", "channel", "reason", "attempt", "backoff",
    ]  # fmt: skip
    assert line.endswith(
        ',"level":"info","msg":"connection closed","component":"statusd","daemon":"statusd",'
        '"run_id":"run","channel":"log","reason":"drain","attempt":1,"backoff":0.5}'
    )


def test_a_part_of_the_daemon_has_its_own_component() -> None:
    sink = Lines()
    log = make_logger("info", "statusd", sink)
    log.bind(component="redis").info("redis online")
    log.info("ready")
    assert [strictly(line)["component"] for line in sink.lines] == ["redis", "statusd"]
    assert list(strictly(sink.lines[0])) == ["time", "level", "msg", "component", "daemon"]
    assert [strictly(line)["daemon"] for line in sink.lines] == ["statusd", "statusd"]


def test_what_is_bound_stays_with_whom_it_was_bound_for() -> None:
    sink = Lines()
    log = make_logger("info", "statusd", sink)
    log.bind(remote="192.0.2.1")
    log.info("ready")
    assert "remote" not in strictly(sink.lines[0])


def test_the_time_is_rfc_3339_in_utc_with_microseconds() -> None:
    before = datetime.now(UTC)
    text = logged()["time"]
    assert isinstance(text, str)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    assert before <= datetime.fromisoformat(text) <= datetime.now(UTC)


def test_the_microseconds_are_there_when_they_are_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> Clock:
            assert tz is UTC
            return cls(2026, 1, 2, 3, 4, 5, 0, tzinfo=UTC)

    monkeypatch.setattr(common.logs, "datetime", Clock)
    assert logged()["time"] == "2026-01-02T03:04:05.000000Z"


@pytest.mark.parametrize(
    ("method", "level"),
    [
        ("debug", "debug"),
        ("info", "info"),
        ("warning", "warn"),
        ("warn", "warn"),
        ("error", "error"),
        ("exception", "error"),
        ("critical", "error"),
    ],
)
def test_levels_have_the_contracts_names(method: str, level: str) -> None:
    assert logged(method)["level"] == level


@pytest.mark.parametrize(("level", "least"), [(level, index) for index, level in enumerate(LEVELS)])
def test_a_level_lets_itself_and_what_is_worse_through(level: str, least: int) -> None:
    sink = Lines()
    log = make_logger(level, "statusd", sink)
    for method in METHODS:
        getattr(log, method)(method)
    assert [strictly(line)["msg"] for line in sink.lines] == METHODS[least:]


def test_an_exception_brings_its_traceback_in_the_same_line() -> None:
    sink = Lines()
    log = make_logger("info", "statusd", sink)
    try:
        raise ValueError("two\nlines")  # noqa: TRY301 - what is logged below
    except ValueError as error:
        log.exception("request failed")
        log.error("connection ended with error", exc_info=error)
    for line in map(strictly, sink.lines):
        trace = str(line["traceback"])
        assert trace.startswith("Traceback (most recent call last):\n")
        assert trace.endswith("ValueError: two\nlines")
        assert set(line) == {"time", "level", "msg", "component", "daemon", "traceback"}


def test_no_exception_brings_no_traceback() -> None:
    assert "traceback" not in logged("error", exc_info=None)


# -- one line, whatever is in it ---------------------------------------------------------------------------------------


class Unprintable:
    """Nothing can be said about it."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


CIRCLE: Final[list[object]] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a\nb\r\x00\x7f\t", "a\nb\r\x00\x7f\t"),
        ('{"a":1}', '{"a":1}'),
        ("\u2028\u0085", "\u2028\u0085"),
        ("häß \U0001f600", "häß \U0001f600"),
        ("\udcff", "\udcff"),
        (b"\xff\n", "b'\\xff\\n'"),
        (Path("/a b"), "/a b"),
        (OSError(errno.EPIPE, "Broken pipe"), "[Errno 32] Broken pipe"),
        (None, None),
        (True, True),
        (1 << 70, 1 << 70),
        ([1, {"a": (2,)}], [1, {"a": [2]}]),
    ],
)
def test_a_value_of_any_kind_is_said_in_one_line(value: object, said: object) -> None:
    assert logged(value=value)["value"] == said
    assert logged(msg=str(value))["msg"] == str(value)


def test_a_field_is_cut_in_its_middle_and_says_so() -> None:
    for name in ("msg", "error"):
        text = str(logged(**{name: "a" * 50_000 + "b" * 50_000})[name])
        assert len(text) <= TEXT_LIMIT
        assert text.startswith("a" * 900)
        assert text.endswith("b" * 900)
        assert "100000 characters" in text
    assert logged(error="x" * TEXT_LIMIT)["error"] == "x" * TEXT_LIMIT
    assert len(str(logged(error=OSError("x" * 100_000))["error"])) <= TEXT_LIMIT


def test_a_traceback_keeps_its_beginning_and_its_end() -> None:
    sink = Lines()
    log = make_logger("info", "statusd", sink)
    try:
        raise ValueError("x" * 1_000_000 + "the end")  # noqa: TRY301 - what is logged below
    except ValueError:
        log.exception("request failed")
    trace = str(strictly(sink.lines[0])["traceback"])
    assert len(trace) <= TRACEBACK_LIMIT
    assert trace.startswith("Traceback (most recent call last):\n")
    assert trace.endswith("xthe end")


STEERING: Final = "\x7f\x80\x9f\u2028\u2029\u200e\u200f\u202a\u202e\u2066\u2069\ufeff\ud800\U000e0041"


@given(st.text(st.characters(exclude_categories=[]), max_size=TEXT_LIMIT))
@example(STEERING)
def test_no_character_that_steers_a_terminal_is_raw_in_a_line_and_none_is_lost(text: str) -> None:
    sink = Lines()
    make_logger("info", "statusd", sink).info(text, error=text, nested={"a": [text]}, thing=Thing(text))
    (line,) = sink.lines
    assert line.isprintable()
    line.encode()
    parsed = strictly(line)
    said = [parsed["msg"], parsed["error"], parsed["thing"], *strictly(json.dumps(parsed["nested"])).values()]
    assert said == [joined(text)] * 3 + [[joined(text)]]


class Thing:
    """An object that JSON has no word for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __str__(self) -> str:
        return self._name


def joined(text: str) -> str:
    """`text` as JSON's readers give it back: two halves of a surrogate pair are one character to them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(float("nan"), id="NaN"),
        pytest.param(float("inf"), id="infinity"),
        pytest.param({b"key": 1}, id="a key of bytes"),
        pytest.param({(1, 2): 3}, id="a key of a tuple"),
        pytest.param(CIRCLE, id="a circle"),
        pytest.param(10**5000, id="a number of 5,000 digits"),
        pytest.param(Unprintable(), id="an object without a name"),
    ],
)
def test_what_json_has_no_word_for_is_said_in_some_way(value: object) -> None:
    line = logged(value=value, reason="drain")
    assert (line["msg"], line["component"], line["reason"]) == ("hello", "statusd", "drain")


@given(st.text(), st.dictionaries(st.sampled_from("abc"), st.text() | st.integers() | st.binary() | st.booleans()))
@example("100 % {} %s", {})
def test_any_message_is_one_line_that_reads_back(msg: str, fields: dict[str, object]) -> None:
    out = Output()
    with writing_to(out) as writer:
        make_logger("debug", "statusd", writer).info(msg, **fields)
    (line,) = out.lines
    parsed = strictly(line)
    assert parsed["msg"] == msg
    for name, value in fields.items():
        assert parsed[name] == (str(value) if isinstance(value, bytes) else value)


def test_half_a_surrogate_pair_is_written_as_json_writes_it() -> None:
    out = Output()
    with writing_to(out) as writer:
        make_logger("debug", "statusd", writer).info("path", path=os.fsdecode(b"/run/\xff"))
    assert strictly(out.lines[0])["path"] == "/run/\udcff"
    assert out.data.isascii()
