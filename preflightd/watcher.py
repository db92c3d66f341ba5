"""One run hash, kept equal to what its clients have been told.

A `Watcher` is the topic of a run's keyspace channel and lives as long (`common.fanout`). Its `run`, a task of the
hub's, reads the hash whenever it may have changed: when the subscription is acknowledged (subscribe first, then read:
nothing in between is lost), at a notification, after an outage, and every RESYNC_INTERVAL. One read is under way at a
time, and what is noted meanwhile is one read more, however often it was noted. One read serves all clients.

Notifications and reads come over different connections. What was noted before the question went out is in its answer,
and only that: the note is taken off when the read is sent (`Link.read`), not before, when it may wait for its turn for
long, nor after.

A resync that finds a change of which nobody has told, and nobody tells for `LATE` more, is counted: notifications are
off, or some are not sent.

A hash that is too large to be read ends its clients, and for `TOO_BIG_PAUSE` also who comes, without another read.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

import trio
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from common.backoff import Backoff
from common.disconnect import REFUSED_BY_REDIS, RUN_TOO_BIG
from common.fanout import Topic
from common.metrics import HashFigures
from common.quote import quote
from common.redis.errors import ProtocolError, ReplyTooLargeError
from common.tracing import NO_TRACES
from common.web.frames import Frames
from preflightd.evaluator import digest
from preflightd.route import run_key

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from common.disconnect import Disconnect
    from common.labels import ReadFailure
    from common.logs import Logger
    from common.metrics import Counters
    from common.tracing import Tracer, TraceSpan
    from common.web.peer import Peer
    from preflightd.checklist import Snapshot
    from preflightd.evaluator import Hash

SETTLE: Final = 0.01
"""Seconds between the end of one read and the next: a hash that is written all the time is read 100 times a second."""

RETRY: Final = Backoff(0.1, 5.0)
"""Delays after a read that failed while the link is up."""


LATE: Final = 1.0
"""Seconds that a notification may take longer than the answer of a read which was sent after the change."""

TOO_BIG_PAUSE: Final = 30.0
"""Seconds before a hash that was too large is tried again, if somebody asks for it: clients may come back all the time,
and Redis has all of such a hash to gather before we can refuse it."""


class Read(Protocol):
    """`Link.read`."""

    def __call__(self, *args: bytes | str | int, sending: Callable[[], None]) -> Awaitable[object]:
        """Ask Redis; `sending` is called when the question goes out."""


class Watcher(Topic):
    """See the module. `resync_interval` is in seconds, 0 for none; `rng` spreads the resyncs of many runs."""

    needs_task = True

    def __init__(
        self,
        channel: bytes,
        *,
        read: Read,
        evaluate: Callable[[Hash], Snapshot],
        push_every_change: bool,
        resync_interval: float,
        rng: random.Random,
        counters: Counters,
        log: Logger,
        tracer: Tracer = NO_TRACES,
    ) -> None:
        super().__init__(channel)
        self._key = run_key(channel)
        self._read = read
        self._evaluate = evaluate
        self._push_every_change = push_every_change
        self._resync_interval = resync_interval
        self._rng = rng
        self._counters = counters
        self._figures = counters.hashes or HashFigures()
        self._log = log
        self._tracer = tracer
        self._changed = trio.Event()
        self._notified_at = math.inf
        """When the first notification came that is in no answer yet."""
        self._awaited_since = math.inf
        """The same of those that are in the answer which is awaited, or was the last."""
        self._resynced = trio.Event()
        self._desertions = 0
        """How often the last client has left."""
        self._desertions_seen = 0
        """The same when the last read was sent; -1 if there was nobody then."""
        self._too_big_until = -math.inf
        self._snapshot: Snapshot | None = None
        self._digest = b""
        """Of the hash that the snapshot is of, where each of its changes is pushed."""
        self._frame = b""
        self._told: set[Peer] = set()
        """Who has got the newest snapshot."""

    async def receive(self, payloads: list[bytes], read_at: float) -> int:
        """See `Topic`. A notification is no message: it says that the hash is to be read, which is for `run`."""
        del payloads
        self._notified_at = min(self._notified_at, read_at)
        self._changed.set()
        return 0

    def resync(self) -> None:
        """What was read before may be out of date, and Redis is there: a read that failed need not wait any longer."""
        self._changed.set()
        self._resynced.set()

    def welcome(self, peer: Peer) -> None:
        """Give a newcomer the newest snapshot at once; if there is none yet, the first read brings it."""
        if trio.current_time() < self._too_big_until:
            peer.end(RUN_TOO_BIG)
        elif self._snapshot is None:
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
            self._notified_at = self._awaited_since = math.inf

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
            untold = not self._changed.is_set()
            if trio.current_time() >= due:
                due = self._next_resync(self._resync_interval)
            self._changed = trio.Event()
            if self.peers:
                changed = await self._refresh()
                await trio.sleep(SETTLE)
                if untold and changed:
                    await self._count_missed(due)

    def _next_resync(self, seconds: float) -> float:
        return trio.current_time() + seconds if self._resync_interval else math.inf

    async def _count_missed(self, due: float) -> None:
        """A resync has found a change: count it unless the notification is only late."""
        with trio.move_on_at(min(due, trio.current_time() + LATE)):
            await self._changed.wait()
        self._figures.missed_changes += not self._changed.is_set()

    async def _refresh(self) -> bool:
        """Read the hash, again and again if need be, and tell who has to know; return whether clients got a change."""
        now = trio.current_time()
        with self._tracer.begin(
            "refresh",
            since=min(self._notified_at, now),
            run_id=self._key.decode("ascii"),
            notified=self._notified_at <= now,
        ) as span:
            changed = await self._follow(span)
            span.note(changed=changed)
        return changed

    async def _follow(self, span: TraceSpan) -> bool:
        """What `_refresh` does, in the span of it."""
        failures = 0
        while self.peers:
            if trio.current_time() < self._too_big_until:
                self.end(RUN_TOO_BIG)
                return False
            self._resynced = trio.Event()
            begun = trio.current_time()
            try:
                with span.child("read"):
                    fields = await self._read("HGETALL", self._key, sending=self._note_sending)
            except ReplyTooLargeError as error:
                self._count_failure("too_big")
                self._log.warning("run hash too big", run_id=self._key.decode("ascii"), limit=error.limit)
                span.fail(str(error))
                self._too_big_until = trio.current_time() + TOO_BIG_PAUSE
                self.end(RUN_TOO_BIG)
                return False
            except RedisError as error:
                if _is_refusal(error):
                    self._count_failure("refused")
                    self._log.warning("run hash refused", run_id=self._key.decode("ascii"), error=quote(str(error)))
                    span.fail(str(error))
                    self.end(REFUSED_BY_REDIS)
                    return False
                failures += 1
                delay = RETRY.after_failure(failures, self._rng)
                # An answer that is wrong will not mend itself; an absence of Redis is logged by the link.
                answered = isinstance(error, ResponseError | ProtocolError)
                self._count_failure("error" if answered else "unavailable")
                log = self._log.warning if answered and failures == 1 else self._log.debug
                log("read failed", run_id=self._key.decode("ascii"), error=quote(str(error)), backoff=round(delay, 3))
                with trio.move_on_after(delay):
                    await self._resynced.wait()
            else:
                if self._figures.reads is not None:
                    self._figures.reads.observe(trio.current_time() - begun)
                # While there was nobody, notifications were nobody's either: what this read has found may be old.
                if self._desertions_seen == self._desertions:
                    return await self._take(fields if isinstance(fields, dict) else {}, span)
        return False

    def _count_failure(self, reason: ReadFailure) -> None:
        self._figures.failures[reason] += 1

    def _note_sending(self) -> None:
        """What was noted until now is in the read that goes out."""
        self._changed = trio.Event()
        # The question may go out twice; then the first answer was none.
        self._awaited_since = min(self._awaited_since, self._notified_at)
        self._notified_at = math.inf
        # By now everybody may have left, and what is notified is nobody's.
        self._desertions_seen = self._desertions if self.peers else -1

    async def _take(self, fields: Hash, span: TraceSpan) -> bool:
        """Tell what the hash has become; return whether clients had been told something else."""
        since, self._awaited_since = min(self._awaited_since, trio.current_time()), math.inf
        with span.child("evaluate", fields=len(fields)):
            snapshot = self._evaluate(fields)
        known = self._snapshot is not None
        unchanged = snapshot == self._snapshot
        if self._push_every_change:
            seen, self._digest = self._digest, digest(fields)
            unchanged = unchanged and seen == self._digest
        if unchanged:
            for peer in [peer for peer in self.peers if peer not in self._told]:
                self._tell(peer)
            return False
        self._snapshot = snapshot
        self._frame = snapshot.frame()
        self._told = set(self.peers)
        with span.child("write", bytes=len(self._frame)) as writing:
            clients = await self.broadcast(Frames(self._frame, 1))
            writing.note(clients=clients)
        self._counters.delivered(clients, since)
        self._log.debug("diff sent", run_id=self._key.decode("ascii"), clients=clients)
        return known

    def _tell(self, peer: Peer) -> None:
        peer.wire.send_nowait(self._frame)
        self._told.add(peer)
        self._counters.delivered(1)


def _is_refusal(error: RedisError) -> bool:
    """Whether asking again can't help: the key is no hash, or not ours to read."""
    return isinstance(error, NoPermissionError) or (
        isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")
    )
