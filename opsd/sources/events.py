"""Server-sent events: bytes, cut anywhere -> events and comments. Pure; one parser per stream.

Lines end with CR, LF or both. What an event holds is kept as bytes: who wants it knows what it is.
"""

from __future__ import annotations

from typing import Final

import attrs

_BOM: Final = b"\xef\xbb\xbf"


MOST_LINES: Final = 256
"""Lines taken at once: a tenth of a millisecond's work, whatever they are."""


class EventTooLargeError(Exception):
    """A line or an event is longer than the limit; nothing more can be made of the stream."""


@attrs.frozen
class ServerEvent:
    """One event."""

    name: str
    """Its type, `message` where none was given."""
    data: bytes
    """Its data lines, joined by line feeds."""


@attrs.frozen
class Comment:
    """A comment line: a sign of life."""

    text: bytes


class EventParser:
    """A stream's bytes as they come. `limit` bounds the bytes of one event, comments apart, and of one line.

    A call of `feed` takes `MOST_LINES` lines at most; while `unread`, `feed(b"")` takes those that are left.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0
        """Bytes of the buffer that hold no end of a line."""
        self._after_cr = False
        """The last line ended with CR at the end of a chunk: an LF that follows belongs to it."""
        self.lines = 0
        """Taken so far."""
        self.unread = False
        """Whether there may be lines that have come and are not taken yet."""
        self._begun = False
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[ServerEvent | Comment]:
        """What this chunk completes, in order. Raises EventTooLargeError; the parser is of no use then."""
        if chunk and self._after_cr:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        self._buffer += chunk
        found: list[ServerEvent | Comment] = []
        start, last = 0, self.lines + MOST_LINES
        while self.lines < last and (end := self._end_of_line(start)) >= 0:
            line = bytes(self._buffer[start:end])
            start = self._next_line(end)
            self.lines += 1
            if (item := self._take(line)) is not None:
                found.append(item)
        del self._buffer[:start]
        self.unread = self.lines == last and len(self._buffer) > 0
        self._searched = 0 if self.unread else len(self._buffer)
        if self._size + len(self._buffer) > self._limit:
            raise EventTooLargeError(f"more than {self._limit} bytes")
        return found

    def _end_of_line(self, start: int) -> int:
        search = max(start, self._searched)
        lf = self._buffer.find(b"\n", search)
        cr = self._buffer.find(b"\r", search, lf if lf >= 0 else len(self._buffer))
        # Every line of the chunk is looked for from its own start: what was searched lies before it.
        self._searched = 0 if max(lf, cr) >= 0 else self._searched
        return cr if cr >= 0 else lf

    def _next_line(self, end: int) -> int:
        if self._buffer[end : end + 1] != b"\r":
            return end + 1
        if end + 1 == len(self._buffer):
            self._after_cr = True
            return end + 1
        return end + 2 if self._buffer[end + 1 : end + 2] == b"\n" else end + 1

    def _take(self, line: bytes) -> ServerEvent | Comment | None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not name:
            return Comment(value)
        self._size += len(line)
        if self._size > self._limit:
            raise EventTooLargeError(f"more than {self._limit} bytes")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._name = value
        return None

    def _dispatch(self) -> ServerEvent | None:
        name, data = self._name.decode("utf-8", "replace"), self._data
        self._name, self._data, self._size = b"", [], 0
        return ServerEvent(name or "message", b"\n".join(data)) if data else None
