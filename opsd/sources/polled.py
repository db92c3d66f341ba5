"""A source that is asked for `/workers/status` once a second: the outside telemetry API, and a daemon too.

The board owns it and its task. It is asked again a second after it was asked last, or as soon as it has answered if
that takes longer; how long an answer is believed grows with the time that it took.
"""

from __future__ import annotations

import gzip
import math
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import attrs
import trio

from common.telemetry.fields import GarbageError
from common.telemetry.parse import parse_audience, parse_status
from opsd.sources.fetch import FetchError, FetchTimeoutError, fetch, make_client
from opsd.sources.interface import AudienceError, Reading, SnapshotError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    import httpx

    from common.secret import Secret
    from common.telemetry.values import Audience, DaemonStatus
    from opsd.sources.target import SourceEndpoint

POLL_INTERVAL: Final = 1.0
POLL_EXPIRY: Final = 2.0
"""Seconds that an answer is believed, beside those that it took: one poll may fail to come."""

SHORTEST_PAUSE: Final = 0.05
"""Seconds between two polls, however often the source's stream breaks."""

STATUS_LIMIT: Final = 512 << 10
"""Bytes of a status: a thousand workers, and no more than can be read in a few hundredths of a second."""

SNAPSHOT_LIMIT: Final = 32 << 20
AUDIENCE_LIMIT: Final = 16 << 10
CLOSE_TIMEOUT: Final = 1.0

_GZIP_MAGIC: Final = b"\x1f\x8b"
_OK: Final = 200
_NOT_FOUND: Final = 404
_TOO_MANY: Final = 429
_GATEWAY_TIMEOUT: Final = 504


def no_change() -> None:
    """Nobody listens."""


class PolledSource:
    """See the module. `seconds` bounds every request; `transport` replaces the network."""

    def __init__(
        self,
        name: str,
        endpoint: SourceEndpoint,
        *,
        token: Secret | None,
        seconds: float,
        outside: bool,
        rng: random.Random,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.name = name
        self.outside = outside
        self.asked = False
        self.reading = Reading()
        self._endpoint = endpoint
        self._token = token
        self._seconds = seconds
        self._rng = rng
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._changed: Callable[[], None] = no_change
        self._pushed = 0
        """Statuses that came by themselves."""
        self._pushes_until = -math.inf
        """Until when what was pushed last is believed; in the past while nothing is pushed."""
        self._polled_until = -math.inf
        """Until when the last poll's answer is believed."""
        self._polls_work = False
        """Whether the last poll that ended brought something."""
        self._poll_now = trio.Event()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}={self._endpoint} {self.reading.problem or 'up'}>"

    async def run(self, changed: Callable[[], None]) -> None:
        """Keep `reading` up to date until cancelled, calling `changed` at every change."""
        self._changed = changed
        self._client = make_client(self._endpoint, self._transport)
        try:
            await self._collect(self._client)
        finally:
            client, self._client = self._client, None
            with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
                await client.aclose()

    async def snapshot(self, worker: str) -> bytes:
        """The gzipped JSON of one of its workers.

        Raises SnapshotError: 404 unknown, 429 asked too often, 504 late, 502 anything else.
        """
        if self._client is None:
            raise SnapshotError(502, f"{self.name} is not being watched")
        try:
            answer = await fetch(
                self._client,
                f"/workers/snapshot/{worker}",
                self._token,
                seconds=self._seconds,
                limit=SNAPSHOT_LIMIT,
                encoding="gzip",
            )
        except FetchTimeoutError as error:
            raise SnapshotError(_GATEWAY_TIMEOUT, f"{self.name}: {error}") from error
        except FetchError as error:
            if error.status == _TOO_MANY:
                text = f"{self.name}: a snapshot of this worker was taken a moment ago"
                raise SnapshotError(_TOO_MANY, text, error.retry_after) from error
            passed_on = error.status in {_NOT_FOUND, _GATEWAY_TIMEOUT}
            raise SnapshotError(error.status if passed_on and error.status else 502, f"{self.name}: {error}") from error
        if answer.encoding == "gzip":
            if not answer.body.startswith(_GZIP_MAGIC):
                raise SnapshotError(502, f"{self.name}: what it sent is not gzipped")
            return answer.body
        return await trio.to_thread.run_sync(gzip.compress, answer.body)

    async def audience(self, name: str) -> Audience:
        """The clients that follow what this daemon calls by that name. Raises AudienceError."""
        if self._client is None:
            raise AudienceError(f"{self.name} is not being watched")
        try:
            answer = await fetch(
                self._client,
                f"/topics?name={quote(name, safe='')}",
                self._token,
                seconds=self._seconds,
                limit=AUDIENCE_LIMIT,
            )
            return parse_audience(answer.body)
        except (FetchError, GarbageError) as error:
            raise AudienceError(f"{self.name}: {error}") from error

    async def _collect(self, client: httpx.AsyncClient) -> None:
        await self._poll(client)

    async def _poll(self, client: httpx.AsyncClient) -> None:
        while True:
            begun, pushed = trio.current_time(), self._pushed
            self._poll_now = trio.Event()
            interval = POLL_INTERVAL
            try:
                answer = await fetch(client, "/workers/status", self._token, seconds=self._seconds, limit=STATUS_LIMIT)
                status = parse_status(answer.body, outside=self.outside)
            except (FetchError, GarbageError) as error:
                self._failed(error)
                interval *= self._rng.uniform(0.75, 1.0)
            else:
                # What was pushed while this was on its way is newer.
                self._succeeded(status if pushed == self._pushed else None, trio.current_time() - begun)
            self.asked = True
            self._changed()
            with trio.move_on_at(begun + interval):
                await self._poll_now.wait()
                await trio.sleep_until(begun + SHORTEST_PAUSE)

    def _succeeded(self, status: DaemonStatus | None, took: float) -> None:
        self._polls_work = True
        self._polled_until = trio.current_time() + took + POLL_EXPIRY
        self._believe(status or self.reading.status, self._polled_until)

    def _failed(self, error: FetchError | GarbageError) -> None:
        self._polls_work = False
        if trio.current_time() < self._pushes_until:
            # A process that is stopped keeps its stream open: only its next sign of life is one.
            if not isinstance(error, FetchTimeoutError):
                self.reading = attrs.evolve(self.reading, expires=self._pushes_until)
            return
        # An error is an answer of a telemetry API; bytes that are none could be anything's.
        answers = isinstance(error, FetchError) and error.status is not None and error.status != _OK
        self.reading = Reading(answers=answers, problem=str(error))

    def _believe(self, status: DaemonStatus | None, until: float) -> None:
        if status is None:
            return
        if status == self.reading.status:
            self.reading = attrs.evolve(self.reading, expires=until)
        else:
            self.reading = Reading(status, answers=True, problem="", expires=until)
