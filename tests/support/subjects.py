"""The two daemons that serve clients, for tests that hold for both: a path, a greeting, and how a run changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from preflightd.daemon import PREFLIGHTD
from preflightd.watcher import SETTLE
from statusd.daemon import STATUSD

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.daemon import Daemon
    from tests.support.scripted_redis import ScriptedRedis


@attrs.frozen
class Subject:
    """A daemon; `greeting` is how many messages it begins a conversation with.

    `change` makes a change of the run `run` in Redis, of which every client of `path` gets one message that holds the
    number, at most `delay` seconds later.
    """

    daemon: Daemon[Any]
    path: str
    channel: bytes
    greeting: int
    change: Callable[[ScriptedRedis, int], None]
    delay: float

    @property
    def name(self) -> str:
        """What the daemon is called."""
        return self.daemon.name


def _publish(redis: ScriptedRedis, number: int) -> None:
    redis.publish(b"run:log", b"%d" % number)


def _write(redis: ScriptedRedis, number: int) -> None:
    redis.hashes[b"run"] = {b"last_modified": b"%d" % number}
    redis.publish(b"__keyspace@0__:run", b"hset")


SUBJECTS: Final = (
    Subject(STATUSD, "/run:log", b"run:log", 0, _publish, 0.0),
    Subject(PREFLIGHTD, "/run", b"__keyspace@0__:run", 1, _write, SETTLE),
)
