"""What a parent and its workers ask each other, and what a worker is ordered.

READY and SERVING are answered when the answer is another than the one that the asker knows, CHANGE when the status is
another than that of the version that it knows; None knows nothing, and is answered at once. They wait as long as the
other side lives: BEAT tells whether a worker does, the end of the channel whether the parent does.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import trio

from common.exposition import from_json
from common.telemetry.fields import GarbageError, as_count, as_flag
from common.telemetry.values import WorkerStatus
from common.workers.channel import Question


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise GarbageError("no bytes")
    return value


DRAIN: Final = "drain"
AT_ONCE: Final = "at once"
"""The orders: how to end."""

FIGURES: Final = Question("figures", from_json)
"""For a scrape: of a worker its own, of the parent those of all."""

SERVING: Final = Question("serving", partial(as_flag, where="serving"))
"""Of the parent: whether the daemon as a whole takes clients."""

BEAT: Final = Question("beat", lambda _: None)
"""Of a worker, like all that follow: whether its loop turns."""

READY: Final = Question("ready", partial(as_flag, where="ready"))
SNAPSHOT: Final = Question("snapshot", _bytes)
CLIENTS: Final = Question("clients", partial(as_count, where="clients"))
"""How many follow a Redis channel."""

STATUS: Final = "status"
CHANGE: Final = "change"


def status_of(number: int) -> Question[WorkerStatus]:
    """STATUS, of the worker of that number."""
    return Question(STATUS, partial(_status, number))


def change_of(number: int) -> Question[tuple[int, WorkerStatus]]:
    """CHANGE, of the worker of that number: the version, and the status."""
    return Question(CHANGE, partial(_change, number))


class Standing:
    """Whether something is so, for those who want to hear when it is not as they know it."""

    def __init__(self) -> None:
        self._so = False
        self._changed = trio.Event()

    def set(self, so: bool) -> None:
        """It is so, or it is not."""
        if so is not self._so:
            self._so = so
            self._changed.set()
            self._changed = trio.Event()

    async def unlike(self, known: object) -> bool:
        """Whether it is so, as soon as that is not what is `known`."""
        while self._so is known:
            await self._changed.wait()
        return self._so


def _status(number: int, value: object) -> WorkerStatus:
    status = WorkerStatus.read(value, "worker")
    if status.id != str(number):
        raise GarbageError("a status of another worker")
    return status


def _change(number: int, value: object) -> tuple[int, WorkerStatus]:
    match value:
        case [int(version), status]:
            return version, _status(number, status)
        case _:
            raise GarbageError("a change of no version")
