"""Work in forks of this process: a bound of time for each, and one for all of them.

A fork begins with all that this process has imported and collected, which is what makes a mutant cheap. What it may
take of the processor is the kernel's to bound (a loop without an end); what waits for something that never comes takes
none, and is ended by the clock. Both bounds may be drawn anew for each part of the work (`bound`).
"""

from __future__ import annotations

import math
import os
import resource
import selectors
import signal
import time
import traceback
import warnings
from typing import TYPE_CHECKING, Final, NoReturn

from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_CHUNK: Final = 1 << 16

_BOUNDS: Final = frozenset({signal.SIGXCPU, signal.SIGALRM})
"""By which the kernel ends a fork."""


@frozen
class ForkedWork:
    """What a fork has to do."""

    name: str
    work: Callable[[], str]
    """Called in the fork; what it returns is its answer."""
    processor: float
    """Seconds of the processor's time, after which the fork is ended."""
    seconds: float
    """By the clock, the same."""


@frozen
class ForkEnd:
    """How a fork ended."""

    work: ForkedWork
    answer: str | None
    """None if it ended before it had one."""
    timed_out: bool
    """One of its bounds was reached."""
    trouble: str = ""
    """The traceback of what its work raised."""


def forked(works: Iterable[ForkedWork], at_once: int, deadline: float) -> Iterator[ForkEnd]:
    """Do all this work, and tell of each as it ends. A work is taken from `works` when its fork is about to begin.

    At `deadline` (of `time.monotonic`) none begins any more, and those that run are put down and not told of.
    """
    waiting = iter(works)
    running = _Running()
    try:
        while time.monotonic() < deadline:
            while len(running) < at_once and (work := next(waiting, None)) is not None:
                running.begin(work)
            if not running:
                return
            yield from running.wait(deadline)
    finally:
        running.put_down()


@define(eq=False)
class _Fork:
    work: ForkedWork
    pid: int
    answers: int
    """The reading end of its pipe."""
    until: float
    said: bytearray = field(factory=bytearray)

    def end(self, *, overdue: bool) -> ForkEnd:
        """It has closed its pipe, by which it has ended, or its time is up."""
        os.close(self.answers)
        if overdue:
            os.kill(self.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        said = self.said.decode()
        late = overdue or -code in _BOUNDS
        return ForkEnd(
            self.work, said if code == 0 else None, timed_out=late, trouble=said if code > 0 and not late else ""
        )


@define(eq=False)
class _Running:
    """The forks that have not ended."""

    _forks: list[_Fork] = field(factory=list)

    def __len__(self) -> int:
        return len(self._forks)

    def begin(self, work: ForkedWork) -> None:
        answers, to_parent = os.pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns of a fork beside threads: those that idle here hold nothing that a fork asks for.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _work(work, to_parent)
        os.close(to_parent)
        self._forks.append(_Fork(work, pid, answers, time.monotonic() + work.seconds))

    def wait(self, deadline: float) -> Iterator[ForkEnd]:
        """Until one has said something, or has reached its bound, or the deadline has come."""
        with selectors.DefaultSelector() as selector:
            for fork in self._forks:
                selector.register(fork.answers, selectors.EVENT_READ, fork)
            until = min(deadline, *(fork.until for fork in self._forks))
            ready = [key.data for key, _ in selector.select(max(0.0, until - time.monotonic()))]
        ended = [fork for fork in ready if not _heard(fork)]
        now = time.monotonic()
        for fork in list(self._forks):
            overdue = fork not in ended and now >= fork.until
            if overdue or fork in ended:
                self._forks.remove(fork)
                yield fork.end(overdue=overdue)

    def put_down(self) -> None:
        for fork in self._forks:
            fork.end(overdue=True)
        self._forks.clear()


def _heard(fork: _Fork) -> bool:
    """Whether there was anything but the end."""
    chunk = os.read(fork.answers, _CHUNK)
    fork.said += chunk
    return bool(chunk)


def bound(processor: float, seconds: float) -> None:
    """In a fork: what comes next may take so many seconds of the processor's time, in whole ones, and of the clock."""
    until = math.ceil(time.process_time() + processor)
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _work(work: ForkedWork, to_parent: int) -> NoReturn:
    """In the fork. It ends here, whatever happens: what the parent would do after `fork` is not the fork's."""
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        bound(work.processor, work.seconds)
        try:
            answer, end = work.work(), 0
        except BaseException:  # noqa: BLE001 - it is told to the parent, who has a process of its own to end
            answer, end = traceback.format_exc(), 1
        view = memoryview(answer.encode())
        while view:
            view = view[os.write(to_parent, view) :]
        code = end
    finally:
        os._exit(code)
