"""What preflightd's frames mean to a reader, and how the two views show them."""

from __future__ import annotations

import errno
import io
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from typing import TYPE_CHECKING

import pytest

from common.watch.show import Note, OutputClosedError
from preflightd.checklist import packaged
from preflightd.terminal import NAME_LIMIT, TerminalPreflightView, date_of
from preflightd.view import ChecklistLines, PlainPreflightView, State, changes, read_state, summary
from preflightd.watch import open_preflight_view

if TYPE_CHECKING:
    from collections.abc import Iterator

Frame = dict[str, object]


def preflight(*done: str, modified: int | None = None, **locks: bool) -> Frame:
    """A frame with three steps."""
    checklist = {step: step in done for step in ("channels", "landuse", "soils")}
    frame: Frame = {"type": "preflight", "checklist": checklist, "lock_statuses": locks}
    return frame if modified is None else frame | {"last_modified": modified}


def state(*done: str, modified: int | None = None, **locks: bool) -> State:
    read = read_state(preflight(*done, modified=modified, **locks))
    assert read is not None
    return read


def test_the_daemons_own_frame_is_read() -> None:
    content = packaged().evaluate({b"timestamps:build_channels": b"5", b"locked:wepp.nodb": b"true"}).content()
    read = read_state({"type": "preflight", **content})
    assert read is not None
    assert (list(read.checklist), read.done, read.held, read.last_modified) == (
        list(packaged().rules), ["channels"], ["wepp.nodb"], 5,
    )  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {"type": "status"},
        {"type": None},
        {"checklist": None},
        {"checklist": ["channels"]},
        {"checklist": {"channels": 1}},
        {"lock_statuses": {"x": "true"}},
        {"lock_statuses": None},
        {"last_modified": "5"},
        {"last_modified": 5.0},
        {"last_modified": True},
    ],
    ids=str,
)
def test_what_is_no_frame_of_preflightds_has_no_state(changed: Frame) -> None:
    assert read_state(preflight("soils", modified=1) | changed) is None


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (state(), "0 of 3 done"),
        (state("channels", "soils"), "2 of 3 done: channels soils"),
        (state(a=True, b=False, c=True), "0 of 3 done; locked: a c"),
        (state("landuse", modified=17, a=True), "1 of 3 done: landuse; locked: a; last_modified 17"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_summary(of: State, expected: str) -> None:
    assert summary(of) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (state(), state(), []),
        (state(), state("landuse"), ["+ landuse"]),
        (state("soils"), state(), ["- soils"]),
        (state("soils"), state("landuse", "channels"), ["+ channels", "+ landuse", "- soils"]),
        (state(), state(a=True), ["locked a"]),
        (state(a=False), state(a=True), ["locked a"]),
        (state(a=True), state(a=False), ["unlocked a"]),
        (state(a=True), state(), ["unlocked a"]),
        (state(), state(a=False), ["unlocked a"]),
        (state(a=False), state(), ["no lock a"]),
        (state(b=True), state("soils", a=True, b=False), ["+ soils", "locked a", "unlocked b"]),
        (state(modified=1), state(modified=2), ["last_modified 2"]),
        (state(modified=1), state(), ["last_modified unknown"]),
        (state(modified=1), state("soils", modified=2), ["+ soils"]),
        (State({"old": True, "stays": True}, {}), State({"new": True, "stays": True}, {}), ["+ new", "- old"]),
        (State({"old": False}, {}), State({"new": False}, {}), []),
    ],
    ids=str,
)
def test_what_has_changed(before: State, after: State, expected: list[str]) -> None:
    assert changes(before, after) == expected


def test_lines_are_a_summary_first_and_changes_after_it() -> None:
    lines = ChecklistLines()
    shown = [lines.of(frame) for frame in (preflight("soils"), preflight("soils"), preflight(a=True))]
    assert shown == [["1 of 3 done: soils"], [], ["- soils", "locked a"]]


