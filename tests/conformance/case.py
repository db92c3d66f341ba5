"""What a case is, and the bytes that cases are made of. Pure."""

from __future__ import annotations

import math
import struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from tests.support.client import CLOSE, CONTINUATION, PONG, frame

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BREACH_TIMEOUT: Final = 1.0
"""Seconds until a connection whose client broke a rule is let go, if the client does not end it itself."""


@attrs.frozen
class End:
    """What becomes of the conversation: the close frame that the server sends, and of TCP.

    `eof_after` are the seconds from the last byte sent to the end of the server's, `gone_after` to the moment when it
    lets go of both directions although the client has ended nothing.
    """

    reason: str
    """As in the log and the metric's label; empty while the conversation goes on."""
    close: bytes
    eof_after: float
    gone_after: float


@attrs.frozen
class Case:
    """Bytes of a client, one write each, and what is seen of the server: the bytes of its `answers`, and the `end`.

    The answers hold everything behind the greeting and before the close frame. With `leaves` the client ends its bytes
    behind the last. `headers` are added to the handshake.
    """

    id: str
    what: str
    sends: tuple[bytes, ...]
    answers: bytes
    end: End
    leaves: bool = False
    headers: Mapping[str, str] = MappingProxyType({})

    @property
    def size(self) -> int:
        """Bytes that the client sends."""
        return sum(map(len, self.sends))


LIVES: Final = End("", b"", math.inf, math.inf)
"""The conversation goes on, and the next ping is answered."""

GONE: Final = End("client_gone", b"", 0.0, 0.0)
"""There is nobody to be told anything."""


def served(opcode: int, payload: bytes) -> bytes:
    """A server's frame: whole and without a mask."""
    return frame(opcode, payload, mask=None)


def pong(payload: bytes = b"") -> bytes:
    """The answer to a ping."""
    return served(PONG, payload)


def echoed(payload: bytes = b"") -> End:
    """The client's close frame is answered in kind, and the server ends TCP at once (RFC 6455, section 7.1.1)."""
    return End("client_closed", served(CLOSE, payload), 0.0, 0.0)


def breach(code: int, reason: str = "protocol_error") -> End:
    """The server fails the connection (RFC 6455, section 7.1.7) and ends its side at once."""
    return End(reason, served(CLOSE, struct.pack("!H", code) + reason.encode()), 0.0, BREACH_TIMEOUT)


PROTOCOL_ERROR: Final = breach(1002)
INVALID_TEXT: Final = breach(1007)
TOO_BIG: Final = breach(1009, "message_too_big")


def case(
    id: str,  # noqa: A002 - what the suite calls it
    what: str,
    *sends: bytes,
    answers: bytes = b"",
    end: End = LIVES,
    leaves: bool = False,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Case:
    """One row of a table."""
    return Case(id, what, sends, answers, end, leaves, headers)


def chops(data: bytes, size: int = 1) -> tuple[bytes, ...]:
    """The same bytes in writes of `size`."""
    return tuple(data[at : at + size] for at in range(0, len(data), size))


def fragments(opcode: int, parts: Sequence[bytes]) -> tuple[bytes, ...]:
    """One message in several frames."""
    return tuple(
        frame(CONTINUATION if index else opcode, part, fin=index == len(parts) - 1) for index, part in enumerate(parts)
    )


def close_payload(code: int, reason: bytes = b"") -> bytes:
    """What is in a close frame."""
    return struct.pack("!H", code) + reason


def raw(first: int, second: int, rest: bytes = b"") -> bytes:
    """A frame that no helper would make: its first two bytes as they are, and what follows."""
    return bytes((first, second)) + rest
