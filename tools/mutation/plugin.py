"""A plugin for pytest, which mutmut runs several times in one process, and in forks of it.

Tests whose name has a backslash in it are left out: pytest escapes the names that are made of parameters once more each
time that it collects them, so that such a test is not found again by the name by which mutmut calls it.

What a function has cached is forgotten, or the mutants of what it called then would not be met.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Final

from tools.mutation.tree import PACKAGES

if TYPE_CHECKING:
    import pytest

_CACHED: Final = type(cache(int))


def pytest_sessionstart() -> None:
    """Forget what functions of the daemons remember of an earlier session."""
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
