"""From a request head to what becomes of it: a WebSocket, a page or a refusal. Pure.

The rules are SPEC 1's and 3's, and those of RFC 6455, section 4.2.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import attrs

from common.web.http import Head, Response, refusal
from common.web.path import BadPath, Target, parse_target, raw_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from common.web.origin import OriginPolicy

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION: Final = "13"


@attrs.frozen
class Route:
    """What a path names: the Redis channel, the fields of its log lines, and whether the client wants gap frames."""

    channel: bytes
    fields: Mapping[str, str]
    wants_gap: bool = False


@attrs.frozen
class Upgrade:
    """A handshake to be accepted with `response`, the bytes of the 101."""

    route: Route
    response: bytes


class Page(Enum):
    """The pages beside the socket."""

    HEALTH = "/health"
    LIVE = "/health/live"
    METRICS = "/metrics"


_PAGES: Final = {page.value.encode(): page for page in Page}
_RESERVED: Final = {"/", *(page.value for page in Page)}

Decision = Upgrade | Page | Response


def decide(head: Head, *, route: Callable[[Target], Route], origins: OriginPolicy, metrics_enabled: bool) -> Decision:
    """What to do with a request. `route` raises `BadPath` for paths that name nothing."""
    try:
        page = _PAGES.get(raw_path(head.target))
        target = parse_target(head.target)
    except BadPath as error:
        return refusal(HTTPStatus.BAD_REQUEST, "bad_path", str(error))
    if head.method != "GET" and not (page is not None and head.method == "HEAD"):
        allowed = "GET" if page is None else "GET, HEAD"
        return refusal(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "method",
            f"{head.quoted_method()} is not possible here",
            [("Allow", allowed)],
        )
    # Another spelling of a page ("/metrics/", "/%6detrics") is neither the page nor the name of a run.
    if (page is None and target.path in _RESERVED) or (page is Page.METRICS and not metrics_enabled):
        return refusal(HTTPStatus.NOT_FOUND, "not_found", "there is nothing here")
    if page is not None:
        return page
    try:
        named = route(target)
    except BadPath as error:
        return refusal(HTTPStatus.BAD_REQUEST, "bad_path", str(error))
    key = _upgrade_key(head)
    if isinstance(key, Response):
        return key
    origin = head.values(b"origin")
    if len(origin) > 1:
        return _bad_upgrade("more than one Origin header")
    if not origins.allows(next(iter(origin), None), head.host):
        return refusal(HTTPStatus.FORBIDDEN, "origin", "this origin is not allowed")
    return Upgrade(named, _accept(key))


def is_users(head: Head) -> bool:
    """Whether this is a user's handshake, good or bad, and not a probe, a scrape or somebody who looks around."""
    return "websocket" in head.tokens(b"upgrade") and head.target.partition(b"?")[0] not in _PAGES


def _upgrade_key(head: Head) -> str | Response:
    """The handshake's key, or the refusal of a request that asks for no WebSocket, or for one that can't be."""
    if "websocket" not in head.tokens(b"upgrade") or "upgrade" not in head.tokens(b"connection"):
        return refusal(
            HTTPStatus.UPGRADE_REQUIRED,
            "no_upgrade",
            "this is a WebSocket: connect with an upgrade",
            [("Upgrade", "websocket"), ("Connection", "Upgrade, close")],
        )
    if head.version != "1.1":
        return _bad_upgrade("a WebSocket needs HTTP/1.1")
    if head.values(b"transfer-encoding") or any(value.strip() != "0" for value in head.values(b"content-length")):
        return _bad_upgrade("a handshake has no body")
    versions = head.values(b"sec-websocket-version")
    if versions != [_VERSION]:
        return refusal(
            HTTPStatus.UPGRADE_REQUIRED,
            "bad_version",
            f"only WebSocket version {_VERSION} is spoken here",
            [("Sec-WebSocket-Version", _VERSION), ("Upgrade", "websocket"), ("Connection", "Upgrade, close")],
        )
    keys = head.values(b"sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        return _bad_upgrade("Sec-WebSocket-Key must be 16 bytes in base64")
    return keys[0]


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _bad_upgrade(text: str) -> Response:
    return refusal(HTTPStatus.BAD_REQUEST, "bad_upgrade", text)


def _accept(key: str) -> bytes:
    digest = hashlib.sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )
