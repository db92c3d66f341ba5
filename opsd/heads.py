"""What the head of a request must be before anything is made of it: h11's connection, stricter.

h11 reads many heads that no client of ours sends and that two readers may understand differently. `Heads` refuses them
as it refuses what it can't read at all: by RemoteProtocolError with the status to answer. `complaint` decides (pure).

WebSocket handshakes leave here in one form, without the offers of extensions and subprotocols: none is spoken
(a compressed message of 64 KB may hold 64 MB), and those who come later need not understand them.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

import attrs
import h11

if TYPE_CHECKING:
    from collections.abc import Iterable

LARGEST_HEAD: Final = 16 << 10
"""Bytes of a request's head, its empty line included."""

_VERSION: Final = b"13"
_KEY_BYTES: Final = 16
_SPOKEN: Final = frozenset({b"1.0", b"1.1"})
_NEGOTIATED: Final = frozenset({b"sec-websocket-extensions", b"sec-websocket-protocol", b"connection", b"upgrade"})


@attrs.frozen
class Complaint:
    """Why a request is refused, unread: a status, a line for a person, and headers of the answer."""

    status: int
    reason: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Heads(h11.Connection):
    """A server's connection to one client that raises RemoteProtocolError for heads that are not to be served."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD)
        self.complaint: Complaint | None = None
        """Why the connection must end, when that was decided here."""

    def next_event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        """See `h11.Connection`."""
        if self.complaint is not None:
            raise h11.RemoteProtocolError(self.complaint.reason, self.complaint.status)
        if self.their_state is not h11.IDLE:
            return self._next_event()
        # h11 minds its limit only while a head is incomplete; one that comes in one read has any size.
        before = len(self.trailing_data[0])
        event = self._next_event()
        if not isinstance(event, h11.Request):
            return event
        self.complaint = complaint(event, before - len(self.trailing_data[0]))
        if self.complaint is not None:
            raise h11.RemoteProtocolError(self.complaint.reason, self.complaint.status)
        return _handshake(event) if wants_websocket(event) else event

    def _next_event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        try:
            return super().next_event()
        except h11.RemoteProtocolError as error:
            # A frame of h11 holds the error that holds it.
            error.__traceback__ = None
            raise


def complaint(request: h11.Request, size: int) -> Complaint | None:
    """What is wrong with a request whose head has `size` bytes; None when it may be served."""
    if size > LARGEST_HEAD:
        return Complaint(431, f"the head has more than {LARGEST_HEAD} bytes")
    if request.http_version not in _SPOKEN:
        return Complaint(505, "only HTTP/1.1 is spoken here")
    lengths, codings = values(request, b"content-length"), values(request, b"transfer-encoding")
    if codings and (lengths or request.http_version == b"1.0"):
        # Where one reader goes by the first and the next by the second, a request hides in a body.
        return Complaint(400, "Transfer-Encoding with Content-Length, or in HTTP/1.0")
    if wants_websocket(request):
        return _complaint_of_handshake(request, has_body=bool(codings) or any(length != b"0" for length in lengths))
    return None


def wants_websocket(request: h11.Request) -> bool:
    """Whether a request asks for a WebSocket."""
    asks = b"websocket" in tokens(request, b"upgrade") and b"upgrade" in tokens(request, b"connection")
    return asks and request.method == b"GET"


def values(request: h11.Request, name: bytes) -> list[bytes]:
    """All values of a header, in order."""
    return [value for found, value in request.headers if found == name]


def tokens(request: h11.Request, name: bytes) -> list[bytes]:
    """The items of a header that is a list, in lower case."""
    return [item.strip().lower() for value in values(request, name) for item in value.split(b",")]


def _complaint_of_handshake(request: h11.Request, *, has_body: bool) -> Complaint | None:
    if request.http_version != b"1.1":
        return Complaint(400, "a WebSocket needs HTTP/1.1")
    if has_body:
        return Complaint(400, "a handshake has no body")
    if values(request, b"sec-websocket-version") != [_VERSION]:
        headers = ((b"sec-websocket-version", _VERSION), (b"upgrade", b"websocket"))
        return Complaint(426, "only WebSocket version 13 is spoken here", headers)
    keys = values(request, b"sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        return Complaint(400, "Sec-WebSocket-Key must be 16 bytes in base64")
    return None


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False


def _handshake(request: h11.Request) -> h11.Request:
    """The same handshake with one `Connection` and `Upgrade`, and without what could be negotiated."""
    kept: Iterable[tuple[bytes, bytes]] = (item for item in request.headers if item[0] not in _NEGOTIATED)
    headers = [*kept, (b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
    return h11.Request(method=b"GET", target=request.target, headers=headers, http_version=b"1.1")
