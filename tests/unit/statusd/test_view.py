"""What statusd's frames mean to a reader, and how the two views show them."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pytest

from common.watch.show import Note, OutputClosedError
from statusd.terminal import LABEL_LIMIT, SHOWN_LIMIT, TerminalStatusView
from statusd.view import Entry, PlainStatusView, Tone, percentage_of, read_status
from statusd.watch import open_status_view


def status(data: str) -> dict[str, object]:
    return {"type": "status", "data": data}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('{"type":"progress","percent":10}', 10),
        ('{"percent":0}', 0),
        ('{"percent":100}', 100),
        ('{"percent":33.25}', 33.25),
        ('{"percentage":62}', 62),
        ('{"progress":40}', 40),
        ('{"progress":0.4}', 40),
        ('{"progress":1.0}', 100),
        ('{"progress":1}', 1),
        ('{"progress":55.5}', 55.5),
        ('{"percent":0.4}', 0.4),
        ('  {"percent":5}', 5),
        ('{"percent":"n/a","progress":7}', 7),
        ('{"percent":true}', None),
        ('{"percent":null}', None),
        ('{"percent":101}', None),
        ('{"percent":-1}', None),
        ('{"percent":NaN}', None),
        ('{"percent":1e999}', None),
        ('{"percent":' + "9" * 5000 + "}", None),
        ('{"note":"50 %"}', None),
        ('{"percent":10', None),
        ("[10]", None),
        ("{" * 100_000, None),
        ('{"a":' * 100_000, None),
        ("37 %", 37),
        ("37%", 37),
        ("hillslope 4: 99.5 % done", 99.5),
        ("(100%)", 100),
        ("0%", 0),
        ("from 20% to 40%", 20),
        ("101 %", None),
        ("-5 %", None),
        ("1234%", None),
        ("GET /a%20b 5%20c", None),
        ("v1.5%", None),
        ("100", None),
        ("percent", None),
        ("٣٧%", None),
        ("", None),
    ],
)
def test_percentage_of(data: str, expected: float | None) -> None:
    assert percentage_of(data) == expected


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (status("wepp started"), Entry("wepp started", "wepp started")),
        (status(""), Entry("", "")),
        (
            status('{"type":"progress","percent":10,"task":"soils","message":"tile 3 of 30"}'),
            Entry(
                '{"type":"progress","percent":10,"task":"soils","message":"tile 3 of 30"}',
                "progress 10 % task=soils tile 3 of 30",
                Tone.PROGRESS,
                10,
                "soils",
            ),
        ),
        (
            status('{"progress":0.5,"n":[1,2]}'),
            Entry('{"progress":0.5,"n":[1,2]}', "50 % n=[1,2]", Tone.PROGRESS, 50),
        ),
        (status('{"state":"done"}'), Entry('{"state":"done"}', "state=done")),
        (status("soils: 40 % done"), Entry("soils: 40 % done", "soils: 40 % done", Tone.PROGRESS, 40, "soils: done")),
        (status("EXCEPTION soils"), Entry("EXCEPTION soils", "EXCEPTION soils", Tone.EXCEPTION)),
        (status("rq:1f EXCEPTION f(x)"), Entry("rq:1f EXCEPTION f(x)", "rq:1f EXCEPTION f(x)", Tone.EXCEPTION)),
        (status("TRIGGER wepp DONE"), Entry("TRIGGER wepp DONE", "TRIGGER wepp DONE", Tone.TRIGGER)),
        (status("no EXCEPTIONs here"), Entry("no EXCEPTIONs here", "no EXCEPTIONs here")),
        (status("the word EXCEPTION later"), Entry("the word EXCEPTION later", "the word EXCEPTION later")),
        ({"data": "not JSON"}, Entry("not JSON", "not JSON", Tone.UNKNOWN)),
        ({"type": "status"}, Entry('{"type":"status"}', '{"type":"status"}', Tone.UNKNOWN)),
        (
            {"type": "status", "data": 5},
            Entry('{"type":"status","data":5}', '{"type":"status","data":5}', Tone.UNKNOWN),
        ),
        ({"type": "new", "data": "x"}, Entry('{"type":"new","data":"x"}', '{"type":"new","data":"x"}', Tone.UNKNOWN)),
    ],
)
def test_what_a_frame_says(frame: dict[str, object], expected: Entry) -> None:
    assert read_status(frame) == expected


def test_a_percentage_of_zero_labels_the_bar_like_any_other() -> None:
    assert read_status(status("soils 0%")).label == "soils"


def test_plain_lines_are_one_a_frame_as_published_but_for_control_characters() -> None:
    out, err = io.StringIO(), io.StringIO()
    view = PlainStatusView(out, err)
    for data in ("started", '{"percent":10}', "two\nlines", "\x1b[31mred\x1b[0m", "ünïcode ✓"):
        view.frame(status(data))
    assert out.getvalue().split("\n") == [
        "started", '{"percent":10}', "two\\nlines", "\\u001b[31mred\\u001b[0m", "ünïcode ✓", "",
    ]  # fmt: skip
    assert err.getvalue() == ""


def test_in_a_pipe_gaps_stay_with_the_lines_and_the_rest_goes_to_stderr() -> None:
    out, err = io.StringIO(), io.StringIO()
    view = PlainStatusView(out, err)
    for note in Note:
        view.notice(note, note.value)
    assert out.getvalue() == "-- gap --\n"
    assert err.getvalue() == "-- connected --\n-- retrying --\n-- refused --\n"


class ClosedPipe(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_a_closed_pipe_is_told_to_the_caller() -> None:
    view = PlainStatusView(ClosedPipe(), io.StringIO())
    with pytest.raises(OutputClosedError):
        view.frame(status("x"))


class CountingPipe(io.StringIO):
    flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        super().flush()


def test_every_plain_line_is_flushed() -> None:
    out = CountingPipe()
    view = PlainStatusView(out, io.StringIO())
    for number in range(3):
        view.frame(status(str(number)))
    assert out.flushes == 3


def test_a_locale_that_cannot_spell_a_character_ends_nothing() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    with open_status_view(out, io.StringIO()) as view:
        view.frame(status("ünïcode"))
    assert raw.getvalue() == b"\\xfcn\\xefcode\n"


class Terminal(io.StringIO):
    """A terminal's file: rich asks it what it is, and writes escape sequences to it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a terminal that shows colours, whatever the one of this run."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def shown(out: Terminal, *frames: dict[str, object]) -> str:
    view = TerminalStatusView(out, now=lambda: datetime(2024, 5, 1, 12, 30, 5, tzinfo=UTC))
    for frame in frames:
        view.frame(frame)
    before_the_end = out.getvalue()
    view.close()
    return before_the_end


HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


@pytest.mark.usefixtures("colour")
def test_a_terminal_gets_a_dim_time_before_each_line_and_no_bar_without_a_percentage() -> None:
    out = Terminal()
    assert shown(out, status("started")) == "\x1b[2m12:30:05 \x1b[0mstarted\n"
    assert HIDE not in out.getvalue()


@pytest.mark.usefixtures("colour")
def test_an_exception_is_red_and_a_trigger_stands_out() -> None:
    assert "\x1b[1;31mEXCEPTION x" in shown(Terminal(), status("EXCEPTION x"))
    assert "\x1b[1;30;43mTRIGGER x" in shown(Terminal(), status("TRIGGER x"))


@pytest.mark.usefixtures("colour")
def test_a_percentage_shows_a_bar_and_closing_gives_the_cursor_back() -> None:
    out = Terminal()
    text = shown(out, status('{"percent":42,"task":"soils [red]"}'), status("a line above the bar"))
    assert "soils [red]" in text
    assert " 42.0 %" in text
    assert text.index("a line above the bar") < text.rindex(" 42.0 %")
    assert text.count(HIDE) == 1
    assert out.getvalue().rindex(SHOW) > out.getvalue().rindex(HIDE)


@pytest.mark.usefixtures("colour")
def test_the_bar_follows_every_percentage_and_stays_below_the_line_that_brought_it() -> None:
    for text in (
        shown(Terminal(), *(status(json.dumps({"percent": percent, "task": "soils"})) for percent in (5, 80, 30))),
        shown(Terminal(), *(status(f"soils {percent}%") for percent in (5, 80, 30))),
    ):
        for percent in (5, 80, 30):
            assert f"{percent:.1f} %" in text
        last_line = text.rindex("12:30:05")
        assert text.index(" 30.0 %", last_line) > text.rindex(" 80.0 %")
        assert text.rindex(" 30.0 %") > text.rindex(" 80.0 %")


@pytest.mark.usefixtures("colour")
def test_nothing_from_outside_reaches_the_terminal_as_a_control_character() -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\rgone\x9b1m"
    frames: tuple[dict[str, object], ...] = (
        status(hostile),
        status(json.dumps({"percent": 5, "task": hostile, "message": hostile, hostile: hostile})),
        {"type": hostile, "data": hostile},
    )
    text = shown(Terminal(), *frames)
    assert "\x1b]0" not in text
    assert "\x1b[2J" not in text
    assert not set("\x07\x9b") & set(text)
    assert "\rgone" not in text


@pytest.mark.usefixtures("colour")
def test_the_lines_of_a_traceback_stand_below_each_other() -> None:
    assert "EXCEPTION x\x1b[0m\n\x1b[1;31m         line 2" in shown(Terminal(), status("EXCEPTION x\nline 2"))


@pytest.mark.usefixtures("colour")
def test_a_huge_message_does_not_flood_the_screen() -> None:
    text = shown(Terminal(), status("x" * 1_000_000), status(json.dumps({"percent": 1, "task": "y" * 1000})))
    assert text.count("x") < SHOWN_LIMIT + 10
    assert f"({1_000_000 - SHOWN_LIMIT} characters more)" in text
    assert "y" * (LABEL_LIMIT - 1) + "…" in text


@pytest.mark.usefixtures("colour")
def test_the_view_that_fits() -> None:
    with open_status_view(Terminal(), io.StringIO()) as view:
        assert isinstance(view, TerminalStatusView)
    with open_status_view(io.StringIO(), io.StringIO()) as view:
        assert isinstance(view, PlainStatusView)


@pytest.mark.usefixtures("colour")
def test_a_view_that_is_left_by_an_exception_gives_the_cursor_back() -> None:
    out = Terminal()

    def interrupted() -> None:
        with open_status_view(out, io.StringIO()) as view:
            view.frame(status("5 %"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert out.getvalue().rindex(SHOW) > out.getvalue().rindex(HIDE)
