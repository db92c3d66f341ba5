"""The status in all its forms, its past and its changes, and what is served here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import trio
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from common.daemons import OPS
from common.version import version
from opsd.api.query import number
from opsd.endpoints import (
    DEFAULT_EVENTS,
    DEFAULT_MINUTES,
    DEFAULT_POINTS,
    ENDPOINTS,
    MOST_EVENTS,
    MOST_MINUTES,
    MOST_POINTS,
    Needs,
)
from opsd.history import HistoryUnavailableError
from opsd.openapi import openapi
from opsd.prometheus import Beside, expose
from opsd.schema import SCHEMA

if TYPE_CHECKING:
    from starlette.requests import Request as HTTPRequest

    from opsd.api.parts import Calls, Parts

HISTORY_TIMEOUT: Final = 5.0
"""Seconds that Redis may take for a piece of the past."""


class StatusApi:
    """See the module."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._board = parts.board

    def calls(self) -> Calls:
        """What answers, by the names of the table."""
        return {
            "status": self.status,
            "schema": self.schema,
            "history": self.history,
            "metrics": self.metrics,
            "own_metrics": self.own_metrics,
            "events": self.events,
            "endpoints": self.endpoints,
            "openapi": self.openapi,
        }

    async def status(self, request: HTTPRequest) -> Response:
        """The vector, where the gate has not answered it already."""
        del request
        return Response(self._board.body, media_type="application/json")

    async def schema(self, request: HTTPRequest) -> Response:
        """What every status conforms to."""
        del request
        return Response(json.dumps(SCHEMA), media_type="application/schema+json")

    async def history(self, request: HTTPRequest) -> Response:
        """The past, in at most so many points."""
        minutes = number(request, "minutes", DEFAULT_MINUTES, MOST_MINUTES)
        points = number(request, "points", DEFAULT_POINTS, MOST_POINTS)
        try:
            with trio.fail_after(HISTORY_TIMEOUT):
                found = await self._parts.history.query(minutes, points)
        except HistoryUnavailableError as error:
            raise HTTPException(503, f"no history: {error}", {"Retry-After": "5"}) from None
        except trio.TooSlowError:
            raise HTTPException(503, "no history: Redis does not answer in time", {"Retry-After": "5"}) from None
        return JSONResponse({"minutes": minutes, "points": found})

    async def metrics(self, request: HTTPRequest) -> Response:
        """The vector for Prometheus."""
        return self._exposition(request, process=False)

    async def own_metrics(self, request: HTTPRequest) -> Response:
        """The same and this process's own figures, if they are wanted."""
        if not self._parts.settings.metrics_enabled:
            raise HTTPException(404, "not found: OPS_METRICS_ENABLED is false")
        return self._exposition(request, process=True)

    async def events(self, request: HTTPRequest) -> Response:
        """What has changed, newest first."""
        limit = number(request, "limit", DEFAULT_EVENTS, MOST_EVENTS)
        return JSONResponse({"events": self._board.events()[:limit]})

    async def endpoints(self, request: HTTPRequest) -> Response:
        """What is served here and by the daemons: as many as the status says."""
        del request
        own = [{"service": OPS.name, **endpoint.document()} for endpoint in ENDPOINTS]
        daemons = [
            {"service": source, "method": "GET", "path": path, "what": "", "needs": Needs.NOTHING.value}
            for source, path in self._board.routes()
        ]
        return JSONResponse({"total": len(own) + len(daemons), "endpoints": own + daemons})

    async def openapi(self, request: HTTPRequest) -> Response:
        """The table for programs."""
        del request
        document = openapi(ENDPOINTS, version(), token_required=self._parts.guard.token_required)
        return Response(json.dumps(document), media_type="application/openapi+json")

    def _exposition(self, request: HTTPRequest, *, process: bool) -> Response:
        body, content_type = expose(
            self._board.status,
            Beside(
                history_up=self._parts.history.working,
                cpu_seconds=self._board.cpu_seconds,
                sources=self._board.source_names,
                alerts=self._parts.alerts,
            ),
            request.headers.get("accept", ""),
            process=process,
        )
        return Response(body, headers={"Content-Type": content_type})
