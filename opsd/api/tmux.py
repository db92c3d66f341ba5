"""The local tmux, and the session of the platform's own daemons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from opsd.tmux.errors import TmuxConflictError, TmuxError, TmuxUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request as HTTPRequest

    from opsd.api.parts import Calls, Parts
    from opsd.tmux.status import TmuxStatus


class TmuxApi:
    """See the module."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def calls(self) -> Calls:
        """What answers, by the names of the table."""
        return {
            "tmux_status": self.tmux_status,
            "tmux_start": self.tmux_start,
            "tmux_stop": self.tmux_stop,
        }

    async def tmux_status(self, request: HTTPRequest) -> Response:
        """What runs in the local tmux."""
        del request
        return JSONResponse((await self._parts.tmux.status()).document())

    async def tmux_start(self, request: HTTPRequest) -> Response:
        """Start the platform's own daemons."""
        del request
        windows = self._parts.windows
        if not windows:
            raise HTTPException(409, "OPS_TARGETS names no daemon of this machine, so there is nothing to start")
        return await _changed(lambda: self._parts.tmux.start(windows))

    async def tmux_stop(self, request: HTTPRequest) -> Response:
        """Stop them."""
        del request
        return await _changed(self._parts.tmux.stop)


async def _changed(change: Callable[[], Awaitable[TmuxStatus]]) -> Response:
    try:
        return JSONResponse((await change()).document())
    except TmuxConflictError as error:
        raise HTTPException(409, str(error)) from None
    except TmuxUnavailableError as error:
        raise HTTPException(503, str(error)) from None
    except TmuxError as error:
        raise HTTPException(502, str(error)) from None
