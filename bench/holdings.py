"""What a daemon holds, seen from outside: descriptors and memory by /proc, tasks by its own snapshots."""

from __future__ import annotations

import json
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from tests.support.raw import PATIENCE, fetch

if TYPE_CHECKING:
    from tests.support.raw import Answer

_RATION: Final = 0.5
"""Seconds until a snapshot is asked for again that was refused: they are rationed."""


def open_files(pid: int) -> set[str]:
    """The descriptors of a process, each by its number and by what it leads to."""
    found: set[str] = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(f"{link.name} {link.readlink()}")
    return found


def sockets_to(pid: int, port: int) -> set[str]:
    """Those of them that are connected to this port."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    there = {f"socket:[{row[9]}]" for row in rows if row[2].endswith(f":{port:04X}")}
    return {name for name in open_files(pid) if name.partition(" ")[2] in there}


@attrs.frozen
class Inside:
    """What the workers of a daemon say of themselves, all together."""

    tasks: int
    lost: int
    """Objects that their cyclic collectors found and could not free."""


async def look_inside(admin_port: int, count: int = 1) -> Inside:
    """One snapshot of each worker, of which there are so many at least. Raises OSError if it can't be asked, or there
    are fewer for `PATIENCE` seconds."""
    workers: dict[str, object] = {}
    with trio.move_on_after(PATIENCE) as patience:
        # One that gets no time is not named, unless it was before.
        while len(workers) < count:
            workers = json.loads((await _ask(admin_port, "/workers/status")).body)["workers"]
    if patience.cancelled_caught:
        raise OSError(f"{len(workers)} of {count} workers answer")
    snapshots = [json.loads((await _ask(admin_port, f"/workers/snapshot/{worker}")).body) for worker in workers]
    generations = (generation for snapshot in snapshots for generation in snapshot["collector"]["generations"])
    return Inside(
        tasks=sum(snapshot["scheduler"]["tasks"] for snapshot in snapshots),
        lost=sum(generation["uncollectable"] for generation in generations),
    )


async def _ask(port: int, path: str) -> Answer:
    while (answer := await fetch(port, path, headers={"Host": "localhost"})).status != HTTPStatus.OK:
        if answer.status != HTTPStatus.TOO_MANY_REQUESTS:
            raise OSError(f"{path}: {answer.status}")
        await trio.sleep(_RATION)
    return answer
