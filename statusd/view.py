"""How the terminal client shows statusd's frames: what a message means to a reader, and plain lines of it.

`read_status` is pure: frame in, `Entry` out. `PlainStatusView` writes one line a frame, for pipes and files; the
terminal's view (colours and a progress bar) lives in `statusd.terminal`, because it needs the extra `cli`.
"""

from __future__ import annotations

import enum
import importlib
import importlib.util
import io
import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TextIO

import attrs

from common.watch.client import Note, OutputClosedError
from common.watch.words import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from common.watch.client import Show
    from statusd.terminal import TerminalStatusView

PERCENT_KEYS: Final = ("percent", "percentage", "progress")
LABEL_KEYS: Final = ("task", "name", "stage", "label")
TEXT_KEYS: Final = ("message", "text", "msg")

_PERCENT: Final = re.compile(r"(?<![\w.,+-])(\d{1,3}(?:\.\d{1,6})?) ?%(?!\w)", re.ASCII)
_KEYWORD: Final = re.compile(r"(?:\S{1,200} )?(EXCEPTION|TRIGGER)\b")
"""The platform's two keywords start a message, or follow the id of the job that sends it."""


class Tone(enum.Enum):
    """What a message is, to a reader's eye."""

    LINE = "line"
    PROGRESS = "progress"
    EXCEPTION = "exception"
    TRIGGER = "trigger"
    UNKNOWN = "unknown"
    """Not a status frame at all: shown as it came."""


@attrs.frozen
class Entry:
    """One message, read. Nothing in it is escaped yet."""

    raw: str
    """The message as it was published."""
    text: str
    """The same for a person: a JSON object as words."""
    tone: Tone = Tone.LINE
    percent: float | None = None
    """0 to 100 where the message carries a percentage."""
    label: str = ""
    """What the percentage is about, if the message says so."""


def read_status(frame: Mapping[str, object]) -> Entry:
    """What a frame of statusd's says."""
    data = frame.get("data")
    if frame.get("type") != "status" or not isinstance(data, str):
        raw = data if isinstance(data, str) and len(frame) == 1 else _compact(frame)
        return Entry(raw, raw, Tone.UNKNOWN)
    fields = _object(data)
    percent = percentage_of(data)
    if fields is None:
        label = "" if percent is None else " ".join(_PERCENT.sub("", data).split()).strip(" :-")
        return Entry(data, data, _tone(data, percent), percent, label)
    text = _sentence(fields, percent)
    label = next((value for key in LABEL_KEYS + TEXT_KEYS if isinstance(value := fields.get(key), str)), "")
    return Entry(data, text, _tone(text, percent), percent, label)


def percentage_of(data: str) -> float | None:
    """The percentage, 0 to 100, that a message carries; None when it carries none.

    In a JSON object `percent`, `percentage` or `progress`, a number from 0 to 100; a `progress` written as a float
    from 0 to 1 is a fraction. In a line of text the first `37 %` or `37%`.
    """
    fields = _object(data)
    if fields is None:
        found = _PERCENT.search(data)
        return _within(float(found.group(1))) if found else None
    for key in PERCENT_KEYS:
        value = fields.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if key == "progress" and isinstance(value, float) and 0 <= value <= 1:
            return value * 100
        return _within(value)
    return None


@contextmanager
def open_status_view(out: TextIO, err: TextIO) -> Iterator[Show]:
    """The view that fits `out`: colours and a bar on a terminal where rich is installed, plain lines elsewhere.

    Leaving the block gives a terminal back as it was found.
    """
    if isinstance(out, io.TextIOWrapper):
        # A locale that can't spell a character must not end the client.
        out.reconfigure(errors="backslashreplace")
    if not out.isatty() or importlib.util.find_spec("rich") is None:
        yield PlainStatusView(out, err)
        return
    # rich is an extra, and slow to import: a daemon that shares this package must not pay for it.
    view_class: type[TerminalStatusView] = importlib.import_module("statusd.terminal").TerminalStatusView
    view = view_class(out)
    try:
        yield view
    finally:
        view.close()


@attrs.frozen
class PlainStatusView:
    """One line a frame, flushed, as published but for control characters. `out` and `err` belong to the caller.

    What the server sent goes to `out`, gaps included, so that a saved log shows where it has holes; what concerns only
    the connection goes to `err`.
    """

    out: TextIO
    err: TextIO

    def frame(self, frame: Mapping[str, object]) -> None:
        """Write the message. Raises OutputClosedError."""
        _write(self.out, one_line(read_status(frame).raw))

    def notice(self, note: Note, text: str) -> None:
        """Write a notice between dashes. Raises OutputClosedError."""
        _write(self.out if note is Note.GAP else self.err, f"-- {text} --")


def _write(out: TextIO, line: str) -> None:
    try:
        out.write(f"{line}\n")
        out.flush()
    except OSError as error:
        raise OutputClosedError(str(error)) from error


def _tone(text: str, percent: float | None) -> Tone:
    if keyword := _KEYWORD.match(text):
        return Tone[keyword.group(1)]
    return Tone.LINE if percent is None else Tone.PROGRESS


def _object(data: str) -> Mapping[str, object] | None:
    if not data.lstrip().startswith("{"):
        return None
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _sentence(fields: Mapping[str, object], percent: float | None) -> str:
    """`{"type":"progress","percent":10,"task":"soils","message":"tile 3"}` -> `progress 10 % task=soils tile 3`."""
    said = next((key for key in TEXT_KEYS if isinstance(fields.get(key), str)), None)
    shown_percent = next((key for key in PERCENT_KEYS if key in fields), None) if percent is not None else None
    words: list[str] = []
    for key, value in fields.items():
        if key == "type" and isinstance(value, str):
            words.insert(0, value)
        elif key == shown_percent:
            words.append(f"{percent:g} %")
        elif key != said:
            words.append(f"{key}={value if isinstance(value, str) else _compact(value)}")
    if said is not None:
        words.append(str(fields[said]))
    return " ".join(words)


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _within(value: float) -> float | None:
    return float(value) if 0 <= value <= 100 else None
