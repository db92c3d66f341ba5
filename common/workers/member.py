"""A worker's side of the channel to its parent.

`Member.run` is owned by the worker's outer nursery. It ends when the parent is gone or talks nonsense, and then sets
`orphaned`: a worker without a parent drains and goes, like one that was told to.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from common.fleet import FleetError
from common.workers.channel import NoAnswerError, WorkerChannel
from common.workers.lines import ChannelError
from common.workers.questions import AT_ONCE, DRAIN, FIGURES, SERVING

if TYPE_CHECKING:
    from common.exposition import Report
    from common.workers.channel import Answers

REPORT_TIMEOUT: Final = 2.0
"""Seconds in which the parent must have answered with everybody's figures."""


class Member:
    """One of several workers (`Fleet`)."""

    def __init__(self, channel: WorkerChannel) -> None:
        self._channel = channel
        self._serving = False
        self.introduced = trio.Event()
        """Set when the parent has said for the first time whether the daemon is ready, or is gone and never will."""
        self.orphaned = trio.Event()
        """Set when the parent is gone, or not understood."""
        self.breach = ""
        """What was not understood; empty while the parent keeps to the protocol."""
        self.told_to_drain = trio.Event()
        """Set when the parent has said that the whole daemon drains."""
        self.told_to_end = trio.Event()
        """Set when the parent has said that there is no time to drain."""

    def unready(self) -> str | None:
        """See `Fleet`."""
        return None if self._serving else "another worker is not ready"

    def stands_in(self) -> bool:
        """See `Fleet`."""
        return self._serving

    async def report(self) -> Report:
        """See `Fleet`."""
        try:
            return await self._channel.ask(FIGURES, within=REPORT_TIMEOUT)
        except NoAnswerError as error:
            raise FleetError("the other workers did not answer in time") from error
        except ChannelError as error:
            raise FleetError(self.loss()) from error

    async def run(self, answers: Answers) -> None:
        """Hear the parent, and answer it, until it is gone or says what is not understood."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow)
            try:
                await self._channel.run(answers, {DRAIN: self.told_to_drain.set, AT_ONCE: self.told_to_end.set})
            except ChannelError as error:
                # A parent that talks nonsense is no parent.
                self.breach = str(error)
            nursery.cancel_scope.cancel()
        self.orphaned.set()
        # Whoever waits for a first word must not hold up the end.
        self.introduced.set()

    def loss(self) -> str:
        """What became of the parent, once it is no parent any more."""
        return f"the supervisor is not understood: {self.breach}" if self.breach else "the supervisor is gone"

    async def _follow(self) -> None:
        known: bool | None = None
        with suppress(ChannelError):
            while True:
                known = self._serving = await self._channel.ask(SERVING, known)
                self.introduced.set()
