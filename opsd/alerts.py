"""What goes wrong and what is well again, posted to the operator's webhook.

The application makes one `Alerts` and owns the task of `run`. Every change of the traffic mode, of the telemetry, of a
source and of its workers is told; `opsd.ledger` says which is due. A post that fails is tried again, later and later,
until it is taken or things have changed: however long the receiver is away, it hears of what is true then.

What was told is kept beside the history, so that an incident which ends after a restart of opsd is resolved. Where
Redis can't be asked at the start, it is kept in memory only, and the receiver is told how things are.

The webhook's URL may itself be a secret, so that it never reaches a log.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Protocol

import attrs
import trio

from common.backoff import Backoff
from common.quote import quote
from common.secret import SecretError
from opsd.events import MODE
from opsd.history import HistoryUnavailableError
from opsd.ledger import Ledger
from opsd.sources.fetch import FETCH_ERRORS, make_client
from opsd.sources.target import SourceEndpoint
from opsd.vector import MODES

if TYPE_CHECKING:
    import random

    import httpx

    from common.logs import Logger
    from common.secret import Secret
    from opsd.board import Board
    from opsd.events import Event

POST_TIMEOUT: Final = 5.0
"""Seconds that one attempt may take."""

BACKOFF: Final = Backoff(base=1.0, maximum=60.0)

RECALL_INTERVAL: Final = 0.25
"""Seconds between two attempts to ask for what was kept."""

RECALL_TIMEOUT: Final = 5.0
"""Seconds after which nothing is told for want of it."""

KEEP_INTERVAL: Final = 5.0
"""Seconds between two attempts to keep something."""

_NAMES: Final = {"mode": "traffic_mode"}


class Shelf(Protocol):
    """Where a text outlives the process."""

    async def keep(self, text: str) -> None:
        """Keep it instead of the one before. Raises HistoryUnavailableError."""

    async def recall(self) -> str | None:
        """What was kept last, None if nothing was. Raises HistoryUnavailableError."""


@attrs.define
class Outcomes:
    """What became of the attempts so far."""

    sent: int = 0
    """Alerts that the receiver has taken."""
    failed: int = 0
    """Attempts that failed; the alert is tried again."""


class Alerts:
    """See the module. `transport` replaces the network."""

    def __init__(
        self,
        webhook: Secret,
        shelf: Shelf,
        log: Logger,
        rng: random.Random,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.outcomes = Outcomes()
        """For the metrics."""
        self._webhook = webhook
        self._shelf = shelf
        self._log = log
        self._rng = rng
        self._transport = transport
        self._ledger = Ledger()
        self._begun = trio.Event()
        """Set when it is known what was told before, or that this can't be known."""
        self._changed = trio.Event()
        self._kept: str | None = None
        self._unkept = False
        """Whether it was said that nothing is kept."""

    async def run(self, board: Board) -> None:
        """Tell what happens on `board`, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._recall_and_keep, board)
            await self._begun.wait()
            nursery.start_soon(self._observe, board)
            await self._tell()

    async def _observe(self, board: Board) -> None:
        version = 0
        while True:
            version = await board.wait_newer(version)
            time, rate = board.status.timestamp, board.error_rate
            if self._ledger.observe(board.conditions, trio.current_time(), time, rate):
                self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # -- telling ------------------------------------------------------------------------------------------------------

    async def _tell(self) -> None:
        failures = 0
        while True:
            event = self._ledger.due(trio.current_time())
            if event is None:
                await self._wait_due()
                continue
            failure = await self._post(event)
            self._ledger.attempted(event, taken=failure is None)
            self._wake()
            fields = {"about": event.topic.words(), "before": event.before, "after": event.after}
            if failure is None:
                self.outcomes.sent += 1
                self._log.info("alert posted", **fields, attempt=failures + 1)
                failures = 0
            else:
                self.outcomes.failed += 1
                failures += 1
                delay = BACKOFF.after_failure(failures, self._rng)
                self._log.warning(
                    "alert not posted, retrying", **fields, error=failure, attempt=failures, backoff=round(delay, 3)
                )
                await trio.sleep(delay)

    async def _wait_due(self) -> None:
        """Wait until something has changed, or has been the same for long enough to be told."""
        changed, at = self._changed, self._ledger.due_at()
        with trio.CancelScope() as scope:
            if at is not None:
                scope.deadline = at
            await changed.wait()

    async def _post(self, event: Event) -> str | None:
        """Post once; return what went wrong, if anything did."""
        try:
            url = self._webhook.read()
        except SecretError as error:
            return str(error)
        body = json.dumps(_document(event), separators=(",", ":"), ensure_ascii=False).encode()
        with trio.move_on_after(POST_TIMEOUT):
            try:
                async with (
                    make_client(SourceEndpoint(url), self._transport) as client,
                    client.stream("POST", url, content=body, headers={"content-type": "application/json"}) as response,
                ):
                    return None if response.is_success else f"answered {response.status_code}"
            except (*FETCH_ERRORS, ValueError) as error:
                # The message may hold the URL.
                return type(error).__name__
        return f"no answer within {POST_TIMEOUT:g}s"

    # -- what outlives the process ------------------------------------------------------------------------------------

    async def _recall_and_keep(self, board: Board) -> None:
        await self._recall(board)
        while True:
            changed, text = self._changed, self._ledger.dump()
            if text != self._kept:
                try:
                    await self._shelf.keep(text)
                except HistoryUnavailableError as error:
                    self._say_unkept(error)
                    await trio.sleep(KEEP_INTERVAL)
                    continue
                self._kept = text
            if self._unkept:
                self._unkept = False
                self._log.info("alerts are kept again")
            await changed.wait()

    async def _recall(self, board: Board) -> None:
        """Find out what was told before; begin without that when it takes too long."""
        latest = trio.current_time() + RECALL_TIMEOUT
        while True:
            try:
                text = await self._shelf.recall()
            except HistoryUnavailableError as error:
                if trio.current_time() >= latest and not self._begun.is_set():
                    self._say_unkept(error)
                    self._ledger.forget()
                    self._begun.set()
                await trio.sleep(RECALL_INTERVAL)
            else:
                break
        self._kept = text
        if text is not None:
            self._resume(text, board)
        self._begun.set()
        self._wake()

    def _resume(self, text: str, board: Board) -> None:
        try:
            states = self._ledger.load(text)
        except ValueError as error:
            self._log.warning("what was kept of the alerts is of no use", error=quote(str(error)))
            self._ledger.forget()
            return
        mode = next((mode for mode in MODES if mode == states.get(MODE)), None)
        if mode is not None:
            board.resume_mode(mode)

    def _say_unkept(self, error: HistoryUnavailableError) -> None:
        if not self._unkept:
            self._log.warning("alerts are kept in memory only", error=str(error))
        self._unkept = True


def _document(event: Event) -> dict[str, object]:
    rate = f", error rate {event.error_rate:.1%}" if event.topic == MODE else ""
    # `text` is what the webhooks of chat services show.
    return {
        "text": f"{event.topic.words()}: {event.before} → {event.after}{rate}",
        "event": _NAMES.get(event.topic.kind, event.topic.kind),
        **event.document(),
    }
