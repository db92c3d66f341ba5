"""HTTP/1.1 as far as a WebSocket server needs it: one request head in, one answer out.

h11 parses the head (RFC 9112); everything else about a request is decided elsewhere. Every answer closes its
connection.
"""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import attrs
import h11
import trio

from common.quote import quote, quote_url
from common.web.path import authority
from common.web.stream import READ_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HEAD_LIMIT: Final = 16 * 1024
"""Bytes of a request head (SPEC 2, HANDSHAKE_TIMEOUT)."""

LONGEST_METHOD: Final = 40
"""Characters of a request's method that are quoted; the longest that is registered has 17."""

_FAULTS: Final = (
    "illegal request line",
    "no request line received",
    "Illegal method characters",
    "Illegal target characters",
    "illegal header line",
    "continuation line at start of headers",
    "Missing mandatory Host: header",
    "Found multiple Host: headers",
    "bad Content-Length",
    "conflicting Content-Length headers",
    "multiple Transfer-Encoding headers",
    "Only Transfer-Encoding: chunked is supported",
)
"""What h11 says of a malformed head. It goes on to quote the line, which may be a cookie or a password: that is left
out, and so are words that are not known here."""


@attrs.frozen
class Head:
    """A request head: `target` as sent, header names lower-case, `trailing` the bytes that came after it."""

    method: str
    target: bytes
    version: str
    headers: tuple[tuple[bytes, bytes], ...]
    trailing: bytes = b""
    _by_name: Mapping[bytes, list[str]] = attrs.field(init=False, eq=False, repr=False)

    @_by_name.default
    def _sort_by_name(self) -> Mapping[bytes, list[str]]:
        by_name: dict[bytes, list[str]] = {}
        for name, value in self.headers:
            by_name.setdefault(name, []).append(value.decode("latin-1"))
        return by_name

    def values(self, name: bytes) -> list[str]:
        """Every value of the header `name` (lower-case), in order."""
        return self._by_name.get(name, [])

    def tokens(self, name: bytes) -> set[str]:
        """The lower-cased members of the header's comma-separated list."""
        return {token.strip().lower() for value in self.values(name) for token in value.split(",")}

    @property
    def host(self) -> str | None:
        """The server as the client calls it, with the port if it says one; None if it does not say.

        What a target in absolute form says counts more than the header (RFC 9112, section 3.2.2).
        """
        named = authority(self.target)
        return next(iter(self.values(b"host")), None) if named is None else named.decode("latin-1")

    def quoted_method(self) -> str:
        """The method, fit for an answer or a log line."""
        return quote(self.method, LONGEST_METHOD)

    def asked(self) -> dict[str, str]:
        """What was asked for, and from which page, as fields of a log line: short, and without secrets."""
        origin = ", ".join(self.values(b"origin"))
        return {
            "method": self.quoted_method(),
            "path": quote_url(self.target),
            **({"origin": quote_url(origin)} if origin else {}),
        }


@attrs.frozen
class Response:
    """An answer to a request; `reason` is the metric label if it refuses a handshake, else empty."""

    status: int
    body: str | bytes
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "text/plain; charset=utf-8"
    detail: str = ""
    """What only the log is told."""

    def encode(self, *, head_only: bool = False) -> bytes:
        """The bytes of the answer; with `head_only`, as `HEAD` wants it, without its body."""
        body = self.body.encode() if isinstance(self.body, str) else self.body
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Date: {formatdate(usegmt=True)}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        if not any(name == "Connection" for name, _ in self.headers):
            lines.append("Connection: close")
        head = "".join(line + "\r\n" for line in [*lines, ""]).encode("latin-1")
        return head if head_only else head + body


def refusal(
    status: HTTPStatus,
    reason: str,
    text: str,
    headers: Iterable[tuple[str, str]] = (),
    *,
    retry_after: int | None = None,
    detail: str = "",
) -> Response:
    """A refusal: `reason` for the metric, `text` the one line that tells a person why, `detail` for the log."""
    extra = [*headers]
    if retry_after is not None:
        extra.append(("Retry-After", str(retry_after)))
    return Response(status, text + "\n", reason, tuple(extra), detail=detail)


class BadHead(Exception):  # noqa: N818 - what came, not a fault of ours
    """No usable request head came. `response` is the answer, or None when there is nobody to answer."""

    def __init__(self, response: Response | None) -> None:
        super().__init__(response.body if response else "connection closed before a request")
        self.response = response


async def read_head(stream: trio.abc.ReceiveStream, *, within: float, early: bytes = b"") -> Head:
    """Read one request head within `within` seconds and `HEAD_LIMIT` bytes; `early` was read before.

    Raises `BadHead` for a malformed, oversized, late or missing head. A head that is whole already costs no wait.
    """
    reader = _HeadReader()
    head = reader.feed(early) if early else None
    if head is not None:
        return head
    with trio.move_on_after(within):
        while True:
            try:
                data = await stream.receive_some(READ_SIZE)
            except trio.BrokenResourceError as error:
                raise BadHead(None) from error
            if not data:
                raise BadHead(None if not reader.fed else _malformed("the request ended in the middle of its head"))
            head = reader.feed(bytes(data))
            if head is not None:
                return head
    if not reader.fed:
        raise BadHead(None)
    raise BadHead(
        refusal(HTTPStatus.REQUEST_TIMEOUT, "timeout", f"the request head was not complete within {within:g} seconds")
    )


class _HeadReader:
    """From bytes to a head."""

    def __init__(self) -> None:
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self.fed = 0
        """Bytes so far."""

    def feed(self, data: bytes) -> Head | None:
        """Take the next bytes; return the head when it is whole. Raises `BadHead`."""
        self.fed += len(data)
        try:
            self._connection.receive_data(data)
            event = self._connection.next_event()
        except h11.RemoteProtocolError as error:
            # h11 raises it from a method of its own, so that its traceback holds it: a cycle for each bad head.
            raise BadHead(_protocol_error(error)) from error.with_traceback(None)
        if not isinstance(event, h11.Request):
            return None
        trailing, _ = self._connection.trailing_data
        if self.fed - len(trailing) > HEAD_LIMIT:
            raise BadHead(_too_large())
        return Head(
            method=event.method.decode("ascii"),
            target=event.target,
            version=event.http_version.decode("ascii"),
            headers=tuple(event.headers),
            trailing=trailing,
        )


def _protocol_error(error: h11.RemoteProtocolError) -> Response:
    if error.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
        return _too_large()
    said = str(error)
    return _malformed(next((fault for fault in _FAULTS if said.startswith(fault)), "it is not HTTP/1.1"))


def _malformed(text: str) -> Response:
    return refusal(HTTPStatus.BAD_REQUEST, "malformed", f"malformed request: {text}")


def _too_large() -> Response:
    return refusal(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", f"the request head is over {HEAD_LIMIT} bytes"
    )
