"""A new connection to Redis, from its name to the last answer of the handshake, within one deadline.

An `Opener` belongs to a link. It keeps nothing of what it has opened: name, certificates and password are looked up
anew each time, so that a moved name and a rotated secret need no restart. What outlives an attempt is the lookup of the
name that it gave up on: the next one waits for the same (`common.names`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.names import Names
from common.redis.errors import RedisConnectionError
from common.redis.handshake import COMMANDS, Introduction, shake_hands
from common.redis.resp import RespParser
from common.redis.transport import Steps, address, explain, open_stream, peer_address
from common.secret import SecretError

if TYPE_CHECKING:
    from common.redis.url import RedisURL
    from common.secret import Secret


Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""Opens the socket to a host and port in place of the network; may raise OSError."""

_TLS_HINT: Final = "; where the port speaks TLS the URL must begin with rediss://"


@attrs.frozen
class Opened:
    """A connection that has shaken hands. The stream is the caller's to close."""

    stream: trio.abc.Stream
    parser: RespParser
    """What has read the handshake, and may have read more."""
    role: str | None
    """See `handshake.role_of`."""
    address: str | None
    """Which of the name's addresses it is: see `transport.peer_address`."""


class Opener:
    """See the module. `within` is in seconds; `on_timeout` is told the command that got no answer in time.

    `password` is used when `url` has none. `connect` replaces the opening of the socket.
    """

    def __init__(
        self,
        *,
        url: RedisURL,
        password: Secret | None = None,
        connect: Connect | None = None,
        within: float,
        reply_limit: int,
        on_timeout: Callable[[str], None],
    ) -> None:
        self._url = url
        self._password = password
        self._connect = connect
        self._within = within
        self._reply_limit = reply_limit
        self._on_timeout = on_timeout
        self._names = Names()

    async def open(self, client_name: str, at: str | None = None, *, server: RedisURL | None = None) -> Opened:
        """Connect, to `server` where it is not the URL's own, to the address `at` if it is given, and shake hands.

        Raises the RedisError of whatever failed; a deadline that has passed is a RedisConnectionError whose message
        says what took the time.
        """
        steps = Steps()
        url = server or self._url
        with trio.move_on_after(self._within):
            stream = await self._open_stream(url, steps, at)
            try:
                parser = RespParser(self._reply_limit)
                hint = _TLS_HINT if url.scheme == "redis" else ""
                role = await shake_hands(stream, parser, self._introduction(url, client_name), steps, hint=hint)
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
            return Opened(stream, parser, role, peer_address(stream))
        if steps.step in COMMANDS:
            self._on_timeout(steps.step)
        raise RedisConnectionError(f"no connection within {self._within:g}s, {steps.slowest()}: {address(url)}")

    async def _open_stream(self, url: RedisURL, steps: Steps, at: str | None) -> trio.abc.Stream:
        try:
            if self._connect is None:
                return await open_stream(url, steps, self._names, at)
            steps.enter("TCP")
            return await self._connect(url.host, url.port)
        except (OSError, ValueError) as error:
            raise RedisConnectionError(explain(error, url)) from error

    def _introduction(self, url: RedisURL, client_name: str) -> Introduction:
        password = url.password
        if password is None and self._password is not None:
            try:
                password = self._password.read()
            except SecretError as error:
                raise RedisConnectionError(str(error)) from error
        return Introduction(client_name=client_name, db=url.db, username=url.username, password=password)
