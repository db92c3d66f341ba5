"""What a query may say: each parameter at most once, and within its bounds. Raises HTTPException (400). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException

from common.web.path import BadPath, Name

if TYPE_CHECKING:
    from starlette.requests import Request as HTTPRequest

RUN_ID: Final = Name("run id", "A-Za-z0-9_.;-")
CHANNEL: Final = Name("channel", "A-Za-z0-9_.-")


def number(request: HTTPRequest, name: str, default: int, largest: int) -> int:
    """A whole number from 1 to `largest` in the query, given at most once."""
    values = request.query_params.getlist(name)
    if not values:
        return default
    text = values[0]
    if len(values) > 1 or not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= largest):
        raise HTTPException(400, f"{name} is a whole number from 1 to {largest}")
    return int(text)


def optional_name(request: HTTPRequest, kind: Name, key: str) -> str | None:
    """A name in the query, given at most once."""
    return name(request, kind, key) if key in request.query_params else None


def name(request: HTTPRequest, kind: Name, key: str) -> str:
    """A name in the query, given once."""
    values = request.query_params.getlist(key)
    if len(values) != 1:
        raise HTTPException(400, f"one {key} is needed: ?{key}=…")
    try:
        return kind.check(values[0])
    except BadPath as error:
        raise HTTPException(400, str(error)) from None
