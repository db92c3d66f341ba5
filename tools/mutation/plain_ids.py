"""A plugin for pytest: tests whose name has a backslash in it are left out.

mutmut runs pytest several times in one process and calls each test by its name. pytest escapes the names that are made
of parameters once more each time that it collects them, so that such a one is not found again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave them out, and say so as pytest does."""
    left_out = [item for item in items if "\\" in item.nodeid]
    items[:] = [item for item in items if "\\" not in item.nodeid]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