def test_a_frame_that_cannot_be_read_is_a_line_and_changes_nothing() -> None:
    lines = ChecklistLines()
    frames: list[Frame] = [preflight("soils"), {"type": "new", "n": 1}, {"data": "no JSON\x07"}, preflight()]
    shown = [lines.of(frame) for frame in frames]
    assert shown[1:] == [['{"type":"new","n":1}'], ["no JSON\\u0007"], ["- soils"]]


HOSTILE = "\x1b]0;owned\x07\n\x1b[2J\rgone\x9b1m"


def test_nothing_from_outside_reaches_a_line_as_a_control_character() -> None:
    lines = ChecklistLines()
    frames: list[Frame] = [preflight(), preflight(**{HOSTILE: True}), {"type": HOSTILE}]
    for frame in frames:
        assert all(line.isprintable() for line in lines.of(frame))


def test_in_a_pipe_each_change_is_a_line_and_notices_go_to_stderr() -> None:
    out, err = io.StringIO(), io.StringIO()
    with open_preflight_view(out, err) as view:
        assert isinstance(view, PlainPreflightView)
        view.notice(Note.CONNECTED, "connected")
        for frame in (preflight(), preflight("landuse", a=True), preflight("landuse", a=False)):
            view.frame(frame)
        view.line("[mark] a line of the caller's", "red")
    assert out.getvalue() == "0 of 3 done\n+ landuse\nlocked a\nunlocked a\n[mark] a line of the caller's\n"
    assert err.getvalue() == "-- connected --\n"


