"""Whether opsd is ready, and whether it lives, for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from starlette.requests import Request as HTTPRequest

    from opsd.api.parts import Calls, Parts


class HealthApi:
    """See the module."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._board = parts.board

    def calls(self) -> Calls:
        """What answers, by the names of the table."""
        return {
            "health": self.health,
            "alive": self.alive,
        }

    async def health(self, request: HTTPRequest) -> Response:
        """Ready when every source has been asked once, and until the end; without a history everything else goes on."""
        del request
        if self._parts.closing.is_set():
            raise HTTPException(503, "ending")
        if not self._board.ready:
            raise HTTPException(503, "sources not asked yet")
        meta = self._board.status.meta
        return JSONResponse(
            {
                "status": "ok",
                "telemetryStatus": meta.telemetry_status,
                "unavailable": list(meta.unavailable),
                "history": "ok" if self._parts.history.working else "down",
            }
        )

    async def alive(self, request: HTTPRequest) -> Response:
        """Alive when it answers."""
        del request
        return JSONResponse({"status": "ok"})
