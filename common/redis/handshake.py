"""The first words on a new connection: who we are, which protocol, which database, and whether Redis is ready.

Its commands go in one write, so that a reconnect costs one round trip. It runs before anyone else uses the stream and
is over when their answers are in; what is left on the wire after that belongs to whoever uses the connection.

HELLO's answer also says which part the server plays, and needs no right of the user's: `ROLE_QUESTION` asks it again at
any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.quote import quote
from common.redis.errors import (
    AuthenticationError,
    BusyLoadingError,
    ProtocolError,
    RedisConnectionError,
    RedisError,
    ResponseError,
)
from common.redis.resp import PushNotification, encode
from common.redis.transport import explain_broken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.redis.resp import RespParser
    from common.redis.transport import Steps

RECEIVE_SIZE: Final = 65536
COMMANDS: Final = frozenset({"HELLO", "SELECT", "PING"})
"""The names of what may be said; as steps of opening a connection they are the answers that are awaited."""

ROLE_QUESTION: Final = ("HELLO", 3)
"""What is answered like the first HELLO, and changes nothing on a connection that has had its own."""

_TLS_ALERT: Final = b"\x15\x03"
"""How a TLS server begins its answer to what is no TLS, if it answers (RFC 8446, 5.1)."""

PRIMARY: Final = "master"
REPLICA: Final = "replica"
"""The parts that HELLO's answer names."""


def role_of(answer: object) -> str | None:
    """`PRIMARY` or `REPLICA`, from the answer to HELLO; None where it does not say (a proxy)."""
    role = answer.get(b"role") if isinstance(answer, dict) else None
    known = {b"master": PRIMARY, b"replica": REPLICA, b"slave": REPLICA}
    return known.get(role) if isinstance(role, bytes) else None


@attrs.frozen(kw_only=True)
class Introduction:
    """What Redis is told: the user, the name that `CLIENT LIST` shows, the database."""

    client_name: str
    db: int
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)

    def commands(self) -> list[list[str | int]]:
        """What is said. Every connection begins in database 0, which a user of the least rights need not SELECT."""
        hello: list[str | int] = ["HELLO", 3]
        if self.username or self.password:
            hello += ["AUTH", self.username or "default", self.password or ""]
        hello += ["SETNAME", self.client_name]
        select: list[list[str | int]] = [["SELECT", self.db]] if self.db else []
        return [hello, *select, ["PING"]]


async def shake_hands(
    stream: trio.abc.Stream, parser: RespParser, introduction: Introduction, steps: Steps, *, hint: str = ""
) -> str | None:
    """Introduce ourselves, check the answers, and return the server's role (`role_of`).

    `hint` completes the message where the other side ends without a word, or with one that is TLS's.
    It has no deadline of its own; `steps` is told which answer is awaited. Raises `AuthenticationError`,
    `BusyLoadingError`, `ProtocolError` (RESP3 is not spoken there, or not RESP at all), `ResponseError` (any other
    error of Redis), `RedisConnectionError`. No message contains the password. The stream is the caller's to close,
    whatever happened.
    """
    commands = introduction.commands()
    waiting_for = [str(command[0]) for command in commands]
    answers: list[object] = []
    heard = b""
    try:
        steps.enter(waiting_for[0])
        await stream.send_all(b"".join(encode(*command) for command in commands))
        while waiting_for:
            steps.enter(waiting_for[0])
            data = await stream.receive_some(RECEIVE_SIZE)
            if not data:
                raise RedisConnectionError(f"closed by Redis during the handshake{'' if heard else hint}")
            heard = heard or bytes(data[: len(_TLS_ALERT)])
            if heard == _TLS_ALERT:
                raise ProtocolError(f"not a Redis reply: it speaks TLS{hint}")
            answers += _take_answers(data, parser, introduction, waiting_for)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise RedisConnectionError(f"{explain_broken(error)} during the handshake{'' if heard else hint}") from error
    return role_of(answers[0])


def _take_answers(
    data: bytes | bytearray, parser: RespParser, introduction: Introduction, waiting_for: list[str]
) -> Iterator[object]:
    """Check and yield the answers that `data` completes, and strike their commands off `waiting_for`."""
    parser.feed(data)
    for value in parser.values():
        if type(value) is PushNotification:
            continue
        if not waiting_for:
            raise ProtocolError("an answer to nothing that was asked")
        _check(waiting_for.pop(0), value, introduction)
        yield value


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
    return ResponseError(f"{command} refused: {quote(text)}")
