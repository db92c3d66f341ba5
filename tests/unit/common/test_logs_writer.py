"""The writer of log lines, which never keeps its caller waiting, and the process's logger on it."""

from __future__ import annotations

import errno
import io
import math
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from common.logs import CLOSE_TIMEOUT, ThreadedWriter, make_logger, open_logs
from tests.support.log_output import Output, strictly, writing_to
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from common.logs import Logger


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


def test_closing_waits_for_a_writer_that_the_process_had_no_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Output()
    waits: list[float] = []
    out.gate.clear()

    class Halted(threading.Thread):
        """One wait is over before it did anything, since the whole process had no time; in the next it is done."""

        def join(self, timeout: float | None = None) -> None:
            waits.append(timeout or math.inf)
            if len(waits) > 1:
                out.gate.set()
                super().join(PATIENCE)

    monkeypatch.setattr("common.logs.threading.Thread", Halted)
    writer = ThreadedWriter(out)
    writer.write("last")
    writer.close(CLOSE_TIMEOUT)
    assert out.lines == ["last"]
    assert len(waits) == 2
    assert sum(waits) < CLOSE_TIMEOUT


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
