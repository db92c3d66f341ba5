"""The application: the endpoints behind one gate.

`Gate` is the only middleware. It decides who may pass (by `opsd.auth`), tells the board what is in flight of the API,
gives every answer its headers, and is the barrier of each request: a bug in an endpoint is a 500 and a traceback in the
log, never the end of a connection without a word.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from common.quote import quote, quote_url
from opsd.api.page import websocket_urls
from opsd.api.routes import make_routes
from opsd.auth import UNAUTHORIZED, Refusal, Request
from opsd.endpoints import ENDPOINTS, LOGIN, STATUS, Needs
from opsd.places import RunningRequests
from opsd.serve import is_clients_end
from opsd.vector import STATUS_VERSION

if TYPE_CHECKING:
    from starlette.requests import Request as HTTPRequest
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from common.logs import Logger
    from opsd.api.parts import Parts

Headers = Sequence[tuple[bytes, bytes]]

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_PROTECTED: Final = ("/api/", "/metrics")
_OPEN: Final = frozenset(endpoint.path for endpoint in ENDPOINTS if endpoint.needs is Needs.OWN_PAGE)
_WEBSOCKETS: Final = frozenset(endpoint.path for endpoint in ENDPOINTS if endpoint.method == "WS")
_INTERNAL_ERROR: Final = Refusal(500, "internal error")
_BUSY: Final = Refusal(503, "too many requests of this address at once", (("Retry-After", "5"),))
_NOT_FOUND: Final = Refusal(404, "not found")
_TOO_MANY: Final = 429
_NAMING: Final = b"/api/workers/snapshot/"
"""What stands before the one name of a path that may need percent-encoding."""


def make_app(parts: Parts, log: Logger) -> ASGIApp:
    """The application as ASGI."""
    app = Starlette(routes=make_routes(parts), exception_handlers={HTTPException: _say_why, Exception: _say_nothing})
    # An address has one spelling; a redirect would be made of the Host header.
    app.router.redirect_slashes = False
    return Gate(app, parts, log)


class Gate:
    """See the module."""

    def __init__(self, app: ASGIApp, parts: Parts, log: Logger) -> None:
        self._app = app
        self._parts = parts
        self._guard = parts.guard
        self._board = parts.board
        self._log = log
        self._running = RunningRequests()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or one WebSocket."""
        client = scope.get("client")
        remote = client[0] if client else None
        websocket = scope["type"] == "websocket"
        head = Request.parse(scope.get("method", "GET"), scope["path"], scope["headers"], remote, websocket=websocket)
        share = self._guard.share(head)
        admitted = self._running.enter(share)
        refusal = _BUSY if not admitted else None if _is_plain(scope) else _NOT_FOUND
        serve = self._serve_websocket if websocket else self._serve_http
        try:
            await serve(head, refusal, scope, receive, send)
        finally:
            if admitted:
                self._running.leave(share)

    async def _serve_websocket(
        self, head: Request, refusal: Refusal | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        refusal = refusal or self._guard.refuse_host(head) or self._guard.refuse_read(head)
        if refusal is None and head.path not in _WEBSOCKETS:
            refusal = _NOT_FOUND
        if refusal is not None:
            self._log_refusal(head, refusal)
            await receive()
            await _answer(send, refusal, self._headers(head), "websocket.http.response")
            return
        try:
            await self._app(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - the barrier of one request
            if not is_clients_end(error):
                self._log.exception("request failed", path=quote_url(head.path))

    async def _serve_http(
        self, head: Request, refusal: Refusal | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        counted = head.path.startswith("/api/")
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *self._headers(head)]
            await send(message)

        if counted:
            self._board.request_started()
        try:
            refusal = refusal or self._refuse(head)
            if refusal is None and head.path == STATUS and head.method == "GET":
                # What is asked for all the time: half of its cost would be finding its endpoint.
                body, status = self._board.body, 200
                await _send(send, status, body, _STATUS_HEADERS)
            elif refusal is None:
                await self._app(scope, receive, send_with_headers)
            else:
                self._log_refusal(head, refusal)
                await _answer(send_with_headers, refusal, ())
        except Exception:  # noqa: BLE001 - the barrier of one request
            self._log.exception("request failed", method=quote(head.method), path=quote_url(head.path))
            if not status:
                await _answer(send_with_headers, _INTERNAL_ERROR, ())
        finally:
            if counted:
                self._board.request_ended()

    def _refuse(self, head: Request) -> Refusal | None:
        guard = self._guard
        refusal = guard.refuse_host(head)
        if refusal is None and head.method not in _SAFE:
            refusal = guard.refuse_change(head, login=head.path == LOGIN)
        if refusal is None and head.path.startswith(_PROTECTED):
            refusal = guard.refuse_foreign(head) if head.path in _OPEN else guard.refuse_read(head)
        return refusal

    def _log_refusal(self, head: Request, refusal: Refusal) -> None:
        # A page that is not logged in yet asks and asks; tokens that are wrong are counted instead.
        often = refusal is _BUSY or refusal.status in {UNAUTHORIZED.status, _TOO_MANY}
        log = self._log.debug if often else self._log.info
        log(
            "request refused",
            status=refusal.status,
            path=quote_url(head.path),
            remote=str(self._guard.client(head)),
            error=refusal.error,
        )

    def _headers(self, head: Request) -> list[tuple[bytes, bytes]]:
        # The status must be new each time, and a file of the page is asked for again with its tag.
        headers = [*_HEADERS, (b"content-security-policy", self._policy(head))]
        if head.path.startswith("/api/"):
            headers.append((b"x-tes-status-version", STATUS_VERSION.encode()))
        return headers

    def _policy(self, head: Request) -> bytes:
        if head.path != "/":
            return _NO_PAGE
        own = head.authority
        host = "" if own is None else own[0] if own[1] is None else f"{own[0]}:{own[1]}"
        # Not every browser takes 'self' for the WebSockets of the page's own host.
        places = [f"ws://{host}", f"wss://{host}"] if host else []
        places += [_origin(url) for url in websocket_urls(self._parts.settings, head)]
        return (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
            f"connect-src 'self' {' '.join(dict.fromkeys(places))}; "
            "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
        ).encode("latin-1")


def _is_plain(scope: Scope) -> bool:
    """Whether the path is spelled as the pages are: a proxy's rule for `/metrics` is about these very bytes."""
    raw: bytes = scope.get("raw_path") or b""
    return b"%" not in raw or raw.startswith(_NAMING)


_NO_PAGE: Final = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_HEADERS: Final = (
    (b"cache-control", b"no-cache"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


def _origin(url: str) -> str:
    """Scheme, host and port of a WebSocket URL: a path in a policy would have to match to the letter."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


async def _say_why(request: HTTPRequest, error: Exception) -> Response:
    """An endpoint's refusal, as JSON."""
    del request
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _say_nothing(request: HTTPRequest, error: Exception) -> Response:
    """A bug's answer; Starlette raises the error on to the gate, which logs it."""
    del request, error
    return JSONResponse({"error": _INTERNAL_ERROR.error}, _INTERNAL_ERROR.status)


_STATUS_HEADERS: Final = (
    (b"content-type", b"application/json"),
    *_HEADERS,
    (b"content-security-policy", _NO_PAGE),
    (b"x-tes-status-version", STATUS_VERSION.encode()),
)


async def _send(send: Send, status: int, body: bytes, headers: Headers, kind: str = "http.response") -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": f"{kind}.start", "status": status, "headers": [*headers, length]})
    await send({"type": f"{kind}.body", "body": body})


async def _answer(send: Send, refusal: Refusal, headers: Headers, kind: str = "http.response") -> None:
    body = json.dumps({"error": refusal.error}).encode()
    own = [(name.lower().encode(), value.encode()) for name, value in refusal.headers]
    await _send(send, refusal.status, body, [(b"content-type", b"application/json"), *own, *headers], kind)
