"""The opening handshake from the server's side (RFC 6455, sections 4.2.1 and 4.2.2; RFC 9112), as SPEC 1 answers it.

Whoever is refused gets the answer and the end of our bytes at once, and has `LINGER` to end its own.
"""

from __future__ import annotations

import base64
import hashlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

LINGER: Final = 1.0
"""Seconds until a refused connection is let go, if the client does not end it itself."""

PATH: Final = "PATH"
"""Stands in a request for the path of a good conversation."""

KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FIELDS: Final = {
    "Host": "example.org",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}


@attrs.frozen
class Opening:
    """A request, its answer's status and headers; one that must be absent is None."""

    id: str
    what: str
    request: str
    status: int
    headers: Mapping[str, str | None] = MappingProxyType({})

    def request_for(self, path: str) -> bytes:
        """The bytes, for a daemon whose conversations have such paths."""
        return self.request.replace(PATH, path).encode("latin-1")


def accept_of(key: str) -> str:
    """What answers a key (section 4.2.2, step 5.4)."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()


def _request(
    changed: Mapping[str, str | list[str] | None] = MappingProxyType({}),
    *,
    line: str = f"GET {PATH} HTTP/1.1",
    end: str = "\r\n",
) -> str:
    """A handshake with these fields changed, given more than once, added, or (None) left out."""
    fields: dict[str, str | list[str] | None] = {**_FIELDS, **changed}
    lines = [
        f"{name}: {value}"
        for name, values in fields.items()
        for value in ([] if values is None else [values] if isinstance(values, str) else values)
    ]
    return end.join([line, *lines, "", ""])


_UPGRADED: Final = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Accept": accept_of(KEY),
    "Sec-WebSocket-Extensions": None,
    "Sec-WebSocket-Protocol": None,
    "Content-Length": None,
}
_NO_UPGRADE: Final = {"Upgrade": "websocket", "Connection": "Upgrade, close"}
_BAD_VERSION: Final = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
_CLOSED: Final = {"Connection": "close"}


def _section(
    number: str,
    status: int,
    headers: Mapping[str, str | None],
    rows: Mapping[str, str | Mapping[str, str | list[str] | None]],
) -> list[Opening]:
    return [
        Opening(f"{number}.{at}", what, row if isinstance(row, str) else _request(row), status, headers)
        for at, (what, row) in enumerate(rows.items(), 1)
    ]


GOOD: Final = _section(
    "rfc-4.2.1a",
    101,
    _UPGRADED,
    {
        "the RFC's own example": {},
        "names in lower case": _request()
        .replace("Sec-WebSocket-Key", "sec-websocket-key")
        .replace("Upgrade:", "upgrade:"),
        "names in upper case": _request().replace("Sec-WebSocket-Version", "SEC-WEBSOCKET-VERSION"),
        "tokens in any case": {"Upgrade": "WebSocket", "Connection": "UPGRADE"},
        "an upgrade among tokens": {"Connection": "keep-alive, Upgrade"},
        "an upgrade in a second field": {"Connection": ["keep-alive", "Upgrade"]},
        "a WebSocket among other upgrades": {"Upgrade": "h2c, websocket"},
        "blanks around values": {"Sec-WebSocket-Key": f"  {KEY}\t", "Sec-WebSocket-Version": " 13 "},
        "no blank behind the colon": _request().replace(": ", ":"),
        "fields that nobody knows": {"X-Anything": "at all", "Pragma": "no-cache", "User-Agent": ""},
        "bytes beyond ASCII in a field": {"Cookie": "name=\xe4\xff"},
        "an origin": {"Origin": "https://example.org"},
        "a protocol that is not spoken here": {"Sec-WebSocket-Protocol": "chat"},
        "several protocols": {"Sec-WebSocket-Protocol": ["chat, superchat", "mqtt"]},
        "an extension": {"Sec-WebSocket-Extensions": "permessage-deflate"},
        "several extensions": {"Sec-WebSocket-Extensions": ["permessage-deflate; client_max_window_bits", "x-unknown"]},
        "an extension that is none": {"Sec-WebSocket-Extensions": ";;,=\"'"},
        "a body of nothing": {"Content-Length": "0"},
        "a host with a port": {"Host": "example.org:9002"},
        "a host by its address": {"Host": "[::1]:9002"},
        "a trailing slash": _request(line=f"GET {PATH}/ HTTP/1.1"),
        "a query": _request(line=f"GET {PATH}?x=1&y HTTP/1.1"),
        "a target in absolute form": _request(line=f"GET http://example.org{PATH} HTTP/1.1"),
        "lines that end with LF only": _request(end="\n"),
    },
)

NO_UPGRADE: Final = _section(
    "rfc-4.2.1b",
    426,
    _NO_UPGRADE,
    {
        "no Upgrade": {"Upgrade": None},
        "an empty Upgrade": {"Upgrade": ""},
        "another Upgrade": {"Upgrade": "h2c"},
        "a longer word": {"Upgrade": "websockets"},
        "a word with a version": {"Upgrade": "websocket/13"},
        "no Connection": {"Connection": None},
        "an empty Connection": {"Connection": ""},
        "another Connection": {"Connection": "keep-alive"},
        "words in place of tokens": {"Connection": "keep-alive Upgrade"},
        "a plain page": f"GET {PATH} HTTP/1.1\r\nHost: a\r\n\r\n",
    },
)

VERSIONS: Final = _section(
    "rfc-4.2.1c",
    426,
    _BAD_VERSION,
    {
        "no version": {"Sec-WebSocket-Version": None},
        "an empty version": {"Sec-WebSocket-Version": ""},
        **{
            f"version {version}": {"Sec-WebSocket-Version": version}
            for version in ("0", "7", "8", "12", "14", "256", "-13")
        },
        "a zero before it": {"Sec-WebSocket-Version": "013"},
        "a plus before it": {"Sec-WebSocket-Version": "+13"},
        "a choice": {"Sec-WebSocket-Version": "13, 8"},
        "twice": {"Sec-WebSocket-Version": ["13", "13"]},
        "a word": {"Sec-WebSocket-Version": "thirteen"},
    },
)

KEYS: Final = _section(
    "rfc-4.2.1d",
    400,
    _CLOSED,
    {
        "no key": {"Sec-WebSocket-Key": None},
        "an empty key": {"Sec-WebSocket-Key": ""},
        "15 bytes": {"Sec-WebSocket-Key": base64.b64encode(bytes(15)).decode()},
        "17 bytes": {"Sec-WebSocket-Key": base64.b64encode(bytes(17)).decode()},
        "no padding": {"Sec-WebSocket-Key": KEY.rstrip("=")},
        "no base64": {"Sec-WebSocket-Key": "!" * 24},
        "another alphabet": {"Sec-WebSocket-Key": base64.urlsafe_b64encode(b"\xff" * 16).decode()},
        "a blank within": {"Sec-WebSocket-Key": f"{KEY[:8]} {KEY[8:]}"},
        "something behind it": {"Sec-WebSocket-Key": f"{KEY}, x"},
        "two keys": {"Sec-WebSocket-Key": [KEY, KEY]},
        "beyond ASCII": {"Sec-WebSocket-Key": f"\xe4{KEY[1:]}"},
    },
)

REQUESTS: Final = [
    *_section(
        "rfc-4.2.1e",
        405,
        {"Allow": "GET"},
        {
            f"the method {method}": _request(line=f"{method} {PATH} HTTP/1.1")
            for method in ("POST", "PUT", "HEAD", "DELETE", "OPTIONS", "TRACE", "PATCH", "get")
        },
    ),
    *_section(
        "rfc-4.2.1f",
        400,
        _CLOSED,
        {
            "HTTP/1.0": _request(line=f"GET {PATH} HTTP/1.0"),
            "HTTP/2 in a line": _request(line=f"GET {PATH} HTTP/2.0"),
            "HTTP/0.9": f"GET {PATH}\r\n\r\n",
            "a protocol in lower case": _request(line=f"GET {PATH} http/1.1"),
            "no host": {"Host": None},
            "two hosts": {"Host": ["example.org", "example.net"]},
            "two origins": {"Origin": ["https://example.org", "https://example.net"]},
            "a body": {"Content-Length": "5"},
            "a body of chunks": {"Transfer-Encoding": "chunked"},
            "a body of chunks and a length": {"Transfer-Encoding": "chunked", "Content-Length": "0"},
            "a coding that is none": {"Transfer-Encoding": "identity"},
            "two lengths": {"Content-Length": ["0", "5"]},
            "a blank before a colon": _request().replace("Upgrade:", "Upgrade :", 1),
            "a NUL in a value": {"Cookie": "a\0b"},
            "a CR within a value": {"Cookie": "a\rb"},
            "a field without a name": _request().replace("Upgrade:", ":", 1),
            "a line that goes on": _request().replace("Host:", " Host:", 1),
            "two blanks in the request line": _request(line=f"GET  {PATH} HTTP/1.1"),
            "no target": _request(line="GET HTTP/1.1"),
            "a target in authority form": _request(line="GET example.org:80 HTTP/1.1"),
            "a target in asterisk form": _request(line="GET * HTTP/1.1"),
        },
    ),
]

OPENINGS: Final = {opening.id: opening for opening in (*GOOD, *NO_UPGRADE, *VERSIONS, *KEYS, *REQUESTS)}
"""Every request, by its number."""
