"""The HTTP API: each endpoint reads what others keep ready, so that no answer waits for a source.

An `Api` lives as long as the application that it is made for. Who may call what is decided before (`opsd.app`).
"""

from __future__ import annotations

import json
from contextlib import aclosing
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final, Protocol

import attrs
import trio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from opsd.auth import UNAUTHORIZED, Request
from opsd.exposition import expose
from opsd.history import HistoryUnavailableError
from opsd.live import Live
from opsd.pages import INDEX
from opsd.schema import SCHEMA
from opsd.sources.source import SnapshotError
from opsd.tmux import TmuxConflictError, TmuxError, TmuxUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request as HTTPRequest
    from starlette.routing import BaseRoute

    from opsd.auth import Guard
    from opsd.board import Board
    from opsd.pages import Page
    from opsd.settings import OpsSettings
    from opsd.tmux import TmuxStatus, Window

ROUTES: Final = 19
"""How many there are: the status counts them."""

STATUS: Final = "/api/dev/status"
LOGIN: Final = "/api/login"
CONFIG: Final = "/api/dev/config"

LARGEST_BODY: Final = 8192
"""Bytes of a request; only a login has any."""

BODY_TIMEOUT: Final = 5.0
HISTORY_TIMEOUT: Final = 5.0

DEFAULT_MINUTES: Final = 60
MOST_MINUTES: Final = 31 * 24 * 60
DEFAULT_POINTS: Final = 300
MOST_POINTS: Final = 2000
DEFAULT_EVENTS: Final = 100
MOST_EVENTS: Final = 500

STATUS_PORT: Final = 9002
PREFLIGHT_PORT: Final = 9001


class Records(Protocol):
    """Where the past is kept."""

    async def query(self, minutes: int, points: int) -> Sequence[Mapping[str, object]]:
        """Raises HistoryUnavailableError."""


class Terminals(Protocol):
    """The local tmux."""

    async def status(self) -> TmuxStatus:
        """See `opsd.tmux.Tmux`."""

    async def start(self, windows: Sequence[Window]) -> TmuxStatus:
        """See `opsd.tmux.Tmux`."""

    async def stop(self) -> TmuxStatus:
        """See `opsd.tmux.Tmux`."""


@attrs.frozen(kw_only=True)
class Parts:
    """What the application is made of."""

    settings: OpsSettings
    board: Board
    history: Records
    tmux: Terminals
    windows: tuple[Window, ...]
    """Those of the session that may be started."""
    guard: Guard
    pages: Mapping[str, Page]
    closing: trio.Event
    """Set when the daemon ends: WebSockets must go."""


