"""The attempts of a link's outages: which has failed, when the next one comes, and when there is an end of them.

The delays begin anew only when a connection has lasted `CALM`: Redis that comes and goes is not asked all the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from common.backoff import Backoff
from common.quote import quote
from common.redis.errors import AuthenticationError, BusyLoadingError, RedisRefused, RedisUnavailable

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from common.logs import Logger
    from common.redis.errors import RedisError
    from common.redis.policy import LinkPolicy

CALM: Final = 10.0
"""Seconds online after which the delays start anew."""


class Attempts:
    """One belongs to a link and lives as long. Nothing here waits; all delays are in seconds.

    `on_exhausted` is called when `max_retries` attempts of an outage have failed, and `patience` seconds have passed
    since the first of them; at the start the attempts alone are the end instead.
    """

    def __init__(
        self,
        *,
        policy: LinkPolicy,
        patience: Callable[[], float] = lambda: 0.0,
        on_exhausted: Callable[[], None],
        log: Logger,
        rng: random.Random,
    ) -> None:
        self._policy = policy
        self._patience = patience
        self._on_exhausted = on_exhausted
        self._log = log
        self._rng = rng
        self._backoff = Backoff(policy.retry_base, policy.retry_max)
        self._failures = 0
        self._failing_since = 0.0
        self._exhausted = False
        self._delays = 0
        """How many delays there have been since the link was last calm."""
        self.obstacle: str | None = None
        """Why there is nothing to wait for, from an outage's first failed attempt until an attempt has succeeded."""

    @property
    def number(self) -> int:
        """That of the attempt which is under way, or comes next, counting from 1 in each outage."""
        return self._failures + 1

    def succeeded(self) -> None:
        """The link is online."""
        self._failures = 0
        self.obstacle = None

    def lost(self, online: float) -> float:
        """An outage begins after so many seconds online; return the delay before its first attempt.

        It is short after a calm; after less the growth goes on, as if the connection had never been there.
        """
        if online >= CALM:
            self._delays = 0
        self._delays += 1
        if self._delays == 1:
            return self._backoff.first(self._rng)
        return self._backoff.after_failure(self._delays - 1, self._rng)

    def failed(self, error: RedisError, *, at_start: bool) -> float:
        """An attempt has ended with this error; return the delay before the next one.

        Before the link was ever online (`at_start`) some failures are the end of it: raises RedisRefused for wrong
        credentials, RedisUnavailable after `max_retries`.
        """
        if isinstance(error, BusyLoadingError) and self._policy.wait_for_loading:
            self.obstacle = "redis is loading its data"
            delay = self._delay()
            self._log.info("redis is loading, waiting", backoff=round(delay, 3))
            return delay
        self.obstacle = "redis is unavailable"
        self._failures += 1
        if at_start:
            self._give_up(error)
        delay = self._delay()
        self._log.warning(
            "redis unavailable, retrying", attempt=self._failures, backoff=round(delay, 3), error=quote(str(error))
        )
        if self._failures == 1:
            self._failing_since = trio.current_time()
            self._exhausted = False
        impatient = trio.current_time() - self._failing_since >= self._patience()
        if 0 < self._policy.max_retries <= self._failures and impatient and not self._exhausted:
            self._exhausted = True
            self._log.error("redis unavailable, clients ended", attempts=self._failures)
            self._on_exhausted()
        return delay

    def _give_up(self, error: RedisError) -> None:
        if isinstance(error, AuthenticationError):
            raise RedisRefused(str(error)) from error
        if self._failures == self._policy.max_retries:
            attempts = "1 attempt" if self._failures == 1 else f"{self._failures} attempts"
            raise RedisUnavailable(f"Redis is unavailable after {attempts}: {error}") from error

    def _delay(self) -> float:
        self._delays = max(self._delays, 1) + 1
        return self._backoff.after_failure(self._delays - 1, self._rng)
