"""The first words on a new connection: who we are, which protocol, which database, and whether Redis is ready.

Three commands in one write, so that a reconnect costs one round trip. It runs before anyone else uses the stream and
is over when the three answers are in; what is left on the wire after that belongs to `Connection`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.redis.errors import (
    AuthenticationError,
    BusyLoadingError,
    ProtocolError,
    RedisConnectionError,
    RedisError,
    ResponseError,
    StalledError,
)
from common.redis.resp import PushNotification, encode
from common.redis.transport import explain_broken

if TYPE_CHECKING:
    from common.redis.resp import Parser

RECEIVE_SIZE: Final = 65536
_LONGEST_TEXT: Final = 200
"""Characters kept of an error that Redis sends; protected mode sends a page."""

_COMMANDS: Final = ("HELLO", "SELECT", "PING")


@attrs.frozen(kw_only=True)
class Introduction:
    """What Redis is told: the user, the name that `CLIENT LIST` shows, the database."""

    client_name: str
    db: int
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)

    def encode(self) -> bytes:
        """The three commands. `SELECT` is always sent: a proxy may hand out connections that others have used."""
        hello: list[str | int] = ["HELLO", 3]
        if self.username or self.password:
            hello += ["AUTH", self.username or "default", self.password or ""]
        hello += ["SETNAME", self.client_name]
        return encode(*hello) + encode("SELECT", self.db) + encode("PING")


async def shake_hands(stream: trio.abc.Stream, parser: Parser, introduction: Introduction, within: float) -> None:
    """Introduce ourselves and check the answers, within so many seconds.

    Raises `AuthenticationError`, `BusyLoadingError`, `ProtocolError` (RESP3 is not spoken there, or not RESP at all),
    `ResponseError` (any other error of Redis), `StalledError`, `RedisConnectionError`. No message contains the
    password. The stream is the caller's to close, whatever happened.
    """
    waiting_for = list(_COMMANDS)
    try:
        with trio.move_on_after(within):
            await stream.send_all(introduction.encode())
            while waiting_for:
                data = await stream.receive_some(RECEIVE_SIZE)
                if not data:
                    raise RedisConnectionError("closed by Redis during the handshake")
                _take_answers(data, parser, introduction, waiting_for)
            return
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise RedisConnectionError(f"{explain_broken(error)} during the handshake") from error
    raise StalledError(f"no answer to {waiting_for[0]} within {within:g}s", waiting_for[0])


def _take_answers(data: bytes | bytearray, parser: Parser, introduction: Introduction, waiting_for: list[str]) -> None:
    """Check the answers that `data` completes, and strike their commands off `waiting_for`."""
    parser.feed(data)
    for value in parser.values():
        if type(value) is PushNotification:
            continue
        if not waiting_for:
            raise ProtocolError("an answer to nothing that was asked")
        _check(waiting_for.pop(0), value, introduction)


def _check(command: str, value: object, introduction: Introduction) -> None:
    if isinstance(value, RedisError):
        raise _explain(command, value, introduction)
    if command == "HELLO" and not (isinstance(value, dict) and value.get(b"proto") == 3):
        raise ProtocolError("wrong RESP version: Redis does not speak RESP3; Redis 6 or newer is needed")


def _explain(command: str, error: RedisError, introduction: Introduction) -> RedisError:
    """The same error in words that say what to mend.

    The text of Redis is not simply passed on: an old server answers an unknown command with its arguments, and one of
    those of HELLO is the password.
    """
    text = str(error)
    code = text.partition(" ")[0]
    who = f"user {introduction.username!r}" if introduction.username else "the default user"
    if code == "NOAUTH":
        return AuthenticationError("NOAUTH: Redis wants a password and none is configured; set the Redis password")
    if code == "WRONGPASS":
        return AuthenticationError(f"WRONGPASS: Redis refuses the password of {who}; check user name and password")
    if isinstance(error, BusyLoadingError):
        return BusyLoadingError("LOADING: Redis is loading its data")
    if command == "HELLO" and (code == "NOPROTO" or "unknown command" in text.lower()):
        return ProtocolError("Redis does not speak RESP3; Redis 6 or newer is needed")
    if introduction.password:
        text = text.replace(introduction.password, "***")
    return ResponseError(f"{command} refused: {text[:_LONGEST_TEXT]}")
