"""The live WebSocket: every client gets each status as soon as it is there.

One task a client sends, always the newest: who is slow skips versions instead of collecting them. Another reads, since
that is how a client's end is noticed. Both end with the client, or with the daemon (1001). A write that makes no
progress is ended by the connection it is made on (`opsd.serve`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
from starlette.websockets import WebSocket, WebSocketDisconnect

if TYPE_CHECKING:
    from opsd.board import Board

GOING_AWAY: Final = 1001
TRY_AGAIN_LATER: Final = 1013

MOST_CLIENTS: Final = 200


class Live:
    """Serves the clients of one board until `closing` is set."""

    def __init__(self, board: Board, closing: trio.Event) -> None:
        self._board = board
        self._closing = closing
        self._clients = 0

    async def serve(self, websocket: WebSocket) -> None:
        """One client's conversation."""
        await websocket.accept()
        if self._clients >= MOST_CLIENTS:
            await websocket.close(TRY_AGAIN_LATER, "too many clients")
            return
        self._clients += 1
        try:
            code = await self._converse(websocket)
        finally:
            self._clients -= 1
        if code is not None:
            await websocket.close(code)

    async def _converse(self, websocket: WebSocket) -> int | None:
        """Send until one side ends it; return the code to close with, None when the client has left."""
        code: int | None = None
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                # What a client says has no meaning here; it is read so that pings and the close are answered.
                while (await websocket.receive())["type"] != "websocket.disconnect":
                    pass
                nursery.cancel_scope.cancel()

            async def close() -> None:
                nonlocal code
                await self._closing.wait()
                code = GOING_AWAY
                nursery.cancel_scope.cancel()

            nursery.start_soon(read)
            nursery.start_soon(close)
            try:
                while True:
                    version = self._board.version
                    await websocket.send_text(self._board.body.decode())
                    await self._board.wait_newer(version)
            except WebSocketDisconnect:
                nursery.cancel_scope.cancel()
        return code
