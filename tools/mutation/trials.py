"""A plugin of pytest: the tests that were collected against each mutant, in forks of the process that collected them.

First they are run in a fork without a mutant, which tells which functions each test calls and how long it takes. Then a
fork for each mutant, with that one switched on, runs the tests that call its function until one fails: those first that
failed for another mutant of the function, then the quick ones.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections import defaultdict
from enum import Enum
from functools import cache, partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

import pytest
from attrs import define, field, frozen
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state

from tools.mutation.forks import ForkedWork, bound, forked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tools.mutation.forks import ForkEnd

_PACKAGES: Final = frozenset({"common", "opsd", "preflightd", "statusd"})

_PROCESSOR: Final = 2.0
_TIMES: Final = 4.0
"""A test may take this many times the processor's time that it takes without a mutant, and these seconds beside. So a
busy machine ends nobody's tests."""
_CLOCK: Final = 20.0
_CLOCK_TIMES: Final = 20.0
"""The same of the clock, which goes on while others have the processor. It ends what waits for ever."""

_CACHED: Final = type(cache(int))


class MutantVerdict(Enum):
    """What became of a mutant."""

    KILLED = "killed"
    """A test failed, or the interpreter died."""
    TIMED_OUT = "timed out"
    """The tests did not come to an end: noticed as well."""
    SURVIVED = "survived"
    """All tests that call its function passed, or there are none."""


@frozen
class _Measured:
    """A test, without a mutant."""

    item: pytest.Item
    calls: frozenset[str]
    """The functions of the module, as mutmut names them."""
    processor: float
    clock: float

    @property
    def may_take(self) -> float:
        """Seconds of the processor's, with a mutant."""
        return _PROCESSOR + _TIMES * self.processor

    @property
    def may_last(self) -> float:
        """The same of the clock."""
        return _CLOCK + _CLOCK_TIMES * self.clock


@define(eq=False)
class Trials:
    """For one session of pytest."""

    _names: Sequence[str]
    """Of the mutants, in the order in which they are tried."""
    _jobs: int
    _deadline: float
    """Of `time.monotonic`."""
    _tell: Callable[[str, str], None]
    """Called with each mutant's name and the value of its verdict."""
    _failure: str | None = None
    """What the tests of this process have said of the first one that failed."""
    _killers: dict[str, list[int]] = field(factory=lambda: defaultdict(list))
    """Of each function the tests that failed for one of its mutants, the last one first."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """In place of pytest's loop, which comes next if this is None: it says what could not be collected."""
        if session.testsfailed:
            return None
        gc.collect()
        gc.freeze()  # or each fork would copy the pages of every object when it collects
        tests = self._measured(session.items)
        for end in forked(self._works(tests), self._jobs, self._deadline):
            self._tell(end.work.name, self._verdict(end).value)
        return True

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test has been set up, run or torn down."""
        if report.failed and self._failure is None:
            self._failure = f"{report.nodeid}:\n{report.longreprtext}"

    def _measured(self, items: Sequence[pytest.Item]) -> list[_Measured]:
        measure = ForkedWork("no mutant", partial(self._measure, items), processor=3600, seconds=3600)
        for end in forked([measure], 1, self._deadline):
            if end.answer is None:
                raise pytest.UsageError(f"without a mutant: {end.trouble or 'no end'}")
            return [
                _Measured(item, frozenset(calls), processor, clock)
                for item, (calls, processor, clock) in zip(items, json.loads(end.answer), strict=True)
            ]
        raise pytest.UsageError("the tests without a mutant took longer than there was time for all")

    def _measure(self, items: Sequence[pytest.Item]) -> str:
        """In a fork: of each test what it calls, and its seconds of the processor and the clock."""
        self._switch("stats")
        told: list[tuple[list[str], float, float]] = []
        hits: set[str] = state()._stats  # noqa: SLF001 - where mutmut's switches note who came by
        for item, following in _pairs(items):
            processor, clock = time.process_time(), time.monotonic()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._failure is not None:
                raise AssertionError(self._failure)
            told.append((sorted(hits), time.process_time() - processor, time.monotonic() - clock))
            hits.clear()
        return json.dumps(told)

    def _works(self, tests: Sequence[_Measured]) -> Iterator[ForkedWork]:
        """A work for each mutant, made when its turn has come: others may have told with which tests to begin."""
        for name in self._names:
            function = _function(name)
            calling = [number for number, test in enumerate(tests) if function in test.calls]
            calling.sort(key=lambda number: tests[number].processor)
            killers = [number for number in self._killers[function] if number in calling]
            order = [*killers, *(number for number in calling if number not in killers)]
            bounds = [(tests[number].may_take, tests[number].may_last) for number in order]
            yield ForkedWork(
                name,
                partial(self._try, name, [(number, tests[number]) for number in order]),
                processor=sum(processor for processor, _ in bounds) + _PROCESSOR,
                seconds=sum(seconds for _, seconds in bounds) + _CLOCK,
            )

    def _try(self, name: str, tests: Sequence[tuple[int, _Measured]]) -> str:
        """In a fork: the number of the first test that fails, as JSON, or null."""
        self._switch(name)
        for (number, test), following in _pairs(tests):
            bound(test.may_take, test.may_last)
            try:
                test.item.config.hook.pytest_runtest_protocol(item=test.item, nextitem=following and following[1].item)
            except BaseException:  # noqa: BLE001 - a mutant may raise what pytest lets through: that is a failure
                return json.dumps(number)
            if self._failure is not None:
                return json.dumps(number)
        return json.dumps(None)

    def _switch(self, name: str) -> None:
        """Switch this mutant on, in this process, and forget what functions have cached."""
        for module_name, module in list(sys.modules.items()):
            if module_name.partition(".")[0] in _PACKAGES:
                for value in vars(module).values():
                    if isinstance(value, _CACHED):
                        value.cache_clear()
        set_mutant_under_test(name)

    def _verdict(self, end: ForkEnd) -> MutantVerdict:
        if end.timed_out:
            return MutantVerdict.TIMED_OUT
        if end.trouble:
            raise pytest.UsageError(f"{end.work.name}: {end.trouble}")
        if end.answer is None:
            return MutantVerdict.KILLED
        killer = json.loads(end.answer)
        if killer is None:
            return MutantVerdict.SURVIVED
        killers = self._killers[_function(end.work.name)]
        if killer in killers:
            killers.remove(killer)
        killers.insert(0, killer)
        return MutantVerdict.KILLED


def _function(mutant: str) -> str:
    return mutant.rpartition("__mutmut_")[0]


def _pairs(items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Each with the one after it."""
    return zip_longest(items, items[1:])
