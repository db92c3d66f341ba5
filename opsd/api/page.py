"""The page and what it is made of; who looks at it, and where a browser finds the daemons."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import trio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from common.daemons import PREFLIGHT, STATUS
from common.version import version
from opsd.auth import UNAUTHORIZED, Request
from opsd.pages import INDEX
from opsd.thresholds import THRESHOLDS

if TYPE_CHECKING:
    from starlette.requests import Request as HTTPRequest

    from opsd.api.parts import Calls, Parts
    from opsd.settings import OpsSettings

LARGEST_BODY: Final = 8192
"""Bytes of a request; only a login has any."""

BODY_TIMEOUT: Final = 5.0
"""Seconds in which they have come."""


class PageApi:
    """See the module."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._guard = parts.guard

    def calls(self) -> Calls:
        """What answers, by the names of the table."""
        return {
            "config": self.config,
            "login": self.login,
            "logout": self.logout,
            "index": self.index,
            "file": self.file,
        }

    async def config(self, request: HTTPRequest) -> Response:
        """What the page needs to know; a stranger learns that a token is needed."""
        head = parse_head(request)
        logged_in = self._guard.knows(head)
        answer: dict[str, object] = {"tokenRequired": self._guard.token_required, "loggedIn": logged_in}
        if logged_in:
            status, preflight = websocket_urls(self._parts.settings, head)
            answer |= {"statusWsUrl": status, "preflightWsUrl": preflight, "version": version()}
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

    def _page(self, request: HTTPRequest, name: str) -> Response:
        page = self._parts.pages.get(name)
        if page is None:
            raise HTTPException(404, "not found")
        headers = {"ETag": page.etag}
        asked = request.headers.get("if-none-match", "")
        if page.etag in (tag.strip().removeprefix("W/") for tag in asked.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(page.body, headers={**headers, "Content-Type": page.content_type})


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
