"""A worker's side of the operator's listener: it tells its parent what it is asked for.

`Informant.run` is owned by the worker's outer nursery. `hear` gets the parent's messages:

{"status": n}        the status, once: {"status": n, "worker": {...}}
{"watch": true}      the status now and after every change, {"worker": {...}}, until {"watch": false}
{"snapshot": n}      a snapshot, in pieces: {"snapshot": n, "piece": "<base64>"}, the last one empty
{"clients": n, "channel": "<Redis channel>"}    how many follow it: {"clients": n, "count": ...}

A message is never cut short, since nothing could follow it on the channel: what has been begun is said to its end.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import trio

from common.admin.probe import INTERVAL, Probe, Sampler
from common.config import Settings
from common.workers.channel import Channel, ChannelError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from common.logs import Logger

PIECE: Final = 48 * 1024
"""Bytes of a snapshot in one message: other messages need not wait for the whole of it."""

S = TypeVar("S", bound=Settings)


class Informant(Generic[S]):
    """Answers the parent on `channel` with what `probe` reads."""

    def __init__(self, channel: Channel, probe: Probe[S], log: Logger) -> None:
        self._channel = channel
        self._probe = probe
        self._log = log
        self._nursery: trio.Nursery | None = None
        self._watched = False
        self._watching = False
        self._sampler: Sampler[S] | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the tasks that answer, until cancelled; `started()` when `hear` may be called."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def hear(self, message: Mapping[str, object]) -> None:
        """Answer one message of the parent, if it is about this. Returns at once."""
        if isinstance(number := message.get("status"), int):
            self._start(self._tell_status, number)
        if isinstance(number := message.get("snapshot"), int):
            self._start(self._tell_snapshot, number)
        if isinstance(number := message.get("clients"), int) and isinstance(channel := message.get("channel"), str):
            self._start(self._tell_clients, number, channel)
        if "watch" in message:
            self._watched = message["watch"] is True
            # Whoever begins to watch is told at once, even if nothing changes.
            self._sampler = None
            if self._watched and not self._watching:
                self._watching = True
                self._start(self._tell_changes)

    def _start(self, tell: Callable[..., Awaitable[None]], *args: object) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self._guarded, tell, *args)

    async def _guarded(self, tell: Callable[..., Awaitable[None]], *args: object) -> None:
        try:
            await tell(*args)
        except ChannelError:
            # The end of the parent is noticed where it is heard.
            return
        except Exception:  # noqa: BLE001 - the barrier: a bug in looking must not end those who are looked at
            self._log.exception("operator's question failed")

    async def _tell_status(self, number: int) -> None:
        await self._channel.send({"status": number, "worker": self._probe.status().document()})

    async def _tell_snapshot(self, number: int) -> None:
        data = await self._probe.snapshot()
        for start in range(0, len(data), PIECE):
            piece = base64.b64encode(data[start : start + PIECE]).decode("ascii")
            await self._channel.send({"snapshot": number, "piece": piece})
        await self._channel.send({"snapshot": number, "piece": ""})

    async def _tell_clients(self, number: int, channel: str) -> None:
        await self._channel.send({"clients": number, "count": self._probe.clients(channel.encode())})

    async def _tell_changes(self) -> None:
        try:
            while self._watched:
                if self._sampler is None or self._sampler.changed():
                    if self._sampler is None:
                        self._sampler = Sampler(self._probe)
                    await self._channel.send({"worker": self._sampler.status().document()})
                await trio.sleep(INTERVAL)
        finally:
            self._watching = False
