"""The tree of Trio's tasks, as values fit for JSON: names, nurseries, and where each task waits.

Taken in steps: `pace` is called for every task, so that its owner can let others run. The tree may change meanwhile;
what is gone by then is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable
    from types import FrameType

SHOWN: Final = 20
"""Siblings with the same name that wait at the same place: so many are shown, and all are counted."""

DEEPEST: Final = 50
"""Nurseries within nurseries that are looked into."""

_UNKNOWN: Final = "unknown"


class TaskTree:
    """Describes tasks; `ours` are the packages in whose frames a reader is interested."""

    def __init__(self, ours: Collection[str], pace: Callable[[], Awaitable[None]]) -> None:
        self._ours = frozenset(ours)
        self._pace = pace

    async def describe(self, task: trio.lowlevel.Task) -> dict[str, object]:
        """`task` and everything below it."""
        return await self._task(task, self.where(task), 0)

    def where(self, task: trio.lowlevel.Task) -> str:
        """Where `task` waits, as `file:line function`: the innermost frame of ours, else the innermost of all."""
        if task is trio.lowlevel.current_task():
            return "here: it takes this snapshot"
        innermost: tuple[FrameType, int] | None = None
        ours = innermost
        try:
            for innermost in task.iter_await_frames():
                if _package(innermost[0]) in self._ours:
                    ours = innermost
        except AttributeError:
            # It has ended, and an older Trio minds.
            return _UNKNOWN
        found = ours or innermost
        return _UNKNOWN if found is None else _place(*found)

    async def _task(self, task: trio.lowlevel.Task, where: str, depth: int) -> dict[str, object]:
        described: dict[str, object] = {"name": task.name, "where": where}
        nurseries = list(task.child_nurseries) if depth < DEEPEST else []
        if nurseries:
            described["nurseries"] = [await self._nursery(nursery.child_tasks, depth + 1) for nursery in nurseries]
        return described

    async def _nursery(self, tasks: Iterable[trio.lowlevel.Task], depth: int) -> list[dict[str, object]]:
        alike: dict[tuple[str, str], list[trio.lowlevel.Task]] = {}
        for task in tasks:
            await self._pace()
            alike.setdefault((task.name, self.where(task)), []).append(task)
        described: list[dict[str, object]] = []
        for (name, where), siblings in sorted(alike.items(), key=lambda item: item[0]):
            described += [await self._task(task, where, depth) for task in siblings[:SHOWN]]
            if len(siblings) > SHOWN:
                described.append({"name": name, "where": where, "shown": SHOWN, "count": len(siblings)})
        return described


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _place(frame: FrameType, line: int) -> str:
    module = str(frame.f_globals.get("__name__", "")).replace(".", "/")
    return f"{module}.py:{line} {frame.f_code.co_qualname}"
