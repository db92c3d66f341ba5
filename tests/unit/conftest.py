"""A unit test has no real time: its loop's clock is trio's `MockClock`, which jumps when nobody has anything to do.

So no deadline, of a daemon or of a test, passes because the machine stood still: while a task can run, no time passes.
What waits for the kernel has the mark `real_time`: such a clock would jump beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import pytest
import trio
from trio.testing import MockClock

from common import logs
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

T = TypeVar("T")

_HERE: Final = Path(__file__).parent


def run_without_time(
    run: Callable[[], Awaitable[T]], *, clock: trio.abc.Clock | None, instruments: Sequence[trio.abc.Instrument]
) -> T:
    """`trio.run` for a test that may have asked for a clock by name."""
    return trio.run(run, clock=clock or MockClock(autojump_threshold=0), instruments=instruments)


@pytest.hookimpl(trylast=True)  # when pytest-trio has marked what is async
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test of this directory its clock; pytest-trio takes the first runner that is named."""
    for item in items:
        asynchronous = item.get_closest_marker("trio") is not None
        if item.path.is_relative_to(_HERE) and asynchronous and item.get_closest_marker("real_time") is None:
            item.add_marker(pytest.mark.trio(run=run_without_time), append=False)


@pytest.fixture(scope="session", autouse=True)
def _logs_to_their_end() -> Iterator[None]:
    """What a test has logged is there when its log has been closed, however long the writer's thread had no turn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "CLOSE_TIMEOUT", PATIENCE)
        yield
