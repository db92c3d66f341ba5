"""All workers of a daemon, as their parent knows them (`Source`).

The supervisor says who comes, speaks and goes (`WorkerObserver`); nothing is asked of the workers until somebody asks
here. Each worker has a task, owned by the supervisor's nursery for it, that sends what is to be sent: a question whose
asker has gone away must not be cut off in the middle of a message.
"""

from __future__ import annotations

import base64
import itertools
from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.admin.source import SNAPSHOT_TIMEOUT, About, SilentWorkerError, UnknownWorkerError
from common.telemetry.values import Audience, DaemonStatus, Retired, WorkerStatus
from common.workers.channel import Channel, ChannelError

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUS_TIMEOUT: Final = 1.0
"""Seconds that a worker has to say how it is, or how many clients a channel has there; of one that does not say how it
is, what it said before is told, as not ready."""

QUEUE: Final = 256
"""Messages that may wait for a worker that takes none; further questions to it are not asked."""

SNAPSHOT_LIMIT: Final = 256 << 20
"""Bytes of a compressed snapshot."""


@attrs.define(eq=False)
class _Member:
    """One worker."""

    ask: trio.MemorySendChannel[dict[str, object]]
    status: WorkerStatus | None = None
    """The last that it said."""
    statuses: dict[int, trio.Event] = attrs.field(factory=dict)
    snapshots: dict[int, _Snapshot] = attrs.field(factory=dict)
    counts: dict[int, _Count] = attrs.field(factory=dict)

    def say(self, message: dict[str, object]) -> None:
        """Send a message to it, if it still takes any."""
        try:
            self.ask.send_nowait(message)
        except (trio.WouldBlock, trio.BrokenResourceError):
            # Whoever waits for its answer has a deadline.
            return


@attrs.define(eq=False)
class _Snapshot:
    """A snapshot on its way."""

    data: bytearray = attrs.field(factory=bytearray)
    ended: trio.Event = attrs.field(factory=trio.Event)
    whole: bool = False


@attrs.define(eq=False)
class _Count:
    """A number of clients on its way; None until it is there."""

    clients: int | None = None
    ended: trio.Event = attrs.field(factory=trio.Event)

    def end(self, clients: int) -> None:
        """It is there."""
        self.clients = clients
        self.ended.set()


