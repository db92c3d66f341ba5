"""Logs: one JSON object a line on standard output (SPEC 5).

`open_logs` owns the writer thread for the life of the process. The event loop only appends a line to a bounded queue: a
disk, a pipe or a terminal that stalls must not delay one message to one browser. What does not fit is counted and said
as soon as there is room again.
"""

from __future__ import annotations

import io
import json
import select
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

    Logger = FilteringBoundLogger

QUEUE_LIMIT: Final = 1 << 20
"""Bytes of log lines that may wait for the disk; newer ones are dropped and counted."""

CLOSE_TIMEOUT: Final = 2.0
"""Seconds that the end of the process waits for a stalled disk to take the last lines."""

CLOSE_LAPS: Final = 20
"""Parts of that wait. Whatever a process that gets no time misses of it is one part: its writer has the others."""

RETRY: Final = 0.05
"""Seconds between tries of a full output that doesn't block."""

TEXT_LIMIT: Final = 2000
"""Characters of a field. What strangers say is quoted shorter (`common.quote`); this holds whatever is logged."""

TRACEBACK_LIMIT: Final = 16_000
"""Characters of a traceback."""

LEVELS: Final = {"debug": 10, "info": 20, "warn": 30, "error": 40}
_NAMES: Final = {"warning": "warn", "exception": "error", "critical": "error"}


class LineSink(Protocol):
    """Where finished lines go. `write` must not block."""

    def write(self, line: str) -> None:
        """Take one line, without its newline."""


class Writable(Protocol):
    """An unbuffered binary file. `write` may block, and returns how many bytes it took."""

    def write(self, data: memoryview, /) -> int | None:
        """Write some of `data`."""


class ThreadedWriter:
    """A sink whose thread does the blocking writes, in batches, in order. `daemon` is named in the lines of its own."""

    def __init__(self, out: Writable, *, limit: int = QUEUE_LIMIT, daemon: str | None = None) -> None:
        self._out = out
        self._daemon = daemon
        self._limit = limit
        self._lines: deque[bytes] = deque()
        self._queued = 0
        self._dropped = 0
        self._to_be_said = False
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queue one line, or count it as dropped when `limit` bytes are waiting already."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._changed:
            if self._queued + len(data) > self._limit:
                self._dropped += 1
                self._to_be_said = True
            else:
                self._lines.append(data)
                self._queued += len(data)
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Write what is queued, waiting `timeout` seconds of this process at most."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        for _ in range(CLOSE_LAPS):
            self._thread.join(timeout / CLOSE_LAPS)
            if not self._thread.is_alive():
                return

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._lines or self._to_be_said or self._closing):
                    self._changed.wait()
                if not (self._lines or self._dropped):
                    return
                lines = list(self._lines)
                self._lines.clear()
                dropped, self._dropped = self._dropped, 0
                self._to_be_said = False
                last = self._closing
            written = self._write([*lines, *([_dropped_line(dropped, self._daemon)] if dropped else [])])
            with self._changed:
                self._queued = sum(map(len, self._lines))
                if not written:
                    # A full disk, a closed pipe. It is said with the next line, and not tried again until then.
                    self._dropped += len(lines) + dropped
                    if last:
                        return

    def _write(self, lines: list[bytes]) -> bool:
        """Write the lines; return False if the output failed on any of them."""
        try:
            for piece in _pieces(lines):
                _write_all(self._out, piece)
        except (OSError, ValueError):
            return False
        return True


@contextmanager
def open_logs(level: str, daemon: str, out: Writable | None = None) -> Iterator[Logger]:
    """Yield the process's logger; on exit the queued lines are written, within `CLOSE_TIMEOUT`.

    `level` is one of `debug`, `info`, `warn`, `error`; `daemon` is in every line; `out` is standard output unless
    given.
    """
    # Unbuffered, and not sys.stdout: what could not be written must not be tried again when the interpreter ends.
    out = io.FileIO(sys.stdout.fileno(), "wb", closefd=False) if out is None else out
    writer = ThreadedWriter(out, daemon=daemon)
    try:
        yield make_logger(level, daemon, writer)
    finally:
        writer.close(CLOSE_TIMEOUT)


def make_logger(level: str, daemon: str, sink: LineSink) -> Logger:
    """A logger that renders each event to one JSON line and gives it to `sink`.

    Its component is the daemon itself; a part of it binds another one, and the lines name the daemon all the same.
    """
    logger: Logger = structlog.wrap_logger(
        sink,
        processors=[structlog.processors.ExceptionRenderer(), _render],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        cache_logger_on_first_use=True,
        component=daemon,
        daemon=daemon,
    )
    return logger.bind()


def _render(sink: WrappedLogger, method: str, event: EventDict) -> str:
    """The last processor: the fixed fields first, in the order that SPEC 5 gives them."""
    line = {
        "time": _timestamp(),
        "level": _NAMES.get(method, method),
        "msg": event.pop("event"),
        "component": event.pop("component"),
    }
    if "exception" in event:
        event["traceback"] = _shorten(event.pop("exception"), TRACEBACK_LIMIT)
    line.update(event)
    sink.write(_to_json(line))
    raise structlog.DropEvent


def _to_json(line: dict[str, object]) -> str:
    """The line as JSON; what JSON has no word for is said as text, whatever it is: a log line must not end a task.

    No character that steers a terminal or a viewer is raw in it: JSON has an escape for each.
    """
    bounded = {
        name: _shorten(value, TEXT_LIMIT) if isinstance(value, str) and name != "traceback" else value
        for name, value in line.items()
    }
    try:
        text = _dumps(bounded)
    except (TypeError, ValueError, RecursionError):
        text = _dumps(
            {name: value if isinstance(value, str | bool | None) else _text(value) for name, value in bounded.items()}
        )
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else json.dumps(character)[1:-1] for character in text)


def _dumps(line: dict[str, object]) -> str:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"), default=_text, allow_nan=False)


def _text(value: object) -> str:
    try:
        return _shorten(str(value), TEXT_LIMIT)
    except Exception:  # noqa: BLE001 - an object that can't even be named is named by its type
        return f"<{type(value).__name__}>"


def _shorten(text: str, limit: int) -> str:
    """`text` within `limit` characters: a piece is left out of its middle, since a traceback says most at its end."""
    if len(text) <= limit:
        return text
    note = f"\n… {len(text)} characters, cut …\n"
    kept = (limit - len(note)) // 2
    return text[:kept] + note + text[-kept:]


def _pieces(lines: list[bytes]) -> Iterator[bytes]:
    """The lines, joined to what a pipe takes in one piece: workers that share one don't cut each other's lines."""
    piece = b""
    for line in lines:
        if piece and len(piece) + len(line) > select.PIPE_BUF:
            yield piece
            piece = b""
        piece += line
    yield piece


def _write_all(out: Writable, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        taken = out.write(rest)
        if taken is None:
            # Full, and made non-blocking by another process that shares it.
            time.sleep(RETRY)
        else:
            rest = rest[taken:]


def _timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _dropped_line(count: int, daemon: str | None) -> bytes:
    line: dict[str, object] = {"time": _timestamp(), "level": "warn", "msg": "log lines dropped", "component": "logs"}
    line |= ({} if daemon is None else {"daemon": daemon}) | {"count": count}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"
