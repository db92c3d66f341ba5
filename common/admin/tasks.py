"""The tree of Trio's tasks, as values fit for JSON: names, nurseries, and where each task waits.

Taken in steps: `pace` is awaited for every task, so that its owner can let others run. The tree may change meanwhile;
what is gone by then is left out.

Of a crowd of tasks in the same function only some are looked at closely. Whoever asks a coroutine for its frame makes
an object that lives as long as the coroutine: for all frames of thousands of clients that would be 2 KB a client, for
good. Their code can be had for nothing.
"""

from __future__ import annotations

import gc
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
    from types import CodeType, FrameType
    from typing import TypeAlias

    _Call: TypeAlias = (
        CoroutineType[object, object, object]
        | GeneratorType[object, object, object]
        | AsyncGeneratorType[object, object]
    )
    """A function's call that waits."""

SHOWN: Final = 20
"""Siblings with the same name that wait in the same function: so many are shown, and all are counted."""

DEEPEST: Final = 50
"""Nurseries within nurseries that are looked into."""

UNKNOWN: Final = "unknown"
"""Where a task waits that has ended by now."""

_STEPS_OF_GENERATORS: Final = {"async_generator_asend", "async_generator_athrow"}


class TaskTree:
    """Describes tasks; `ours` are the packages in whose functions a reader is interested."""

    def __init__(self, ours: Collection[str], pace: Callable[[], Awaitable[None]]) -> None:
        self._ours = frozenset(ours)
        self._pace = pace
        self._modules: dict[CodeType, str] = {}

    async def describe(self, task: trio.lowlevel.Task) -> dict[str, object]:
        """`task` and everything below it."""
        return await self._task(task, 0)

    def where(self, task: trio.lowlevel.Task) -> str:
        """Where `task` waits, as `file:line function`: the innermost call of ours, else the innermost of all."""
        if task is trio.lowlevel.current_task():
            return "here: it takes this snapshot"
        call = self._innermost(task)
        frame = None if call is None else _frame(call)
        if frame is None:
            return UNKNOWN
        return f"{self._file(frame.f_code)}:{frame.f_lineno} {frame.f_code.co_qualname}"

    async def _task(self, task: trio.lowlevel.Task, depth: int) -> dict[str, object]:
        described: dict[str, object] = {"name": task.name, "where": self.where(task)}
        nurseries = list(task.child_nurseries) if depth < DEEPEST else []
        if nurseries:
            described["nurseries"] = [await self._nursery(nursery.child_tasks, depth + 1) for nursery in nurseries]
        return described

    async def _nursery(self, tasks: Iterable[trio.lowlevel.Task], depth: int) -> list[dict[str, object]]:
        alike: dict[tuple[str, str], list[trio.lowlevel.Task]] = {}
        for task in tasks:
            await self._pace()
            call = self._innermost(task)
            if call is not None:
                alike.setdefault((task.name, self._function(call)), []).append(task)
        described: list[dict[str, object]] = []
        for (name, function), siblings in sorted(alike.items(), key=lambda item: item[0]):
            shown = 0
            for task in siblings:
                if shown == SHOWN:
                    break
                await self._pace()
                if self._innermost(task) is not None:
                    described.append(await self._task(task, depth))
                    shown += 1
            if len(siblings) > SHOWN:
                described.append({"name": name, "where": function, "shown": shown, "count": len(siblings)})
        return described

    def _function(self, call: _Call) -> str:
        code = _code(call)
        return f"{self._file(code)} {code.co_qualname}"

    def _innermost(self, task: trio.lowlevel.Task) -> _Call | None:
        innermost: _Call | None = None
        ours = innermost
        for innermost in _calls(task):
            if self._module(innermost).partition(".")[0] in self._ours:
                ours = innermost
        return ours or innermost

    def _module(self, call: _Call) -> str:
        code = _code(call)
        module = self._modules.get(code)
        if module is None:
            frame = _frame(call)
            module = "" if frame is None else str(frame.f_globals.get("__name__", ""))
            self._modules[code] = module
        return module

    def _file(self, code: CodeType) -> str:
        return f"{self._modules[code].replace('.', '/')}.py"


def _calls(task: trio.lowlevel.Task) -> Iterator[_Call]:
    """The calls that `task` is in, outermost first; none when it has ended."""
    inner: object = task.coro
    while True:
        if isinstance(inner, CoroutineType):
            # One that is not suspended runs, is still to begin, or has ended: only then there is no frame.
            if not inner.cr_suspended and inner.cr_frame is None:
                return
            yield inner
            inner = inner.cr_await
        elif isinstance(inner, GeneratorType):
            yield inner
            inner = inner.gi_yieldfrom
        elif isinstance(inner, AsyncGeneratorType):
            yield inner
            inner = inner.ag_await
        elif type(inner).__name__ in _STEPS_OF_GENERATORS:
            # It does not say whose step it is.
            inner = next((found for found in gc.get_referents(inner) if isinstance(found, AsyncGeneratorType)), None)
        else:
            return


def _code(call: _Call) -> CodeType:
    if isinstance(call, CoroutineType):
        return call.cr_code
    return call.gi_code if isinstance(call, GeneratorType) else call.ag_code


def _frame(call: _Call) -> FrameType | None:
    if isinstance(call, CoroutineType):
        return call.cr_frame
    return call.gi_frame if isinstance(call, GeneratorType) else call.ag_frame
