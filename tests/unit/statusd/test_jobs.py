"""What the platform's jobs say, and the watch that ends with one of them."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from common.watch.show import FinishedError, Note
from statusd.jobs import JobEvent, JobMessage, read_job
from statusd.until import UntilOutcome, UntilShow
from statusd.view import JsonStatusView, Tone, read_status

if TYPE_CHECKING:
    from collections.abc import Mapping

JOB: Final = "7f3a9c0e-1b2d-4e5f-8a9b-0c1d2e3f4a5b"


@pytest.mark.parametrize(
    ("data", "expected", "shown", "tone"),
    [
        (
            f"rq:{JOB} STARTED run_wepp(accustomed-pewter)",
            JobMessage(JOB, JobEvent.STARTED, "run_wepp(accustomed-pewter)"),
            "rq:7f3a9c0e… STARTED run_wepp(accustomed-pewter)",
            Tone.STARTED,
        ),
        (f"rq:{JOB} COMPLETED f(r)", JobMessage(JOB, JobEvent.COMPLETED, "f(r)"), None, Tone.COMPLETED),
        ("rq:1f EXCEPTION f(r)", JobMessage("1f", JobEvent.EXCEPTION, "f(r)"), "rq:1f EXCEPTION f(r)", Tone.EXCEPTION),
        ("rq:1f STATUS soils", JobMessage("1f", JobEvent.STATUS, "soils"), "rq:1f soils", Tone.LINE),
        ("rq:1f STATUS 40 % of it", JobMessage("1f", JobEvent.STATUS, "40 % of it"), "rq:1f 40 % of it", Tone.PROGRESS),
        (
            "rq:1f TRIGGER   wepp WEPP_DONE",
            JobMessage("1f", JobEvent.TRIGGER, "wepp WEPP_DONE"),
            "rq:1f TRIGGER wepp WEPP_DONE",
            Tone.TRIGGER,
        ),
        ("rq:1f STARTED", JobMessage("1f", JobEvent.STARTED, ""), "rq:1f STARTED", Tone.STARTED),
        (
            "rq:1f EXCEPTION f\nTraceback\n  File",
            JobMessage("1f", JobEvent.EXCEPTION, "f\nTraceback\n  File"),
            "rq:1f EXCEPTION f\nTraceback\n  File",
            Tone.EXCEPTION,
        ),
    ],
)
def test_a_jobs_message_is_told_apart_at_a_glance(
    data: str, expected: JobMessage, shown: str | None, tone: Tone
) -> None:
    assert read_job(data) == expected
    entry = read_status({"type": "status", "data": data})
    assert entry.tone is tone
    assert entry.raw == data
    assert shown is None or entry.text == shown


@pytest.mark.parametrize(
    "data",
    ["", "rq:", "rq:1f", "rq:1f STARTEDLY f", "rq: STARTED f", "xrq:1f STARTED f", "STARTED f", "rq:1f started f"],
)
def test_other_messages_are_no_jobs(data: str) -> None:
    assert read_job(data) is None


@pytest.mark.parametrize(("text", "event"), [("wepp DONE", "DONE"), ("wepp", ""), ("", ""), ("a b c", "b")])
def test_a_trigger_names_its_event(text: str, event: str) -> None:
    assert JobMessage("1", JobEvent.TRIGGER, text).trigger == event
    assert JobMessage("1", JobEvent.STATUS, text).trigger == ""


@attrs.define
class Shown:
    """A show that remembers."""

    frames: list[str] = attrs.field(factory=list)
    notices: list[str] = attrs.field(factory=list)

    def frame(self, frame: Mapping[str, object]) -> None:
        self.frames.append(str(frame.get("data")))

    def notice(self, _note: Note, text: str) -> None:
        self.notices.append(text)


def outcome(word: str, job: str | None, *lines: str) -> int | None:
    """How the watch ends with one of `lines`, each of which is shown; None if it goes on."""
    shown = Shown()
    until = UntilShow(shown, word, job)
    for number, line in enumerate(lines, 1):
        try:
            until.frame({"type": "status", "data": line})
        except FinishedError as finished:
            assert shown.frames == list(lines[:number])
            assert number == len(lines), "the last one ends it"
            return finished.code
    assert shown.frames == list(lines)
    return None


@pytest.mark.parametrize(
    ("word", "job", "lines", "code"),
    [
        ("COMPLETED", "1", ["rq:1 STARTED f", "rq:1 COMPLETED f"], UntilOutcome.DONE),
        ("COMPLETED", "1", ["rq:1 COMPLETED f"], UntilOutcome.DONE),
        ("COMPLETED", "1", ["rq:1 STARTED f", "rq:1 EXCEPTION f"], UntilOutcome.EXCEPTION),
        ("COMPLETED", "1", ["rq:10 COMPLETED f", "rq:2 EXCEPTION f", "COMPLETED", "rq:1 STATUS COMPLETED"], None),
        ("COMPLETED", None, ["rq:1 COMPLETED f", "rq:2 EXCEPTION f"], None),
        (
            "COMPLETED",
            None,
            ["rq:1 STARTED f", "rq:2 STARTED f", "rq:2 COMPLETED f", "rq:1 COMPLETED f"],
            UntilOutcome.DONE,
        ),
        ("COMPLETED", None, ["rq:1 STARTED f", "rq:2 EXCEPTION f", "rq:1 EXCEPTION f"], UntilOutcome.EXCEPTION),
        ("WEPP_DONE", "1", ["rq:1 COMPLETED f", "rq:1 TRIGGER   wepp WEPP_DONE"], UntilOutcome.DONE),
        ("WEPP_DONE", "1", ["rq:1 TRIGGER WEPP_DONE other", "rq:1 STATUS WEPP_DONE"], None),
        ("EXCEPTION", "1", ["rq:1 EXCEPTION f"], UntilOutcome.DONE),
        ("STARTED", None, ["rq:1 STARTED f"], UntilOutcome.DONE),
    ],
)
def test_the_watch_ends_with_its_job(word: str, job: str | None, lines: list[str], code: int | None) -> None:
    assert outcome(word, job, *lines) == code


def test_what_is_no_status_frame_ends_nothing() -> None:
    until = UntilShow(Shown(), "COMPLETED", "1")
    for frame in (
        {"data": "rq:1 COMPLETED f"},
        {"type": "status", "data": 5},
        {"type": "other", "data": "rq:1 COMPLETED"},
    ):
        until.frame(frame)


def test_notices_are_shown() -> None:
    shown = Shown()
    UntilShow(shown, "COMPLETED", None).notice(Note.GAP, "away")
    assert shown.notices == ["away"]


def test_json_is_an_object_a_line_with_its_time() -> None:
    out, err = io.StringIO(), io.StringIO()
    view = JsonStatusView(out, err)
    view.frame({"type": "status", "data": "rq:1 STATUS tile 3"})
    view.frame({"type": "status", "data": "plain\x1b\u2028"})
    view.notice(Note.GAP, "we were away for 1.0 s: lines may be missing")
    view.notice(Note.CONNECTED, "connected to ws://h")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    for line in lines:
        assert line.pop("time").endswith("Z")
    assert lines == [
        {"type": "status", "data": "rq:1 STATUS tile 3", "job": "1", "event": "STATUS", "text": "tile 3"},
        {"type": "status", "data": "plain\x1b\u2028"},
        {"type": "notice", "text": "we were away for 1.0 s: lines may be missing"},
    ]
    assert out.getvalue().isascii()
    assert err.getvalue() == "-- connected to ws://h --\n"
