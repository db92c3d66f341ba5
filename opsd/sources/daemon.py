"""One daemon: its events the moment they come, and its status once a second, which is all there is when it can't push.

Two tasks within the source's own: one listens to `/events` and connects again when that ends, with jittered delays; the
other polls, for what is no event (memory, CPU) and as the fallback. The newest status wins, whoever brought it. The
daemon is unavailable when neither has anything to say: within `SILENCE`, or much sooner where polls used to work.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.backoff import Backoff
from common.telemetry.fields import GarbageError
from common.telemetry.parse import parse_status
from opsd.sources.budget import Budget, OverspentError
from opsd.sources.events import EventParser, EventTooLargeError, ServerEvent
from opsd.sources.fetch import FETCH_ERRORS, FetchError, encoding_of, headers
from opsd.sources.polled import POLL_EXPIRY, PolledSource
from opsd.sources.transport import REST

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    import httpx

    from common.secret import Secret
    from opsd.sources.target import AdminTarget

SILENCE: Final = 7.0
"""Seconds without an event or a comment after which a stream is dead: a daemon sends a comment every five."""

SHORTEST_GAP: Final = 0.01
"""Seconds between two events that are read: one that floods us is read slowly, the others as ever."""

STEADY: Final = 1.0
"""Seconds that a stream must live for its end not to count as a failure."""

EVENT_LIMIT: Final = 256 << 10
"""Bytes of an event: half of what a poll may bring, since there may be many a second."""

_RECONNECT: Final = Backoff(base=0.25, maximum=1.0)
_OK: Final = 200


class DaemonSource(PolledSource):
    """See the module."""

    def __init__(
        self,
        target: AdminTarget,
        *,
        token: Secret | None,
        seconds: float,
        rng: random.Random,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(
            target.name,
            target.endpoint,
            token=token,
            seconds=seconds,
            outside=False,
            rng=rng,
            transport=transport,
        )

    async def _collect(self, client: httpx.AsyncClient) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, client)
            await self._poll(client)

    async def _listen(self, client: httpx.AsyncClient) -> None:
        failures = 0
        while True:
            begun = trio.current_time()
            await self._stream(client)
            self._pushes_ended()
            steady = trio.current_time() - begun >= STEADY
            failures = 0 if steady else failures + 1
            delay = _RECONNECT.first(self._rng) if steady else _RECONNECT.after_failure(failures, self._rng)
            await trio.sleep(delay)

    async def _stream(self, client: httpx.AsyncClient) -> None:
        """Listen to the events until there are no more, or they make no sense."""
        try:
            wanted = headers(self._token, accept="text/event-stream")
            with trio.move_on_after(self._seconds) as scope:
                async with client.stream("GET", "/events", headers=wanted, timeout=None) as response:
                    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
                    if (
                        response.status_code == _OK
                        and kind == "text/event-stream"
                        and encoding_of(response) == "identity"
                    ):
                        await self._read(response, scope)
        except (*FETCH_ERRORS, FetchError, ValueError):
            # Whether that matters is for the polls to find out.
            return

    async def _read(self, response: httpx.Response, scope: trio.CancelScope) -> None:
        reader = StreamReader(trio.current_time())
        async for chunk in response.aiter_raw():
            if scope.cancel_called:
                continue
            try:
                for heard in reader.laps(chunk):
                    self._take(heard, scope)
                    if reader.unread or heard.status is not None:
                        # A cancellation waits for the next read, as below.
                        with trio.CancelScope(shield=True):
                            await trio.sleep(SHORTEST_GAP if heard.status is not None else REST)
            except (EventTooLargeError, OverspentError, GarbageError):
                # Cancelled, the next read ends the iteration: left alone, its generators would live on.
                scope.cancel()

    def _take(self, heard: Lap, scope: trio.CancelScope) -> None:
        if heard.status is not None:
            self._pushed_status(heard.status)
        if heard.anything and self._pushes_until > -math.inf:
            scope.deadline = self._pushes_until = trio.current_time() + SILENCE
            self.reading = attrs.evolve(self.reading, expires=self._believed_until())

    def _pushed_status(self, data: bytes) -> None:
        status = parse_status(data)
        self._pushed += 1
        self._pushes_until = trio.current_time() + SILENCE
        self._believe(status, self._believed_until())
        self.asked = True
        self._changed()

    def _believed_until(self) -> float:
        """How long this sign of life counts. Where polls work, they would soon show that it was the last."""
        if not self._polls_work:
            return self._pushes_until
        return max(self._polled_until, trio.current_time() + POLL_EXPIRY)

    def _pushes_ended(self) -> None:
        """What was pushed is believed as long as the last poll is; the next one is due now."""
        if self._pushes_until == -math.inf:
            return
        self._pushes_until = -math.inf
        self.reading = attrs.evolve(self.reading, expires=min(self.reading.expires, self._polled_until))
        self._poll_now.set()
        self._changed()


@attrs.frozen
class Lap:
    """What one lap through a stream's bytes has found."""

    anything: bool
    """Whether there was a sign of life: an event or a comment."""
    status: bytes | None
    """The data of the last status event: of several that have come at once, it is the state of things."""


class StreamReader:
    """A stream's chunks -> laps of bounded work; lines have a budget, since those that say nothing cost as much."""

    def __init__(self, begun: float) -> None:
        self._parser = EventParser(EVENT_LIMIT)
        self._budget = Budget("lines", begun)

    @property
    def unread(self) -> bool:
        """Whether a lap remains."""
        return self._parser.unread

    def laps(self, chunk: bytes) -> Iterator[Lap]:
        """Take a chunk in. Raises EventTooLargeError, OverspentError; nothing more can be read then."""
        more = True
        while more:
            before = self._parser.lines
            heard = self._parser.feed(chunk)
            self._budget.spend(trio.current_time(), len(chunk), self._parser.lines - before)
            statuses = [item.data for item in heard if isinstance(item, ServerEvent) and item.name == "status"]
            yield Lap(bool(heard), statuses[-1] if statuses else None)
            chunk, more = b"", self._parser.unread
