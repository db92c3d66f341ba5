"""A plugin for pytest, which mutmut runs several times in one process, and in forks of it.

Tests whose name has a backslash in it are left out: pytest escapes the names that are made of parameters once more each
time that it collects them, so that such a test is not found again by the name by which mutmut calls it.

A mutant that computes without end is ended by the processor's time, not by the clock: the machine may be busy.

What a function has cached is forgotten, or the mutants of what it called then would not be met.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from functools import cache
from typing import TYPE_CHECKING, Final

from tools.mutation.tree import PACKAGES

if TYPE_CHECKING:
    import pytest

SECONDS: Final = 30
"""Of the processor's, for the tests of one mutant. The slowest module's take half of it unmutated."""

_CACHED: Final = type(cache(int))


def pytest_sessionstart() -> None:
    """Bound a mutant's session, and forget what functions of the daemons remember of an earlier one."""
    if "__mutmut_" in os.environ.get("MUTANT_UNDER_TEST", ""):
        end = int(time.process_time()) + SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (end, end + 1))
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in PACKAGES:
            for value in vars(module).values():
                if isinstance(value, _CACHED):
                    value.cache_clear()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what can't be called by name, and say so as pytest does."""
    left_out = [item for item in items if "\\" in item.nodeid]
    items[:] = [item for item in items if "\\" not in item.nodeid]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
