"""The only writer of one client's transport.

A `Wire` is owned by its peer and lives as long as the socket. It has four states:

held       the conversation is not open yet: frames queue behind the 101 that `open` will put in front of them
open       frames are written at once, and what the kernel does not take waits in the backlog
closing    a close frame was queued: later frames are refused without a word
finished   a write failed or was cut short, or the transport is closed: not a byte more

`send_nowait` is called from the task that reads Redis, for thousands of clients in a row; it neither blocks nor raises.
Everything slow happens in the flusher, a task in the peer's nursery that exists only while there is a backlog.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import trio

from common.disconnect import SLOW_CONSUMER, WRITE_ERROR, Disconnect

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

PIECE: Final = 16 * 1024
"""Bytes a transport without a socket is given at a time; each piece that it takes counts as progress."""


_BACKLOG_FULL: Final = "the backlog is over MAX_BACKLOG"
_STALLED: Final = "nothing was taken for WRITE_TIMEOUT"


class _State(Enum):
    HELD = auto()
    OPEN = auto()
    CLOSING = auto()
    FINISHED = auto()


# Python 3.11 looks a member up with a call of Python's own, which every frame to every client would pay for.
_HELD, _OPEN, _CLOSING, _FINISHED = _State


class Wire:
    """Writes one client's bytes, in order, from a bounded backlog.

    `stream` is the transport; `sock` is the non-blocking socket under it, or None for transports without one, for which
    everything takes the backlog. `max_backlog` is in bytes, `write_timeout` in seconds without progress. `on_end` is
    called, synchronously and once, when the wire finishes by itself; it must not hold who holds the wire.
    """

    __slots__ = (
        "_backlog",
        "_flushing",
        "_max_backlog",
        "_nursery",
        "_on_end",
        "_sock",
        "_state",
        "_stream",
        "_write_timeout",
        "backlog_bytes",
        "error",
        "frames_sent",
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        sock: socket.socket | None,
        *,
        max_backlog: int,
        write_timeout: float,
        on_end: Callable[[Disconnect], None],
    ) -> None:
        self._stream = stream
        # The object, never its descriptor's number: after a close the number belongs to somebody else.
        self._sock = sock
        self._max_backlog = max_backlog
        self._write_timeout = write_timeout
        self._on_end = on_end
        # Nearly nobody has one, and an empty deque takes 760 bytes.
        self._backlog: deque[bytes | memoryview] | None = None
        self._state = _HELD
        self._nursery: trio.Nursery | None = None
        self._flushing = False
        self.backlog_bytes = 0
        """Bytes queued here, beyond what the kernel has taken."""
        self.frames_sent = 0
        """Frames accepted for this client."""
        self.error: OSError | str | None = None
        """Why the wire finished by itself, in words: what the transport said, or which limit was met."""

    def __repr__(self) -> str:
        return f"<Wire {self._state.name.lower()} backlog={self.backlog_bytes} frames={self.frames_sent}>"

    @property
    def finished(self) -> bool:
        """Whether no further byte will be written."""
        return self._state is _FINISHED

    @property
    def closing(self) -> bool:
        """Whether the close frame was queued."""
        return self._state is _CLOSING

    def attach(self, nursery: trio.Nursery) -> None:
        """From now on a backlog is flushed by a task in `nursery`."""
        self._nursery = nursery
        self._flush_soon()

    def detach(self) -> None:
        """The nursery is about to close: a backlog waits for `drain`."""
        self._nursery = None

    def open(self, first: bytes) -> None:
        """Leave the held state: `first` (the 101) goes out before whatever was queued."""
        if self._state is not _HELD:
            return
        self._state = _OPEN
        if not self._backlog:
            self.send_nowait(first, 0)
            return
        self._backlog.appendleft(first)
        self.backlog_bytes += len(first)
        if self._sock is not None:
            self._write_some(self._sock)
        self._flush_soon()

    def send_nowait(self, data: bytes, frames: int = 1) -> None:
        """Write `data` (`frames` whole frames), or queue what the kernel does not take.

        A client whose backlog is over the limit already is ended as a slow consumer; one large message alone never does
        that (SPEC 1).
        """
        if self._state is _OPEN:
            if not self._backlog and self._sock is not None:
                try:
                    sent = self._sock.send(data)
                except (BlockingIOError, InterruptedError):
                    sent = 0
                except OSError as error:
                    self._fail(WRITE_ERROR, error)
                    return
                self.frames_sent += frames
                if sent != len(data):
                    self._queue(memoryview(data)[sent:] if sent else data)
                return
        elif self._state is not _HELD:
            return
        if self.backlog_bytes > self._max_backlog:
            self._fail(SLOW_CONSUMER, _BACKLOG_FULL)
            return
        self.frames_sent += frames
        self._queue(data)

    def close_nowait(self, close_frame: bytes) -> None:
        """Queue the close frame; nothing is accepted after it."""
        if self._state is _OPEN:
            self._queue(close_frame)
            self._state = _CLOSING

    async def drain(self) -> None:
        """Write out the backlog, ending early when the wire finishes. The caller sets the deadline."""
        await self._flush()

    def finish(self) -> None:
        """Write not a byte more, whatever is queued: the transport is about to be closed by its owner."""
        self._state = _FINISHED
        self._backlog = None
        self.backlog_bytes = 0

    def _queue(self, data: bytes | memoryview) -> None:
        if self._backlog is None:
            self._backlog = deque()
        self._backlog.append(data)
        self.backlog_bytes += len(data)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._backlog and not self._flushing and self._nursery is not None and self._state is not _HELD:
            try:
                self._nursery.start_soon(self._flush_in_nursery)
            except RuntimeError:
                # The nursery has closed in the meantime: the backlog waits for `drain`, and the caller for nothing.
                self._nursery = None
            else:
                self._flushing = True

    async def _flush_in_nursery(self) -> None:
        try:
            await self._flush()
        finally:
            self._flushing = False
            if not self._backlog:
                self._backlog = None

    async def _flush(self) -> None:
        if self._sock is None:
            await self._flush_stream()
        else:
            await self._flush_socket(self._sock)

    async def _flush_socket(self, sock: socket.socket) -> None:
        while self._backlog:
            with trio.move_on_after(self._write_timeout) as patience:
                try:
                    await trio.lowlevel.wait_writable(sock)
                except (OSError, trio.ClosedResourceError, ValueError):
                    self._fail(WRITE_ERROR)
                    return
            # The kernel calls a socket writable only when a good part of its buffer is free: after the wait has run out
            # one attempt more tells a slow client from a stalled one.
            if not self._write_some(sock) and patience.cancelled_caught:
                self._fail(SLOW_CONSUMER, _STALLED)

    def _write_some(self, sock: socket.socket) -> bool:
        """Give the kernel what it takes without waiting; return whether it took anything."""
        progress = False
        while backlog := self._backlog:
            data = backlog[0]
            try:
                sent = sock.send(data)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._fail(WRITE_ERROR, error)
                break
            progress = True
            self.backlog_bytes -= sent
            if sent == len(data):
                backlog.popleft()
            else:
                backlog[0] = memoryview(data)[sent:]
        return progress

    async def _flush_stream(self) -> None:
        while backlog := self._backlog:
            data = backlog[0]
            piece = memoryview(data)[:PIECE]
            # A cancellation that is already there must not look like one in the middle of a piece.
            await trio.lowlevel.checkpoint_if_cancelled()
            try:
                with trio.move_on_after(self._write_timeout) as patience:
                    await self._stream.send_all(piece)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._fail(WRITE_ERROR, error.__cause__ if isinstance(error.__cause__, OSError) else None)
            except trio.Cancelled:
                # Part of the piece may be on its way, so nothing may follow it.
                self.finish()
                raise
            if patience.cancelled_caught:
                self._fail(SLOW_CONSUMER, _STALLED)
            if self._state is _FINISHED:
                return
            self.backlog_bytes -= len(piece)
            if len(piece) == len(data):
                backlog.popleft()
            else:
                backlog[0] = memoryview(data)[PIECE:]

    def _fail(self, disconnect: Disconnect, error: OSError | str | None = None) -> None:
        if self._state is not _FINISHED:
            self.finish()
            # Without its traceback, whose frames hold this wire.
            self.error = error.with_traceback(None) if isinstance(error, OSError) else error
            self._on_end(disconnect)
