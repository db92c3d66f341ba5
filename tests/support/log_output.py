"""An output for log lines that stalls, takes little or fails as a test wants it, and lines read back strictly."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from common.logs import ThreadedWriter
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Output:
    """A file in memory whose writes wait while `gate` is closed, take `most` bytes, or fail with `failures`."""

    def __init__(self, *, most: int | None = None, failures: Iterable[Exception] = ()) -> None:
        self.data = b""
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.most = most
        self.failures = iter(failures)

    def write(self, data: memoryview, /) -> int:
        """Write some of `data`."""
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        failure = next(self.failures, None)
        if failure is not None:
            raise failure
        taken = bytes(data[: self.most])
        self.data += taken
        return len(taken)

    @property
    def lines(self) -> list[str]:
        """What was written, which is whole lines."""
        assert not self.data or self.data.endswith(b"\n")
        return self.data.decode().split("\n")[:-1]

    @property
    def dropped(self) -> list[int]:
        """What the lines say about dropped ones."""
        parsed = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [line["count"] for line in parsed if line["msg"] == "log lines dropped"]


@contextmanager
def writing_to(out: Output, limit: int = 1 << 20) -> Iterator[ThreadedWriter]:
    """A writer that is closed with the block, when everything it took must be written."""
    writer = ThreadedWriter(out, limit=limit)
    try:
        yield writer
    finally:
        out.gate.set()
        writer.close(PATIENCE)


def strictly(line: str) -> dict[str, object]:
    """Parse one line as JSON without Python's own extensions to it."""

    def refuse(constant: str) -> object:
        raise AssertionError(f"{constant} is not JSON")

    assert "\n" not in line
    parsed = json.loads(line, parse_constant=refuse)
    assert isinstance(parsed, dict)
    return parsed
