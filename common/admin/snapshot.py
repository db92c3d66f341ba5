"""Everything about one serving process at one moment: one JSON document, gzipped, for a person who looks for trouble.

It is made while the process serves, so in short steps (`Pace`): each piece is rendered by itself, and what reads files
or compresses does so in a thread. Connections that come or go meanwhile may be missing.
"""

from __future__ import annotations

import json
import math
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

import attrs
import trio

from common.admin import process_stats
from common.admin.tasks import TaskTree
from common.admin.yielding import Pace
from common.config import Settings, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from common.daemon import DaemonService
    from common.fanout import Topic
    from common.redis.links import RedisLink
    from common.telemetry.values import WorkerStatus
    from common.web.peer import Peer

S = TypeVar("S", bound=Settings)
T = TypeVar("T")

PIECE: Final = 16
"""Entries (connections, topics) that are rendered in one go: some tenths of a millisecond."""

LEVEL: Final = 6
"""Of compression."""

_GZIP: Final = zlib.MAX_WBITS | 16


async def take_snapshot(service: DaemonService[S], status: WorkerStatus) -> bytes:
    """The gzipped document. Takes some tenths of a second of a busy process; the caller sets the deadline."""
    pace = Pace()
    pieces = _Pieces(pace)
    pieces.add("time", datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"))
    pieces.add("worker", status.document())
    pieces.add("settings", describe(service.settings))
    pieces.add("link", _link(service.hub.link))
    pieces.add("collector", process_stats.collector())
    await pace()
    statistics = trio.lowlevel.current_statistics()
    pieces.add(
        "scheduler",
        {
            "tasks": statistics.tasks_living,
            "runnable": statistics.tasks_runnable,
            "deadline_in": _finite(statistics.seconds_to_next_deadline),
        },
    )
    root = trio.lowlevel.current_root_task()
    if root is not None:
        tree = TaskTree({"common", status.daemon}, pace)
        pieces.add("tasks", await tree.describe(root))
    await pieces.add_all("topics", list(service.hub.topics), _topic)
    now = trio.current_time()
    await pieces.add_all("connections", list(service.server.peers), lambda peer: _connection(peer, now))
    return await trio.to_thread.run_sync(pieces.finish, abandon_on_cancel=True)


class _Pieces:
    """The document's text, piece by piece."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._pieces: list[str] = []

    def add(self, name: str, value: object) -> None:
        """One field, rendered at once: for small values."""
        self._begin(name)
        self._pieces.append(_render(value))

    async def add_all(self, name: str, entries: Sequence[T], describe: Callable[[T], object]) -> None:
        """One array, in steps."""
        self._begin(name)
        self._pieces.append("[")
        for start in range(0, len(entries), PIECE):
            rendered = _render([describe(entry) for entry in entries[start : start + PIECE]])
            self._pieces.append(("," if start else "") + rendered[1:-1])
            await self._pace()
        self._pieces.append("]")

    def finish(self) -> bytes:
        """The whole, compressed. Not for the loop."""
        self.add("memory", _memory())
        self.add("versions", process_stats.versions())
        # One long call holds the interpreter for itself, many short ones don't.
        compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
        parts = [compressor.compress(piece.encode("utf-8", "backslashreplace")) for piece in [*self._pieces, "}"]]
        return b"".join([*parts, compressor.flush()])

    def _begin(self, name: str) -> None:
        self._pieces.append(f'{"," if self._pieces else "{"}"{name}":')


_render: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def _link(link: RedisLink) -> dict[str, object]:
    state = link.describe()
    return {
        "state": state.state,
        "attempt": state.attempt,
        "seconds": round(trio.current_time() - state.since, 3),
        "url": state.url,
        "subscriptions": state.subscriptions,
        "reconnects": link.reconnects,
        "timeouts": link.timeouts,
        "role_changes": link.role_changes,
        "redirections": link.redirections,
        "nodes": [attrs.asdict(node) for node in state.nodes],
        "remarks": [*state.remarks, *state.details],
    }


def _topic(topic: Topic) -> dict[str, object]:
    return {
        "channel": topic.channel.decode("utf-8", "backslashreplace"),
        "clients": len(topic.peers),
        "kind": type(topic).__name__,
    }


def _connection(peer: Peer, now: float) -> dict[str, object]:
    return {
        **peer.fields,
        "age": round(now - peer.opened_at, 3),
        "silent": round(now - peer.last_seen, 3),
        "backlog": peer.wire.backlog_bytes,
        "frames": peer.wire.frames_sent,
        "ending": None if peer.disconnect is None else peer.disconnect.reason,
    }


def _memory() -> dict[str, object]:
    return {
        "rss": process_stats.resident_bytes(),
        "pss": process_stats.proportional_bytes(),
        "peak_rss": process_stats.peak_bytes(),
    }


def _finite(seconds: float) -> float | None:
    return round(seconds, 6) if math.isfinite(seconds) else None