class Roster:
    """See the module. A worker's id is its number, as the supervisor counts: from 1."""

    def __init__(self, about: About) -> None:
        self._about = about
        self._members: dict[int, _Member] = {}
        self._retired = Retired()
        self._draining = False
        self._watching = False
        self._changed = trio.Event()
        self._numbers = itertools.count()

    # -- what the supervisor says -------------------------------------------------------------------------------------

    def joined(self, number: int, channel: Channel, nursery: trio.Nursery) -> None:
        """A worker has been started; `nursery` lives as long as it."""
        ask, asked = trio.open_memory_channel[dict[str, object]](QUEUE)
        member = self._members[number] = _Member(ask)
        nursery.start_soon(_speak, channel, asked)
        if self._watching:
            member.say({"watch": True})

    def heard(self, number: int, message: Mapping[str, object]) -> None:
        """A worker has said something, maybe to us. Raises ValueError for nonsense."""
        member = self._members.get(number)
        if member is None:
            return
        if "worker" in message:
            status = WorkerStatus.read(message["worker"], "worker")
            if status.id != str(number):
                raise ValueError("a status of another worker")
            member.status = status
            asked = message.get("status")
            if isinstance(asked, int) and asked in member.statuses:
                member.statuses[asked].set()
            elif asked is None:
                self._note_change()
        if isinstance(asked := message.get("snapshot"), int) and asked in member.snapshots:
            _take_piece(member.snapshots[asked], message.get("piece"))
        if isinstance(asked := message.get("clients"), int) and asked in member.counts:
            member.counts[asked].end(_number(message.get("count")))

    def left(self, number: int) -> None:
        """A worker has ended. What it counted, as far as we know, stays in the sums."""
        member = self._members.pop(number, None)
        if member is None:
            return
        if member.status is not None:
            self._retired = self._retired.plus(member.status)
        for waiting in member.statuses.values():
            waiting.set()
        for snapshot in member.snapshots.values():
            snapshot.ended.set()
        for count in member.counts.values():
            # Its clients have gone with it.
            count.end(0)
        self._note_change()

    def end_began(self) -> None:
        """The daemon is on its way out."""
        self._draining = True
        self._note_change()

    # -- what the listener asks ---------------------------------------------------------------------------------------

    @property
    def about(self) -> About:
        """See `Source`."""
        return self._about

    async def status(self) -> DaemonStatus:
        """See `Source`."""
        number = next(self._numbers)
        members = dict(self._members)
        for member in members.values():
            member.statuses[number] = trio.Event()
            member.say({"status": number})
        try:
            with trio.move_on_after(STATUS_TIMEOUT):
                for member in members.values():
                    await member.statuses[number].wait()
            silent = {key for key, member in members.items() if not member.statuses[number].is_set()}
        finally:
            for member in members.values():
                del member.statuses[number]
        return self._status(silent)

    def newest(self) -> DaemonStatus:
        """See `Source`."""
        return self._status(frozenset())

    def start_watching(self) -> None:
        """See `Source`."""
        self._watching = True
        self._changed = trio.Event()
        self._tell_watching()

    def stop_watching(self) -> None:
        """See `Source`."""
        self._watching = False
        self._tell_watching()

    async def wait_changed(self) -> None:
        """See `Source`."""
        await self._changed.wait()
        self._changed = trio.Event()

    async def snapshot(self, worker_id: str) -> bytes:
        """See `Source`."""
        member = self._members.get(int(worker_id)) if worker_id.isascii() and worker_id.isdecimal() else None
        if member is None or worker_id.startswith("0"):
            raise UnknownWorkerError
        number = next(self._numbers)
        snapshot = member.snapshots[number] = _Snapshot()
        member.say({"snapshot": number})
        try:
            with trio.move_on_after(SNAPSHOT_TIMEOUT):
                await snapshot.ended.wait()
        finally:
            del member.snapshots[number]
        if not snapshot.whole:
            raise SilentWorkerError
        return bytes(snapshot.data)

    async def audience(self, channel: bytes) -> Audience:
        """See `Source`."""
        number = next(self._numbers)
        members = dict(self._members)
        counts = {key: _Count() for key in members}
        for key, member in members.items():
            member.counts[number] = counts[key]
            member.say({"clients": number, "channel": channel.decode()})
        try:
            with trio.move_on_after(STATUS_TIMEOUT):
                for count in counts.values():
                    await count.ended.wait()
        finally:
            for member in members.values():
                del member.counts[number]
        silent = [str(key) for key, count in sorted(counts.items()) if count.clients is None]
        return Audience(sum(count.clients or 0 for count in counts.values()), tuple(silent))

    def _status(self, silent: set[int] | frozenset[int]) -> DaemonStatus:
        workers = [
            attrs.evolve(member.status, ready=False) if number in silent else member.status
            for number, member in sorted(self._members.items())
            if member.status is not None
        ]
        about = self._about
        return DaemonStatus(
            daemon=about.daemon,
            routes=about.routes,
            draining=self._draining,
            workers=tuple(workers),
            retired=self._retired,
        )

    def _tell_watching(self) -> None:
        for member in self._members.values():
            member.say({"watch": self._watching})

    def _note_change(self) -> None:
        self._changed.set()


async def _speak(channel: Channel, asked: trio.MemoryReceiveChannel[dict[str, object]]) -> None:
    async with asked:
        async for message in asked:
            try:
                await channel.send(message)
            except ChannelError:
                # Its end is noticed where its process is waited for.
                return


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a number of clients that is none")
    return value


def _take_piece(snapshot: _Snapshot, piece: object) -> None:
    if not isinstance(piece, str):
        raise ValueError("a snapshot without a piece")  # noqa: TRY004 - nonsense on the channel is a ValueError
    if not piece:
        snapshot.whole = True
        snapshot.ended.set()
        return
    snapshot.data += base64.b64decode(piece, validate=True)
    if len(snapshot.data) > SNAPSHOT_LIMIT:
        raise ValueError("a snapshot that does not end")
