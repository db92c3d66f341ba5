"""A socket that has just been accepted, and how one is left to whom an answer was written."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.web.turns import USUAL_SIZE

if TYPE_CHECKING:
    import socket

    from common.web.forwarded import IPAddress
    from common.web.turns import Turns

LINGER: Final = 1.0
"""Seconds that a client has to take its answer before the socket is closed."""

LINGER_LIMIT: Final = 1 << 20
"""Bytes of such a client that are read and thrown away."""

_PIECE: Final = 16 * 1024


@attrs.frozen
class Accepted:
    """An accepted socket: its stream, the socket under it, if any, and its other end's address, None if it has none.

    It is its task's, which closes the stream.
    """

    stream: trio.abc.HalfCloseableStream
    sock: socket.socket | None
    address: IPAddress | None


async def linger(accepted: Accepted, turns: Turns) -> None:
    """Read what the client still sends, in turn if it is much.

    Closing over unread bytes would reset the connection, and the answer with it.
    """
    discarded = 0
    with trio.move_on_after(LINGER), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while discarded < LINGER_LIMIT and (unread := await accepted.stream.receive_some(_PIECE)):
            discarded += len(unread)
            if len(unread) > USUAL_SIZE:
                await turns.wait()