class ClosedPipe(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_a_closed_pipe_is_told_to_the_caller() -> None:
    with pytest.raises(OutputClosedError):
        PlainPreflightView(ClosedPipe(), io.StringIO()).frame(preflight())


# On a terminal.


class Terminal(io.StringIO):
    """A terminal's file: rich asks it what it is, and writes escape sequences to it."""

    def isatty(self) -> bool:
        return True


class GoneTerminal(Terminal):
    def write(self, _text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


@pytest.fixture
def colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a terminal of the usual size that shows colours, whatever the one of this run."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}.items():
        monkeypatch.setenv(name, value)


NOON = datetime(2024, 5, 1, 12, 30, 0, tzinfo=UTC)
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
DONE = "\x1b[32mdone\x1b[0m"


def clock() -> Iterator[datetime]:
    return (NOON + timedelta(minutes=minute) for minute in count())


def screens(*frames: Frame) -> list[str]:
    """What each frame draws, on a clock that moves on by a minute for each."""
    out, times = Terminal(), clock()
    now = NOON
    view = TerminalPreflightView(out, now=lambda: now, zone=UTC)
    drawn = []
    for frame in frames:
        now = next(times)
        length = len(out.getvalue())
        view.frame(frame)
        drawn.append(out.getvalue()[length:])
    view.close()
    return drawn


def row(screen: str, step: str) -> str:
    (line,) = [line for line in screen.splitlines() if line.removeprefix("\x1b[1m").startswith(f"{step} ")]
    return line


pytestmark = pytest.mark.usefixtures("colour")


def test_the_table_says_which_steps_are_done_and_when_each_changed() -> None:
    first, second, third = screens(preflight("soils"), preflight("soils", "landuse"), preflight("landuse"))
    assert "1 of 3 done" in first
    assert "2 of 3 done" in second
    assert DONE in row(first, "soils")
    assert DONE not in row(first, "landuse")
    assert ":" not in first.replace("locked:", "")
    assert DONE in row(second, "landuse")
    assert "12:31:00" in row(second, "landuse")
    assert ":" not in row(second, "soils")
    assert DONE not in row(third, "soils")
    assert "12:32:00" in row(third, "soils")
    assert "12:31:00" in row(third, "landuse")


def test_what_changed_last_stands_out() -> None:
    *_, third = screens(preflight(), preflight("soils"), preflight("soils", "landuse"))
    assert row(third, "landuse").startswith("\x1b[1m")
    assert not row(third, "soils").startswith("\x1b[1m")


def test_the_table_names_the_locks_that_are_held_and_since_when() -> None:
    first, second, third, fourth = screens(
        preflight(a=True, b=False), preflight(a=True, b=True), preflight(a=False, b=True), preflight()
    )
    assert "1 locked: " in first
    assert "since" not in first
    assert "2 locked: " in second
    assert second.count("since") == 1
    assert "since 12:31:00" in second
    assert "1 locked: " in third
    assert "since 12:31:00" in third
    assert "nothing is locked" in fourth


def test_the_heading_has_last_modified_as_a_date_and_the_time_of_the_last_change() -> None:
    first, second, third = screens(preflight(), preflight(modified=1714566605), preflight(modified=1714566605))
    assert "last modified unknown" in first
    assert "changed 12" not in first
    for screen in (second, third):
        assert "last modified 2024-05-01 12:30:05   changed 12:31:00" in screen


@pytest.mark.parametrize(
    ("stamp", "shown"),
    [
        (1714566605, "2024-05-01 14:30:05"),
        (0, "1970-01-01 02:00:00"),
        ((1 << 63) - 1, str((1 << 63) - 1)),
        (-(1 << 63), str(-(1 << 63))),
        (10**400, "1" + "0" * 400),
    ],
)
def test_a_stamp_is_a_date_in_the_readers_zone_or_the_number(stamp: int, shown: str) -> None:
    assert date_of(stamp, timezone(timedelta(hours=2))) == shown


def test_all_of_it_fits_on_a_terminal_of_24_lines_however_many_locks_there_are() -> None:
    locks = {f"{number}-{'x' * 100}": True for number in range(1000)}
    (screen,) = screens({"type": "preflight", **packaged().evaluate({}).content(), "lock_statuses": locks})
    assert "1000 locked: " in screen
    assert "x" * NAME_LIMIT not in screen
    assert "dss_export" in screen
    assert screen.count("\n") < 23


def test_on_a_terminal_nothing_from_outside_arrives_as_a_control_character() -> None:
    text = "".join(
        screens(
            preflight(**{HOSTILE: True}),
            {"type": "preflight", "checklist": {HOSTILE: True}, "lock_statuses": {}},
            {"type": HOSTILE, "data": HOSTILE},
        )
    )
    assert "\x1b]0" not in text
    assert "\x1b[2J" not in text
    assert not set("\x07\x9b") & set(text)
    assert "\rgone" not in text


def test_the_notices_stand_above_the_table() -> None:
    out = Terminal()
    view = TerminalPreflightView(out, now=lambda: NOON)
    view.frame(preflight("soils"))
    view.notice(Note.RETRYING, "the connection broke")
    text = out.getvalue()
    assert text.index("-- the connection broke --") < text.rindex("1 of 3 done")
    view.close()


def test_closing_leaves_the_last_table_and_gives_the_cursor_back() -> None:
    out = Terminal()

    def interrupted() -> None:
        with open_preflight_view(out, io.StringIO()) as view:
            assert isinstance(view, TerminalPreflightView)
            view.frame(preflight())
            view.frame(preflight("soils"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    text = out.getvalue()
    assert text.count(HIDE) == text.count(SHOW) == 1
    assert text.rindex(SHOW) > text.rindex("1 of 3 done") > text.index(HIDE)
    assert DONE in text[text.rindex("1 of 3 done") :]


def test_without_a_frame_the_terminal_is_left_as_it_was() -> None:
    out = Terminal()
    with open_preflight_view(out, io.StringIO()):
        pass
    assert out.getvalue() == ""


def test_a_terminal_that_is_gone_is_told_to_the_caller_and_closing_does_not_fail() -> None:
    view = TerminalPreflightView(GoneTerminal())
    for _ in range(2):
        with pytest.raises(OutputClosedError):
            view.frame(preflight())
    view.close()
