"""The routes of the application: the table `opsd.endpoints`, each with what answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route, WebSocketRoute

from opsd.api.health import HealthApi
from opsd.api.page import PageApi
from opsd.api.status import StatusApi
from opsd.api.tmux import TmuxApi
from opsd.api.workers import WorkersApi
from opsd.endpoints import ENDPOINTS
from opsd.live import Live

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from opsd.api.parts import Calls, Parts


def make_routes(parts: Parts) -> list[BaseRoute]:
    """All of the table."""
    live, calls = Live(parts.board, parts.closing), make_calls(parts)
    return [
        WebSocketRoute(endpoint.path, live.serve)
        if endpoint.method == "WS"
        else Route(endpoint.path, calls[endpoint.call], methods=[endpoint.method])
        for endpoint in ENDPOINTS
    ]


def make_calls(parts: Parts) -> Calls:
    """What answers, but for the WebSocket."""
    subjects = (StatusApi(parts), WorkersApi(parts), TmuxApi(parts), PageApi(parts), HealthApi(parts))
    return {name: call for subject in subjects for name, call in subject.calls().items()}
