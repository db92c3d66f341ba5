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

from common.daemons import OPS, PREFLIGHT, STATUS
from common.web.path import BadPath, Name
from opsd.alerts import Outcomes
from opsd.auth import UNAUTHORIZED, Request
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
from opsd.exposition import Beside, expose
from opsd.history import HistoryUnavailableError
from opsd.live import Live
from opsd.openapi import openapi
from opsd.pages import INDEX
from opsd.schema import SCHEMA
from opsd.sources.source import SnapshotError
from opsd.thresholds import THRESHOLDS
from opsd.tmux.errors import TmuxConflictError, TmuxError, TmuxUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request as HTTPRequest
    from starlette.routing import BaseRoute

    from opsd.auth import Guard
    from opsd.board import Board
    from opsd.pages import Page
    from opsd.settings import OpsSettings
    from opsd.tmux.script import Window
    from opsd.tmux.status import TmuxStatus
    from opsd.viewers import Count

LARGEST_BODY: Final = 8192
"""Bytes of a request; only a login has any."""

BODY_TIMEOUT: Final = 5.0
HISTORY_TIMEOUT: Final = 5.0

VIEWERS_TIMEOUT: Final = 5.0
"""Seconds until a question for viewers is given up; each source has less."""

RUN_ID: Final = Name("run id", "A-Za-z0-9_.;-")
CHANNEL: Final = Name("channel", "A-Za-z0-9_.-")


class Records(Protocol):
    """Where the past is kept."""

    @property
    def working(self) -> bool:
        """Whether the last sample was recorded."""

    async def query(self, minutes: int, points: int) -> Sequence[Mapping[str, object]]:
        """Raises HistoryUnavailableError."""


class Counting(Protocol):
    """Who knows how many clients follow something."""

    async def count(self, daemon: str, name: str) -> Count:
        """See `opsd.viewers.Viewers`."""


class Terminals(Protocol):
    """The local tmux."""

    async def status(self) -> TmuxStatus:
        """See `opsd.tmux.session.Tmux`."""

    async def start(self, windows: Sequence[Window]) -> TmuxStatus:
        """See `opsd.tmux.session.Tmux`."""

    async def stop(self) -> TmuxStatus:
        """See `opsd.tmux.session.Tmux`."""


@attrs.frozen(kw_only=True)
class Parts:
    """What the application is made of."""

    settings: OpsSettings
    board: Board
    history: Records
    viewers: Counting
    tmux: Terminals
    windows: tuple[Window, ...]
    """Those of the session that may be started."""
    guard: Guard
    pages: Mapping[str, Page]
    closing: trio.Event
    """Set when the daemon ends: WebSockets must go."""
    alerts: Outcomes = attrs.field(factory=Outcomes)


class Api:
    """The endpoints of one application."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._board = parts.board
        self._guard = parts.guard
        self._live = Live(parts.board, parts.closing)
        self._version = _version()

    def routes(self) -> list[BaseRoute]:
        """All of the table `opsd.endpoints`."""
        calls = self._calls()
        return [
            WebSocketRoute(endpoint.path, self._live.serve)
            if endpoint.method == "WS"
            else Route(endpoint.path, calls[endpoint.call], methods=[endpoint.method])
            for endpoint in ENDPOINTS
        ]

    def _calls(self) -> Mapping[str, Callable[[HTTPRequest], Awaitable[Response]]]:
        """What answers, by the name that the table has for it."""
        return {
            "status": self.status,
            "schema": self.schema,
            "history": self.history,
            "metrics": self.metrics,
            "events": self.events,
            "endpoints": self.endpoints,
            "openapi": self.openapi,
            "viewers": self.viewers,
            "workers": self.workers,
            "snapshot": self.snapshot,
            "tmux_status": self.tmux_status,
            "tmux_start": self.tmux_start,
            "tmux_stop": self.tmux_stop,
            "config": self.config,
            "login": self.login,
            "logout": self.logout,
            "health": self.health,
            "alive": self.alive,
            "own_metrics": self.own_metrics,
            "index": self.index,
            "file": self.file,
        }

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
        document = openapi(ENDPOINTS, self._version, token_required=self._guard.token_required)
        return Response(json.dumps(document), media_type="application/openapi+json")

    async def viewers(self, request: HTTPRequest) -> Response:
        """How many clients follow a run's log and its checklist."""
        run, channel = _name(request, RUN_ID, "run"), _optional_name(request, CHANNEL, "channel")
        counts: dict[str, object] = {"log": None}

        async def count(what: str, daemon: str, name: str) -> None:
            counts[what] = (await self._parts.viewers.count(daemon, name)).document()

        with trio.move_on_after(VIEWERS_TIMEOUT) as deadline:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(count, "checklist", PREFLIGHT.name, run)
                if channel is not None:
                    nursery.start_soon(count, "log", STATUS.name, f"{run}:{channel}")
        if deadline.cancelled_caught:
            raise HTTPException(503, "the daemons did not answer in time", {"Retry-After": "5"})
        return JSONResponse({"run": run, "channel": channel, **counts})

    # -- workers ------------------------------------------------------------------------------------------------------

    async def workers(self, request: HTTPRequest) -> Response:
        """Every worker of every source, and how each source is."""
        del request
        workers = self._board.workers()
        meta = self._board.status.meta
        return JSONResponse(
            {
                "connected": len(workers),
                "telemetryStatus": meta.telemetry_status,
                "unavailable": list(meta.unavailable),
                "sources": self._board.sources(),
                "workers": workers,
            }
        )

    async def snapshot(self, request: HTTPRequest) -> Response:
        """A worker's state as a file: JSON, compressed on the way; for who can't undo that, a compressed file."""
        try:
            snapshot = await self._board.snapshot(request.path_params["worker"])
        except SnapshotError as error:
            headers = None if error.retry_after is None else {"Retry-After": str(error.retry_after)}
            raise HTTPException(error.status, error.text, headers) from None
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
            answer["thresholds"] = THRESHOLDS
        return JSONResponse(answer)

    async def login(self, request: HTTPRequest) -> Response:
        """Trade the token for a cookie."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "JSON is needed")
        token, head = _token(await _body(request)), parse_head(request)
        if not self._guard.token_required:
            return Response(status_code=204)
        refusal = self._guard.refuse_tokens(head, [token])
        if refusal is not None:
            error = "not the token" if refusal is UNAUTHORIZED else refusal.error
            raise HTTPException(refusal.status, error, dict(refusal.headers))
        cookies = {"Set-Cookie": self._guard.new_cookie(head)}
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
        settings.status_ws_url or f"{scheme}://{host}:{STATUS.port}",
        settings.preflight_ws_url or f"{scheme}://{host}:{PREFLIGHT.port}",
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


def _optional_name(request: HTTPRequest, kind: Name, key: str) -> str | None:
    """A name in the query, given at most once."""
    return _name(request, kind, key) if key in request.query_params else None


def _name(request: HTTPRequest, kind: Name, key: str) -> str:
    """A name in the query, given once."""
    values = request.query_params.getlist(key)
    if len(values) != 1:
        raise HTTPException(400, f"one {key} is needed: ?{key}=…")
    try:
        return kind.check(values[0])
    except BadPath as error:
        raise HTTPException(400, str(error)) from None


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
