"""A worker's side of the channel to its parent.

`Member.run` is owned by the worker's outer nursery. It ends when the parent is gone, and then sets `orphaned`: a worker
without a parent drains and goes, like one that was told to.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import trio

from common.exposition import Report, from_json, merge, to_json
from common.fleet import FleetError
from common.workers.channel import Channel, ChannelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REPORT_TIMEOUT: Final = 2.0
"""Seconds in which the parent must have answered with everybody's figures."""


DRAIN: Final = "drain"
AT_ONCE: Final = "at once"
"""How the parent tells a worker to end, in `{"end": …}`."""


class Member:
    """One of several workers (`Fleet`). `own_report` reads this process."""

    def __init__(self, channel: Channel, own_report: Callable[[], Report]) -> None:
        self._channel = channel
        self._own_report = own_report
        self._all_ready = False
        self._numbers = itertools.count()
        self._waiting: dict[int, _Answer] = {}
        self.introduced = trio.Event()
        """Set when the parent has said for the first time whether the daemon is ready."""
        self.orphaned = trio.Event()
        """Set when the parent is gone."""
        self.told_to_drain = trio.Event()
        """Set when the parent has said that the whole daemon drains."""
        self.told_to_end = trio.Event()
        """Set when the parent has said that there is no time to drain."""
        self.hear_more: Callable[[Mapping[str, object]], None] | None = None
        """Gets every message of the parent too, for questions that are not of this class; must return at once."""

    def unready(self) -> str | None:
        """See `Fleet`."""
        return None if self._all_ready else "another worker is not ready"

    def stands_in(self) -> bool:
        """See `Fleet`."""
        return self._all_ready

    async def report(self) -> Report:
        """See `Fleet`."""
        number = next(self._numbers)
        answer = self._waiting[number] = _Answer()
        try:
            with trio.move_on_after(REPORT_TIMEOUT):
                await self._channel.send({"ask": number})
                await answer.came.wait()
                return answer.report
        except ChannelError as error:
            raise FleetError("the supervisor is gone") from error
        finally:
            del self._waiting[number]
        raise FleetError("the other workers did not answer in time")

    async def tell_ready(self, ready: bool) -> None:
        """Tell the parent whether this worker is ready. A parent that is gone is noticed by `run`."""
        try:
            await self._channel.send({"ready": ready})
        except ChannelError:
            return

    async def run(self) -> None:
        """Hear the parent until it is gone."""
        try:
            async for message in self._channel.messages():
                await self._hear(message)
        except (ChannelError, ValueError):
            # A parent that talks nonsense is no parent.
            pass
        self.orphaned.set()

    async def _hear(self, message: dict[str, object]) -> None:
        if self.hear_more is not None:
            self.hear_more(message)
        if "beat" in message:
            await self._channel.send({"beat": True})
        if message.get("end") == DRAIN:
            self.told_to_drain.set()
        if message.get("end") == AT_ONCE:
            self.told_to_end.set()
        if "all_ready" in message:
            self._all_ready = message["all_ready"] is True
            self.introduced.set()
        if "report" in message:
            await self._channel.send({"report": message["report"], "figures": to_json(self._own_report())})
        number = message.get("answer")
        if isinstance(number, int) and (answer := self._waiting.get(number)) is not None:
            figures = message.get("figures")
            answer.report = merge(from_json(report) for report in (figures if isinstance(figures, list) else []))
            answer.came.set()


class _Answer:
    """What the parent says to one question."""

    def __init__(self) -> None:
        self.came = trio.Event()
        self.report: Report = ()
