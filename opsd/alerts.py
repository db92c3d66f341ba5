"""Changes of the traffic mode, posted to the operator's webhook.

The application makes one and owns the task of `run`. The board tells it of every event by `heard`, which never waits:
what a slow webhook has not taken yet is queued, and beyond `LONGEST_QUEUE` the oldest is dropped. The webhook's URL may
itself be a secret, so that it never reaches a log.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Final

import trio

from common.backoff import Backoff
from common.secret import SecretError
from opsd.sources.fetch import FETCH_ERRORS, make_client
from opsd.sources.target import Endpoint

if TYPE_CHECKING:
    import random

    import httpx

    from common.logs import Logger
    from common.secret import Secret
    from opsd.board import Event

LONGEST_QUEUE: Final = 32
ATTEMPTS: Final = 5
POST_TIMEOUT: Final = 5.0
"""Seconds that one attempt may take."""

BACKOFF: Final = Backoff(base=1.0, maximum=30.0)


class Alerts:
    """See the module. `transport` replaces the network."""

    def __init__(
        self,
        webhook: Secret,
        log: Logger,
        rng: random.Random,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._webhook = webhook
        self._log = log
        self._rng = rng
        self._transport = transport
        self._queue: deque[Event] = deque()
        self._heard = trio.Event()

    def heard(self, event: Event) -> None:
        """Take note of an event of the board; changes of the mode are posted."""
        if event.kind != "mode":
            return
        if len(self._queue) == LONGEST_QUEUE:
            self._queue.popleft()
            self._log.warning("alert dropped, too many are waiting", waiting=LONGEST_QUEUE)
        self._queue.append(event)
        self._heard.set()

    async def run(self) -> None:
        """Post what is heard, in order, until cancelled."""
        while True:
            await self._heard.wait()
            self._heard = trio.Event()
            while self._queue:
                await self._deliver(self._queue.popleft())

    async def _deliver(self, event: Event) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            failure = await self._post(event)
            if failure is None:
                self._log.info("alert posted", before=event.before, after=event.after, attempt=attempt)
                return
            if attempt < ATTEMPTS:
                delay = BACKOFF.after_failure(attempt, self._rng)
                self._log.warning("alert not posted, retrying", error=failure, attempt=attempt, backoff=round(delay, 3))
                await trio.sleep(delay)
        self._log.error("alert given up", error=failure, attempts=ATTEMPTS, before=event.before, after=event.after)

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
                    make_client(Endpoint(url), POST_TIMEOUT, self._transport) as client,
                    client.stream("POST", url, content=body, headers={"content-type": "application/json"}) as response,
                ):
                    return None if response.is_success else f"answered {response.status_code}"
            except (*FETCH_ERRORS, ValueError) as error:
                # The message may hold the URL.
                return type(error).__name__
        return f"no answer within {POST_TIMEOUT:g}s"


def _document(event: Event) -> dict[str, object]:
    # `text` is what the webhooks of chat services show.
    return {
        "text": f"traffic mode: {event.before} → {event.after}, error rate {event.error_rate:.1%}",
        "event": "traffic_mode",
        **event.document(),
    }
