"""Trio beside a test that is plain code, as Playwright's is: a loop in a thread of its own that keeps processes for it.

`open_stage` owns the thread and everything that the test opens on it, and ends both with its block.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

T = TypeVar("T")

END_TIMEOUT = 60.0
"""Seconds that everything on the stage may take to end."""


class Stage:
    """A running loop; made by `open_stage`."""

    def __init__(self) -> None:
        self._ready: SimpleQueue[None] = SimpleQueue()
        self._kept: list[tuple[trio.Event, trio.Event]] = []
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="stage", daemon=True)
        self._thread.start()
        self._ready.get()

    def call(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """Run the function on the loop, and return what it returns."""
        return trio.from_thread.run(function, *arguments, trio_token=self._token)

    def open(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter the block on the loop; it is left when the stage ends, the last first."""

        async def start() -> T:
            kept = trio.Event(), trio.Event()
            value: T = await self._nursery.start(partial(self._keep, manager, *kept))
            self._kept.append(kept)
            return value

        return self.call(start)

    def close(self) -> None:
        """Leave all blocks, and raise what the first of them raised."""

        async def end() -> None:
            with trio.move_on_after(END_TIMEOUT):
                for leave, left in reversed(self._kept):
                    leave.set()
                    await left.wait()
            self._end.set()

        if self._thread.is_alive():
            self.call(end)
        self._thread.join(END_TIMEOUT)
        assert not self._thread.is_alive(), "the stage did not end"
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        trio.run(self._main)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._end = trio.Event()
        async with trio.open_nursery() as self._nursery:
            self._ready.put(None)
            await self._end.wait()
            self._nursery.cancel_scope.cancel()

    async def _keep(
        self,
        manager: AbstractAsyncContextManager[Any],
        leave: trio.Event,
        left: trio.Event,
        *,
        task_status: trio.TaskStatus[Any],
    ) -> None:
        entered = False
        try:
            async with manager as value:
                entered = True
                task_status.started(value)
                await leave.wait()
        except Exception as error:
            # What fails before it is entered is raised to who opens it.
            if not entered:
                raise
            self._failure = self._failure or error
        finally:
            left.set()


@contextmanager
def open_stage() -> Iterator[Stage]:
    """A loop for the block."""
    stage = Stage()
    try:
        yield stage
    finally:
        stage.close()
