"""tools/mutation/forks.py and trial.py: nothing that a mutant does goes on for longer than it may."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

import psutil
import pytest

from tests.support.raw import PATIENCE
from tools.mutation.__main__ import share
from tools.mutation.forks import ForkedWork, bound, forked
from tools.mutation.trial import MutationError, held
from tools.mutation.trials import MutantVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NEVER: Final = 10 * PATIENCE
LARGE: Final = "x" * 1_000_000


def work(name: str, do: Callable[[], str], *, processor: float = NEVER, seconds: float = NEVER) -> ForkedWork:
    """A work that may take what it likes."""
    return ForkedWork(name, do, processor, seconds)


def later() -> float:
    """A deadline that does not come."""
    return time.monotonic() + NEVER


def wait() -> str:
    """What waits for something that never comes."""
    signal.pause()
    return "woken"


def compute() -> str:
    """What has lost its end."""
    while True:
        pass


def raises() -> str:
    """What is told of itself."""
    raise SystemExit("torn")


def is_over(pid: int) -> bool:
    """Whether there is no child of that number any more."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def test_each_fork_tells_its_answer_however_long_it_is() -> None:
    ends = list(forked([work("a", lambda: LARGE), work("b", lambda: "b")], 1, later()))
    assert [(end.work.name, end.answer, end.timed_out, end.trouble) for end in ends] == [
        ("a", LARGE, False, ""),
        ("b", "b", False, ""),
    ]


def test_a_fork_changes_nothing_here() -> None:
    seen: list[int] = []

    def see() -> str:
        seen.append(1)
        return "seen"

    [end] = forked([work("a", see)], 1, later())
    assert (end.answer, seen) == ("seen", [])


def test_what_is_raised_in_a_fork_is_told_with_its_traceback() -> None:
    [end] = forked([work("a", raises)], 1, later())
    assert (end.answer, end.timed_out) == (None, False)
    assert end.trouble.endswith("SystemExit: torn\n")


def test_a_fork_that_dies_has_no_answer() -> None:
    def die() -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return "alive"

    [end] = forked([work("a", die)], 1, later())
    assert (end.answer, end.timed_out, end.trouble) == (None, False, "")


def test_a_fork_that_computes_is_ended_by_the_time_of_the_processor() -> None:
    [end] = forked([work("a", compute, processor=1)], 1, later())
    assert (end.answer, end.timed_out, end.trouble) == (None, True, "")


def test_bounds_are_drawn_anew_for_each_part_of_the_work() -> None:
    def parts() -> str:
        for _ in range(3):
            bound(1, NEVER)
            until = time.process_time() + 0.6
            while time.process_time() < until:
                pass
        return "all"

    def waits_at_last() -> str:
        bound(NEVER, 0.1)
        return wait()

    ends = list(forked([work("a", parts), work("b", waits_at_last)], 1, later()))
    assert [(end.answer, end.timed_out) for end in ends] == [("all", False), (None, True)]


def test_a_fork_that_waits_is_ended_by_the_clock_and_others_go_on() -> None:
    ends = list(forked([work("a", wait, seconds=0.1), work("b", lambda: "b")], 1, later()))
    assert [(end.work.name, end.answer, end.timed_out) for end in ends] == [("a", None, True), ("b", "b", False)]


def test_at_the_deadline_what_runs_is_put_down_and_no_more_begins() -> None:
    begun: list[str] = []

    def works() -> Iterator[ForkedWork]:
        for name in "abc":
            begun.append(name)
            yield work(name, wait)

    others = psutil.Process().children()
    assert list(forked(works(), 2, time.monotonic() + 0.1)) == []
    assert "c" not in begun
    assert psutil.Process().children() == others


def test_nothing_begins_behind_the_deadline() -> None:
    assert list(forked([work("a", lambda: "a")], 1, time.monotonic())) == []


def test_a_work_is_made_when_its_turn_has_come() -> None:
    told: list[str] = []

    def works() -> Iterator[ForkedWork]:
        yield work("a", lambda: "a")
        assert told == ["a"], "by then what the first has told is known"
        yield work("b", lambda: "b")

    told.extend(end.work.name for end in forked(works(), 1, later()))
    assert told == ["a", "b"]


def test_who_leaves_the_loop_leaves_no_fork_behind(tmp_path: Path) -> None:
    note = tmp_path / "pid"

    def note_and_wait() -> str:
        note.write_text(str(os.getpid()))
        return wait()

    ends = forked([work("a", note_and_wait), work("b", lambda: "b")], 2, later())
    assert next(ends).work.name == "b"
    while not (note.exists() and note.read_text()):
        os.sched_yield()
    ends.close()  # type: ignore[attr-defined]
    assert is_over(int(note.read_text()))


SESSION: Final = """
import json, sys
for name in json.load(sys.stdin):
    print(json.dumps([name, "killed"]), flush=True)
"""


def session(code: str) -> list[str]:
    """A session's command."""
    return [sys.executable, "-c", code]


def test_a_session_takes_its_order_and_tells_its_verdicts() -> None:
    assert held(session(SESSION), json.dumps(["a", "b"]), NEVER) == {
        "a": MutantVerdict.KILLED,
        "b": MutantVerdict.KILLED,
    }


def test_a_session_that_fails_is_told_with_its_code() -> None:
    with pytest.raises(MutationError, match=r"^the session ended with 3$"):
        held(session("raise SystemExit(3)"), "", NEVER)


def test_a_session_without_an_end_is_put_down_with_all_that_it_began(tmp_path: Path) -> None:
    note = tmp_path / "pipe"
    os.mkfifo(note)
    reading = os.open(note, os.O_RDONLY | os.O_NONBLOCK)
    code = f"import os, signal; os.open({str(note)!r}, os.O_WRONLY); os.fork(); signal.pause()"
    try:
        with pytest.raises(MutationError, match=r"^no end after 3 seconds$"):
            held(session(code), "", 3.0)
        os.set_blocking(reading, True)
        assert os.read(reading, 1) == b"", "both have closed it, or this waits for ever"
    finally:
        os.close(reading)


def test_what_a_module_does_not_need_is_for_those_that_follow() -> None:
    assert share(3600, 3) == 1200
    assert share(3590, 2) == 1795
    assert share(10, 1) == 10
    assert share(-5, 2) == 0
