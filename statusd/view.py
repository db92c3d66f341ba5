"""How the terminal client shows statusd's frames: what a message means to a reader, and plain lines of it.

`read_status` is pure: frame in, `Entry` out. `PlainStatusView` writes one line a frame, for pipes and files; the
terminal's view (colours and a progress bar) lives in `statusd.terminal`, because it needs the extra `cli`.
"""

from __future__ import annotations

import enum
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs

from common.watch.show import Note
from common.watch.view import PlainView
from common.watch.words import compact, one_line, raw_text
from statusd.jobs import JobEvent, JobMessage, read_job

if TYPE_CHECKING:
    from collections.abc import Mapping

PERCENT_KEYS: Final = ("percent", "percentage", "progress")
LABEL_KEYS: Final = ("task", "name", "stage", "label")
TEXT_KEYS: Final = ("message", "text", "msg")

_PERCENT: Final = re.compile(r"(?<![\w.,+-])(\d{1,3}(?:\.\d{1,6})?) ?%(?!\w)", re.ASCII)
_KEYWORD: Final = re.compile(r"(?:\S{1,200} )?(EXCEPTION|TRIGGER)\b")
"""Two of the platform's keywords start a message that is no job's, or follow a word that names the sender."""


class Tone(enum.Enum):
    """What a message is, to a reader's eye."""

    LINE = "line"
    PROGRESS = "progress"
    STARTED = "started"
    COMPLETED = "completed"
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
        raw = raw_text(frame)
        return Entry(raw, raw, Tone.UNKNOWN)
    fields = _object(data)
    percent = percentage_of(data)
    if fields is None:
        job = read_job(data)
        said = data if job is None else job.text
        label = "" if percent is None else " ".join(_PERCENT.sub("", said).split()).strip(" :-")
        tone = _tone(data, percent) if job is None else _tone_of_job(job, percent)
        return Entry(data, data if job is None else job.shown(), tone, percent, label)
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


class PlainStatusView(PlainView):
    """One line a frame, as published but for control characters."""

    def frame(self, frame: Mapping[str, object]) -> None:
        """Write the message. Raises OutputClosedError."""
        self.line(one_line(read_status(frame).raw))


class JsonStatusView(PlainView):
    """A JSON object a line: `time`, what the server sent, and of a job's message `job`, `event` and `text`.

    A gap is an object too, `{"time":…,"type":"notice","text":…}`, so that programs see that lines may be missing.
    """

    def frame(self, frame: Mapping[str, object]) -> None:
        """Write the message. Raises OutputClosedError."""
        data = frame.get("data")
        job = read_job(data) if frame.get("type") == "status" and isinstance(data, str) else None
        more = {} if job is None else {"job": job.job, "event": job.event.value, "text": job.text}
        self._object({**frame, **more})

    def notice(self, note: Note, text: str) -> None:
        """Write a gap between the messages, anything else beside them. Raises OutputClosedError."""
        if note is Note.GAP:
            self._object({"type": "notice", "text": text})
        else:
            super().notice(note, text)

    def _object(self, fields: Mapping[str, object]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.line(json.dumps({"time": now, **fields}, separators=(",", ":")))


def _tone_of_job(job: JobMessage, percent: float | None) -> Tone:
    if job.event is JobEvent.STATUS:
        return Tone.LINE if percent is None else Tone.PROGRESS
    return Tone[job.event.value]


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
            words.append(f"{key}={value if isinstance(value, str) else compact(value)}")
    if said is not None:
        words.append(str(fields[said]))
    return " ".join(words)


def _within(value: float) -> float | None:
    return float(value) if 0 <= value <= 100 else None