class Api:
    """The endpoints of one application."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._board = parts.board
        self._guard = parts.guard
        self._live = Live(parts.board, parts.closing)
        self._version = _version()

    def routes(self) -> list[BaseRoute]:
        """All of them, `ROUTES` in number; a GET serves HEAD too."""
        return [
            Route(STATUS, self.status),
            Route("/api/dev/status/schema", self.schema),
            WebSocketRoute("/api/dev/status/live", self._live.serve),
            Route("/api/dev/status/history", self.history),
            Route("/api/dev/metrics", self.metrics),
            Route("/api/dev/events", self.events),
            Route("/api/dev/workers", self.workers),
            Route("/api/workers/snapshot/{worker}", self.snapshot),
            Route("/api/dev/tmux/status", self.tmux_status),
            Route("/api/dev/tmux/start", self.tmux_start, methods=["POST"]),
            Route("/api/dev/tmux/stop", self.tmux_stop, methods=["POST"]),
            Route(CONFIG, self.config),
            Route(LOGIN, self.login, methods=["POST"]),
            Route("/api/logout", self.logout, methods=["POST"]),
            Route("/health", self.health),
            Route("/health/live", self.alive),
            Route("/metrics", self.own_metrics),
            Route("/", self.index),
            Route("/web/{name:path}", self.file),
        ]

    # -- the status ---------------------------------------------------------------------------------------------------

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
        minutes = _number(request, "minutes", DEFAULT_MINUTES, MOST_MINUTES)
        points = _number(request, "points", DEFAULT_POINTS, MOST_POINTS)
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
        limit = _number(request, "limit", DEFAULT_EVENTS, MOST_EVENTS)
        return JSONResponse({"events": self._board.events()[:limit]})

    # -- workers ------------------------------------------------------------------------------------------------------

    async def workers(self, request: HTTPRequest) -> Response:
        """Every worker of every source."""
        del request
        workers = self._board.workers()
        meta = self._board.status.meta
        return JSONResponse(
            {
                "connected": len(workers),
                "telemetryStatus": meta.telemetry_status,
                "unavailable": list(meta.unavailable),
                "workers": workers,
            }
        )

    async def snapshot(self, request: HTTPRequest) -> Response:
        """A worker's state as a file: JSON, compressed on the way; for who can't undo that, a compressed file."""
        try:
            snapshot = await self._board.snapshot(request.path_params["worker"])
        except SnapshotError as error:
            raise HTTPException(error.status, error.text) from None
        if _takes_gzip(request.headers.get("accept-encoding", "")):
            name, content_type, encoding = snapshot.filename, "application/json", {"Content-Encoding": "gzip"}
        else:
            name, content_type, encoding = f"{snapshot.filename}.gz", "application/gzip", {}
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Vary": "Accept-Encoding", **encoding}
        return Response(snapshot.body, headers=headers, media_type=content_type)

    # -- tmux ---------------------------------------------------------------------------------------------------------

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

    # -- the page, and who looks at it --------------------------------------------------------------------------------

    async def config(self, request: HTTPRequest) -> Response:
        """What the page needs to know; a stranger learns that a token is needed."""
        head = parse_head(request)
        logged_in = self._guard.knows(head)
        answer: dict[str, object] = {"tokenRequired": self._guard.token_required, "loggedIn": logged_in}
        if logged_in:
            status, preflight = websocket_urls(self._parts.settings, head)
            answer |= {"statusWsUrl": status, "preflightWsUrl": preflight, "version": self._version}
        return JSONResponse(answer)

    async def login(self, request: HTTPRequest) -> Response:
        """Trade the token for a cookie."""
        if not self._guard.admit_login():
            raise HTTPException(429, "too many attempts", {"Retry-After": "1"})
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "JSON is needed")
        token = _token(await _body(request))
        if self._guard.token_required and not self._guard.is_token(token):
            raise HTTPException(401, "not the token", dict(UNAUTHORIZED.headers))
        cookies = {"Set-Cookie": self._guard.new_cookie(parse_head(request))} if self._guard.token_required else {}
        return Response(status_code=204, headers=cookies)

    async def logout(self, request: HTTPRequest) -> Response:
        """End the session."""
        return Response(status_code=204, headers={"Set-Cookie": self._guard.end_session(parse_head(request))})

    async def index(self, request: HTTPRequest) -> Response:
        """The page."""
        return self._page(request, INDEX)

    async def file(self, request: HTTPRequest) -> Response:
        """What the page loads."""
        return self._page(request, request.path_params["name"])

    # -- for machines -------------------------------------------------------------------------------------------------

    async def health(self, request: HTTPRequest) -> Response:
        """Ready when every source has been asked once, and until the end."""
        del request
        if self._parts.closing.is_set():
            raise HTTPException(503, "ending")
        if not self._board.ready:
            raise HTTPException(503, "sources not asked yet")
        meta = self._board.status.meta
        return JSONResponse(
            {"status": "ok", "telemetryStatus": meta.telemetry_status, "unavailable": list(meta.unavailable)}
        )

    async def alive(self, request: HTTPRequest) -> Response:
        """Alive when it answers."""
        del request
        return JSONResponse({"status": "ok"})

    def _page(self, request: HTTPRequest, name: str) -> Response:
        page = self._parts.pages.get(name)
        if page is None:
            raise HTTPException(404, "not found")
        headers = {"ETag": page.etag}
        asked = request.headers.get("if-none-match", "")
        if page.etag in (tag.strip().removeprefix("W/") for tag in asked.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(page.body, headers={**headers, "Content-Type": page.content_type})

    def _exposition(self, request: HTTPRequest, *, process: bool) -> Response:
        body, content_type = expose(self._board.status, request.headers.get("accept", ""), process=process)
        return Response(body, headers={"Content-Type": content_type})


def parse_head(request: HTTPRequest) -> Request:
    """The head that decides."""
    scope = request.scope
    client = scope.get("client")
    remote = client[0] if client else None
    return Request.parse(scope["method"], scope["path"], scope["headers"], remote, websocket=False)


def websocket_urls(settings: OpsSettings, head: Request) -> tuple[str, str]:
    """Where a browser finds statusd and preflightd: as configured, or on the page's own host."""
    authority = head.authority
    host = "localhost" if authority is None else authority[0]
    scheme = "wss" if (head.header("x-forwarded-proto") or "").lower() == "https" else "ws"
    return (
        settings.status_ws_url or f"{scheme}://{host}:{STATUS_PORT}",
        settings.preflight_ws_url or f"{scheme}://{host}:{PREFLIGHT_PORT}",
    )


async def _changed(change: Callable[[], Awaitable[TmuxStatus]]) -> Response:
    try:
        return JSONResponse((await change()).document())
    except TmuxConflictError as error:
        raise HTTPException(409, str(error)) from None
    except TmuxUnavailableError as error:
        raise HTTPException(503, str(error)) from None
    except TmuxError as error:
        raise HTTPException(502, str(error)) from None


async def _body(request: HTTPRequest) -> bytes:
    length = request.headers.get("content-length", "0")
    if len(length) > 9 or int(length) > LARGEST_BODY:
        raise HTTPException(413, "too large")
    body = b""
    try:
        with trio.move_on_after(BODY_TIMEOUT) as deadline:
            async with aclosing(request.stream()) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > LARGEST_BODY:
                        raise HTTPException(413, "too large")
    except ClientDisconnect:
        raise HTTPException(400, "the request was cut short") from None
    if deadline.cancelled_caught:
        raise HTTPException(408, "the request did not come in time")
    return body


def _token(body: bytes) -> bytes:
    try:
        document: object = json.loads(body)
        token = document.get("token") if isinstance(document, dict) else None
        if not isinstance(token, str):
            raise HTTPException(400, 'not {"token": "…"}')
        return token.encode()
    except (ValueError, RecursionError):
        raise HTTPException(400, "not JSON") from None


def _number(request: HTTPRequest, name: str, default: int, largest: int) -> int:
    """A whole number from 1 to `largest` in the query, given at most once."""
    values = request.query_params.getlist(name)
    if not values:
        return default
    text = values[0]
    if len(values) > 1 or not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= largest):
        raise HTTPException(400, f"{name} is a whole number from 1 to {largest}")
    return int(text)


def _takes_gzip(accepted: str) -> bool:
    for item in accepted.lower().split(","):
        coding, _, weight = item.partition(";")
        if coding.strip() in {"gzip", "*"}:
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


def _version() -> str:
    try:
        return version("run-status-daemons")
    except PackageNotFoundError:
        return "unknown"
