"""One run hash, kept equal to what its clients have been told.

A `Watcher` is the topic of a run's keyspace channel and lives as long (`common.fanout`). Its `run`, a task of the
hub's, reads the hash whenever it may have changed: when the subscription is acknowledged (subscribe first, then read:
nothing in between is lost), at a notification, after an outage, and every RESYNC_INTERVAL. One read is under way at a
time, and what is noted meanwhile is one read more, however often it was noted. One read serves all clients.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

import trio
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from common.backoff import Backoff
from common.fanout import NO_FRAMES, Topic
from common.web.disconnect import REFUSED_BY_REDIS
from common.web.frames import Frames
from preflightd.checklist import Snapshot, evaluate
from preflightd.route import run_key

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable

    from common.logs import Logger
    from common.metrics import Counters
    from common.web.disconnect import Disconnect
    from common.web.peer import Peer

SETTLE: Final = 0.01
"""Seconds between the end of one read and the next: a hash that is written all the time is read 100 times a second."""

RETRY: Final = Backoff(0.1, 5.0)
"""Delays after a read that failed while the link is up."""


class Request(Protocol):
    """`Link.request`."""

    def __call__(self, *args: bytes | str | int) -> Awaitable[object]:
        """Ask Redis."""


class Watcher(Topic):
    """See the module. `resync_interval` is in seconds, 0 for none; `rng` spreads the resyncs of many runs."""

    needs_task = True

    def __init__(
        self,
        channel: bytes,
        *,
        request: Request,
        resync_interval: float,
        rng: random.Random,
        counters: Counters,
        log: Logger,
    ) -> None:
        super().__init__(channel)
        self._key = run_key(channel)
        self._request = request
        self._resync_interval = resync_interval
        self._rng = rng
        self._counters = counters
        self._log = log
        self._changed = trio.Event()
        self._resynced = trio.Event()
        self._desertions = 0
        """How often the last client has left."""
        self._snapshot: Snapshot | None = None
        self._frame = b""
        self._told: set[Peer] = set()
        """Who has got the newest snapshot."""

    def encode(self, payloads: list[bytes]) -> Frames:
        """A notification is no message: it says that the hash is to be read."""
        del payloads
        self._changed.set()
        return NO_FRAMES

    def resync(self) -> None:
        """What was read before may be out of date, and Redis is there: a read that failed need not wait any longer."""
        self._changed.set()
        self._resynced.set()

    def welcome(self, peer: Peer) -> None:
        """Give a newcomer the newest snapshot at once; if there is none yet, the first read brings it."""
        if self._snapshot is None:
            self._changed.set()
        elif peer not in self._told:
            self._tell(peer)

    def discard(self, peer: Peer) -> None:
        """Let `peer` go. With the last one goes the snapshot: nobody keeps it true any more."""
        super().discard(peer)
        self._told.discard(peer)
        if not self.peers:
            self._snapshot = None
            self._desertions += 1

    def end(self, disconnect: Disconnect) -> None:
        """End every client's conversation."""
        super().end(disconnect)
        self._snapshot = None

    async def run(self) -> None:
        """Keep the snapshot true while there are clients, until cancelled."""
        # The first resync falls anywhere in the interval, so that many runs don't resync in one instant.
        due = self._next_resync(self._rng.uniform(0, self._resync_interval))
        while True:
            with trio.move_on_at(due):
                await self._changed.wait()
            if trio.current_time() >= due:
                due = self._next_resync(self._resync_interval)
            self._changed = trio.Event()
            if self.peers:
                await self._refresh()
                await trio.sleep(SETTLE)

    def _next_resync(self, seconds: float) -> float:
        return trio.current_time() + seconds if self._resync_interval else math.inf

    async def _refresh(self) -> None:
        """Read the hash, again and again if need be, and tell who has to know."""
        failures = 0
        while self.peers:
            # What was noted before a read begins is in it.
            self._changed = trio.Event()
            self._resynced = trio.Event()
            desertions = self._desertions
            try:
                fields = await self._request("HGETALL", self._key)
            except RedisError as error:
                if _is_refusal(error):
                    self._log.warning("run hash refused", run_id=self._key.decode("ascii"), error=str(error))
                    self.end(REFUSED_BY_REDIS)
                    return
                failures += 1
                delay = RETRY.after_failure(failures, self._rng)
                # An answer that is an error will not mend itself; an absence of Redis is logged by the link.
                log = self._log.warning if isinstance(error, ResponseError) and failures == 1 else self._log.debug
                log("read failed", run_id=self._key.decode("ascii"), error=str(error), backoff=round(delay, 3))
                with trio.move_on_after(delay):
                    await self._resynced.wait()
            else:
                # While there was nobody, notifications were nobody's either: what this read has found may be old.
                if desertions == self._desertions:
                    await self._take(evaluate(fields if isinstance(fields, dict) else {}))
                    return

    async def _take(self, snapshot: Snapshot) -> None:
        if snapshot == self._snapshot:
            for peer in [peer for peer in self.peers if peer not in self._told]:
                self._tell(peer)
            return
        read_at = trio.current_time()
        self._snapshot = snapshot
        self._frame = snapshot.frame()
        self._told = set(self.peers)
        clients = await self.broadcast(Frames(self._frame, 1))
        self._counters.messages_sent += clients
        if self._counters.delivery is not None:
            self._counters.delivery.observe(trio.current_time() - read_at)
        self._log.debug("diff sent", run_id=self._key.decode("ascii"), clients=clients)

    def _tell(self, peer: Peer) -> None:
        peer.wire.send_nowait(self._frame)
        self._told.add(peer)
        self._counters.messages_sent += 1


def _is_refusal(error: RedisError) -> bool:
    """Whether asking again can't help: the key is no hash, or not ours to read."""
    return isinstance(error, NoPermissionError) or (
        isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")
    )
