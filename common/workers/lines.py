"""JSON lines between the parent and one worker.

Each side owns its end and closes it; the other side then reads the end of the messages. That is how a worker learns
that its parent is gone, whatever became of it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

LINE_LIMIT: Final = 4 << 20
"""Bytes of one message; a report of a worker's metrics has some ten thousand."""

SEND_TIMEOUT: Final = 2.0
"""Seconds after which a side that takes nothing counts as gone."""


class ChannelError(Exception):
    """The other side is gone, hangs, or does not keep to the protocol."""


class GoneError(ChannelError):
    """The other side is gone, or takes nothing, which is the same."""


class Lines:
    """One end. Messages are JSON objects, delivered in order."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._sending = trio.Lock()

    async def send(self, message: Mapping[str, object]) -> None:
        """Send one message. Raises `GoneError`.

        A message that has been begun is sent to its end even if the caller is cancelled meanwhile: after half a line
        nothing could follow, and a worker without its channel ends.
        """
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        deadline = trio.current_time() + SEND_TIMEOUT
        try:
            with trio.fail_at(deadline):
                await self._sending.acquire()
        except trio.TooSlowError as error:
            raise GoneError("the other side takes nothing") from error
        try:
            with trio.CancelScope(shield=True, deadline=deadline) as saying:
                await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise GoneError("the other side is gone") from error
        finally:
            self._sending.release()
        if saying.cancelled_caught:
            await self.aclose()
            raise GoneError("the other side takes nothing")

    async def messages(self) -> AsyncGenerator[dict[str, object]]:
        """Every message until the other side closes. Raises `ChannelError`."""
        buffer = bytearray()
        while True:
            try:
                data = await self._stream.receive_some(65536)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                return
            buffer += data
            *lines, rest = buffer.split(b"\n")
            buffer = bytearray(rest)
            if len(buffer) > LINE_LIMIT:
                raise ChannelError("a message is too long")
            for line in lines:
                try:
                    message = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise ChannelError("not JSON") from error
                if not isinstance(message, dict):
                    raise ChannelError("not an object")
                yield message

    async def aclose(self) -> None:
        """Close this end, at once."""
        await trio.aclose_forcefully(self._stream)
