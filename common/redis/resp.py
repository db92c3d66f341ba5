"""RESP3, sans-I/O: bytes from Redis become values, commands become bytes.

A `RespParser` belongs to one connection and ends with it. hiredis does the work; what is added here is what it leaves
open:

- "nothing yet" is a sentinel of ours, since RESP3's false is a value like any other;
- an error reply is a value (a redis-py exception, not raised); a protocol error is raised, and the parser is spent;
- a reply that never ends is given up: hiredis would buffer it for ever. Its own `len()` does not tell, because it
  forgets the finished elements of an unfinished array, so the bytes since the last complete value are counted here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import hiredis

from common.redis.errors import ProtocolError, from_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PushNotification = hiredis.PushNotification
"""The type of a push. It is a list subclass: only `type(value) is PushNotification` tells it from an array reply."""

REPLY_LIMIT: Final = 64 << 20
"""Bytes of one unfinished reply. Redis itself ends a subscriber that has 32 MB waiting for it (its default)."""

_NOTHING: Final = object()

# Its stub says "a tuple of one", and no result.
_pack: Final = cast("Callable[[tuple[bytes | str | int, ...]], bytes]", hiredis.pack_command)


class RespParser:
    """Bytes in, complete values out, in order; `reply_limit` bounds what is kept of an unfinished one, in bytes."""

    __slots__ = ("_failure", "_reader", "_reply_limit", "_unfinished")

    def __init__(self, reply_limit: int = REPLY_LIMIT) -> None:
        self._reader = hiredis.Reader(protocolError=ProtocolError, replyError=from_reply, notEnoughData=_NOTHING)
        self._reply_limit = reply_limit
        self._unfinished = 0
        self._failure: str | None = None

    @property
    def unfinished(self) -> int:
        """Bytes taken for a value that is not complete; up to 1 KB of the one before it may be counted in."""
        return self._unfinished

    def feed(self, data: bytes | bytearray) -> None:
        """Take the next bytes; `values` then yields what they completed."""
        self._unfinished += len(data)
        self._reader.feed(bytes(data))

    def values(self) -> Iterator[object]:
        """Every value that is complete now. Values before broken bytes are yielded before the error is raised.

        Raises `ProtocolError` for bytes that are not RESP and for a reply over the limit, and from then on for ever.
        """
        if self._failure is not None:
            raise ProtocolError(self._failure)
        reader = self._reader
        gets = reader.gets
        complete = False
        try:
            while (value := gets()) is not _NOTHING:
                complete = True
                yield value
        except ProtocolError as error:
            self._failure = f"not a Redis reply: {error}"
            raise ProtocolError(self._failure) from None
        except TypeError:
            # hiredis makes a dict of a map whatever its keys are.
            self._failure = "not a Redis reply: a map whose key is an array or a map"
            raise ProtocolError(self._failure) from None
        except MemoryError:
            self._failure = "not a Redis reply: it declares more elements than memory can hold"
            raise ProtocolError(self._failure) from None
        if complete:
            self._unfinished = reader.len() if reader.has_data() else 0
        if self._unfinished > self._reply_limit:
            self._failure = f"a reply larger than {self._reply_limit} bytes"
            raise ProtocolError(self._failure)


def encode(*args: bytes | str | int) -> bytes:
    """One command as Redis reads it: an array of byte strings."""
    return _pack(args)
