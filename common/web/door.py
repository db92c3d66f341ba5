"""Whether a process accepts from the port: open, shut for a while, left, or closed for good.

The sockets are shared with other processes, and the kernel hands a newcomer to any of those that accept. One that
shuts its door leaves the newcomers to the others; one that leaves it does so for good, and they wait for whoever comes
after it; one that closes it no longer holds the port. Where newcomers wait for the start, nobody's `reopen` lets them
in: only `open` does, once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence


class Door:
    """Made open, unless newcomers are to wait until `open`. `run` is owned by the nursery of the sockets' tasks."""

    def __init__(self, *, waits: bool = False) -> None:
        self._waits = waits
        self._shut = False
        self._left = False
        self._closed = False
        self._turn = trio.CancelScope()

    async def run(
        self, listeners: Sequence[socket.socket], accept_from: Callable[[socket.socket], Awaitable[None]]
    ) -> None:
        """Call `accept_from` for each of `listeners` while the door is open; return when it is closed.

        Closing it closes the sockets.
        """
        while not self._closed:
            with trio.CancelScope() as self._turn:
                if not self._accepts:
                    await trio.sleep_forever()
                async with trio.open_nursery() as nursery:
                    for listener in listeners:
                        nursery.start_soon(accept_from, listener)
        for listener in listeners:
            listener.close()

    @property
    def _accepts(self) -> bool:
        return not (self._waits or self._shut or self._left)

    def open(self) -> None:
        """The start is over: who has waited for it is let in, unless it was shut or left meanwhile."""
        self._turn_to(waits=False)

    def shut(self) -> None:
        """Leave newcomers to the other processes, until `reopen`."""
        self._turn_to(shut=True)

    def reopen(self) -> None:
        """Undo `shut`."""
        self._turn_to(shut=False)

    def leave(self) -> None:
        """Shut it, whoever asks to open it again."""
        self._turn_to(left=True)

    def close(self) -> None:
        """Give the port up."""
        self._closed = True
        self._turn.cancel()

    def _turn_to(self, *, waits: bool | None = None, shut: bool | None = None, left: bool | None = None) -> None:
        accepted = self._accepts
        self._waits = self._waits if waits is None else waits
        self._shut = self._shut if shut is None else shut
        self._left = self._left if left is None else left
        if self._accepts is not accepted:
            self._turn.cancel()
