"""Where a link's next attempt goes: the interface, and the endpoint of a URL that names one server.

The other endpoint is `sentinel.Sentinels`. An endpoint belongs to a link and lives as long; it opens no connection for
the link, and only says where one is to lead.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from common.redis.transport import address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from common.redis.url import RedisURL


class RedisEndpoint(Protocol):
    """See the module."""

    @property
    def name(self) -> str:
        """What is looked for, for messages."""

    @property
    def appoints(self) -> bool:
        """Whether somebody else says who the primary is, so that a server which is none is not the one meant."""

    @property
    def patience(self) -> float:
        """Seconds that an outage may take before it is more than the replacement of a primary."""

    def remarks(self) -> tuple[str, ...]:
        """What an operator should know of it though nothing fails yet; without addresses, for anybody may read it."""

    def details(self) -> tuple[str, ...]:
        """A line for each of those who are asked where to go."""

    async def locate(self) -> RedisURL:
        """The server to connect to now. Raises the RedisError of why there is none."""

    async def confirm(self, server: RedisURL) -> None:
        """Ask once more whether `server`, which has been connected to, is the one. Raises RedisConnectionError."""

    def unless_moved(self, server: RedisURL) -> AbstractContextManager[None]:
        """A block that ends when another server is named than this one, with RedisConnectionError."""

    async def wait_elsewhere(self, server: RedisURL | None) -> None:
        """Wait until another server is named than this one, or any if it is None. Without a deadline of its own."""

    async def run(self) -> None:
        """What has to go on while the link runs."""


@attrs.frozen
class OneServer:
    """The endpoint of a URL that names the server itself; its name is resolved anew at every attempt."""

    _url: RedisURL

    @property
    def name(self) -> str:
        """See `RedisEndpoint`."""
        return address(self._url)

    @property
    def appoints(self) -> bool:
        """Nobody does: what the name leads to is what is meant."""
        return False

    @property
    def patience(self) -> float:
        """Nobody replaces it that we know of."""
        return 0.0

    def remarks(self) -> tuple[str, ...]:
        """There are none."""
        return ()

    def details(self) -> tuple[str, ...]:
        """There is nobody."""
        return ()

    async def locate(self) -> RedisURL:
        """Always the same."""
        return self._url

    async def confirm(self, server: RedisURL) -> None:
        """There is nobody to ask."""

    @contextmanager
    def unless_moved(self, server: RedisURL) -> Iterator[None]:
        """It never is."""
        del server
        yield

    async def wait_elsewhere(self, server: RedisURL | None) -> None:
        """Never."""
        del server
        await trio.sleep_forever()

    async def run(self) -> None:
        """Nothing has to."""
