"""Log lines: their fields, their shape whatever is in them, and a writer that never keeps its caller waiting."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import common.logs
from common.logs import LEVELS, TEXT_LIMIT, TRACEBACK_LIMIT, ThreadedWriter, make_logger, open_logs
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed import ReadableBuffer

    from common.logs import Logger

METHODS: Final = ["debug", "info", "warning", "error"]


class Lines:
    """A sink that keeps lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        """Take one line."""
        self.lines.append(line)


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


# -- the writer --------------------------------------------------------------------------------------------------------


def in_time(call: threading.Thread) -> bool:
    """Whether a thread ends although the output stalls."""
    call.start()
    call.join(PATIENCE)
    return not call.is_alive()


def test_lines_are_written_in_order_and_all_before_the_end() -> None:
    out = Output()
    with writing_to(out) as writer:
        for number in range(10_000):
            writer.write(str(number))
    assert out.lines == [str(number) for number in range(10_000)]


@pytest.mark.parametrize("most", [1, 3, 4096])
def test_an_output_that_takes_less_gets_the_rest(most: int) -> None:
    out = Output(most=most)
    with writing_to(out) as writer:
        for number in range(500):
            writer.write(str(number))
    assert out.lines == [str(number) for number in range(500)]


def test_a_stalled_output_never_blocks_the_caller() -> None:
    out = Output()
    with writing_to(out, limit=1000) as writer:
        log = make_logger("info", "statusd", writer)
        out.gate.clear()
        assert in_time(threading.Thread(target=lambda: [log.info("line", n=n) for n in range(5000)], daemon=True))
        assert out.data == b""


def test_what_does_not_fit_is_dropped_counted_and_said() -> None:
    out = Output()
    with writing_to(out, limit=100) as writer:
        out.gate.clear()
        writer.write("a" * 49)
        assert out.entered.wait(PATIENCE)
        # 50 bytes are being written and 50 may wait.
        writer.write("b" * 49)
        for _ in range(7):
            writer.write("c")
    assert [line for line in out.lines if not line.startswith("{")] == ["a" * 49, "b" * 49]
    assert out.dropped == [7]


def test_what_was_dropped_is_said_although_no_other_line_follows() -> None:
    out = Output()
    with writing_to(out, limit=50) as writer:
        out.gate.clear()
        writer.write("a" * 49)
        assert out.entered.wait(PATIENCE)
        writer.write("b")
    assert out.lines[0] == "a" * 49
    assert out.dropped == [1]


def test_a_line_that_is_over_the_limit_by_itself_is_said_to_be_dropped() -> None:
    out = Output()
    with writing_to(out, limit=50) as writer:
        writer.write("a" * 50)
    assert out.dropped == [1]


def test_there_is_room_again_once_the_output_goes_on() -> None:
    out = Output()
    with writing_to(out, limit=100) as writer:
        for _ in range(20):
            out.entered.clear()
            out.gate.clear()
            writer.write("a" * 99)
            assert out.entered.wait(PATIENCE)
            writer.write("dropped")
            out.gate.set()
            wait_for_room(writer)
    assert sum(out.dropped) == 20
    assert out.lines.count("a" * 99) == 20


def wait_for_room(writer: ThreadedWriter) -> None:
    """Wait until nothing is queued."""
    deadline = time.monotonic() + PATIENCE
    while writer._queued:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("closed file")])
def test_a_failed_write_costs_its_lines_and_not_the_writer(error: Exception) -> None:
    out = Output(failures=[error])
    with writing_to(out) as writer:
        writer.write("lost")
        assert out.entered.wait(PATIENCE)
        wait_for_room(writer)
        writer.write("kept")
    assert "kept" in out.lines


def test_lines_that_a_full_disk_lost_are_counted_and_said() -> None:
    out = Output(failures=[OSError(errno.ENOSPC, "No space left on device")])
    with writing_to(out) as writer:
        writer.write("lost")
        assert out.entered.wait(PATIENCE)
        wait_for_room(writer)
        writer.write("kept")
    assert "kept" in out.lines
    assert out.dropped == [1]


def test_what_the_writer_says_itself_names_the_daemon_too() -> None:
    out = Output(failures=[OSError(errno.ENOSPC, "No space left on device")])
    with open_logs("info", "statusd", out) as log:
        log.info("lost")
        assert out.entered.wait(PATIENCE)
        log.info("kept")
    assert out.dropped == [1]
    assert {strictly(line)["daemon"] for line in out.lines} == {"statusd"}


def test_an_output_that_always_fails_does_not_keep_the_writer_busy_or_from_ending() -> None:
    out = Output(failures=[OSError(errno.EPIPE, "Broken pipe")] * 1000)
    writer = ThreadedWriter(out, limit=100)
    for _ in range(3):
        writer.write("lost")
    writer.close(PATIENCE)
    assert not writer._thread.is_alive()
    assert len(list(out.failures)) > 900


def test_closing_waits_for_a_stalled_output_no_longer_than_it_is_told() -> None:
    out = Output()
    out.gate.clear()
    writer = ThreadedWriter(out)
    writer.write("line")
    assert out.entered.wait(PATIENCE)
    assert in_time(threading.Thread(target=writer.close, args=(0.01,), daemon=True))
    assert out.data == b""
    out.gate.set()
    writer.close(PATIENCE)
    assert out.lines == ["line"]


class Counted(io.FileIO):
    """A file that counts the writes that were tried."""

    tries = 0

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of `data`."""
        self.tries += 1
        return super().write(data)


@pytest.mark.sensitive
def test_a_full_pipe_that_does_not_block_is_waited_for_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    # Standard output does not block when another process that shares it made it so.
    rests: list[float] = []
    sleep = time.sleep

    def rest(seconds: float) -> None:
        rests.append(seconds)
        sleep(seconds)

    monkeypatch.setattr("common.logs.time.sleep", rest)
    tried = threading.Event()
    reader, target = os.pipe()
    os.set_blocking(target, False)
    with io.FileIO(reader) as source, Counted(target, "w") as out:
        filled = 0
        while taken := out.write(bytes(4096)):
            filled += taken
        out.tries = 0
        writer = ThreadedWriter(out)
        writer.write("line")
        while out.tries < 5:
            tried.wait(0.01)
        # After each of them.
        assert out.tries - 1 <= len(rests)
        while filled:
            filled -= len(source.read(filled) or b"")
        writer.close(PATIENCE)
        assert source.read(5) == b"line\n"
    assert min(rests) > 0


# -- the process's logger ----------------------------------------------------------------------------------------------


def test_the_logger_writes_to_standard_output_and_all_of_it_before_its_end(capfd: pytest.CaptureFixture[str]) -> None:
    with open_logs("info", "statusd") as log:
        for number in range(1000):
            log.info("line", number=number)
        log.debug("unheard")
    lines = capfd.readouterr().out.split("\n")
    assert lines.pop() == ""
    assert [strictly(line)["number"] for line in lines] == list(range(1000))


def test_the_last_words_of_a_failure_are_written() -> None:
    out = Output()

    def fail(log: Logger) -> None:
        log.error("last words")
        raise RuntimeError

    with pytest.raises(RuntimeError), open_logs("info", "statusd", out) as log:
        fail(log)
    assert strictly(out.lines[0])["msg"] == "last words"
