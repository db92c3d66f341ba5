"""Words of the terminal client: addresses, refusals and endings as a person reads them. All of it pure.

Whatever came from outside passes `escaped` or `one_line` before a terminal sees it: a log line must not move somebody's
cursor, rename their window or turn the rest of a line around.
"""

from __future__ import annotations

import email.utils
import json
import os
import re
import socket
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from common.quote import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

EXAMPLE_URL: Final = "wss://runs.example.org"

_SCHEMES: Final = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}

_SPACES: Final = frozenset("\t\n\xa0\u1680\u202f\u205f\u3000\u200c\u200d").union(map(chr, range(0x2000, 0x200B)))
"""What a terminal shows as room: tab, newline, spaces of every width, and the joiners that emoji are made with."""

_CLOSINGS: Final = {
    1000: "the server closed the connection",
    1001: "the server is going away (a restart or a shutdown)",
    1002: "the server says that we broke the protocol",
    1006: "the connection broke without a goodbye, or we read too slowly",
    1007: "the server says that we sent bad text",
    1008: "the server had no answer from us in time",
    1009: "a message was too big",
    1011: "the server can't serve this subscription, or met an error of its own",
    1013: "Redis is unavailable to the server",
}

_REASON_LIMIT: Final = 200
"""Characters of a server's reason that are shown."""


def socket_url(base: str, path: str, query: str = "") -> str:
    """The address of `path` (not encoded yet: `batch;;a:wepp`) below `base`, a ws, wss, http or https URL.

    Raises ValueError, with one line for the user, when `base` is not such a URL.
    """
    complaint = f"{one_line(base)!r} is not a ws:// or wss:// URL with a host (an example: {EXAMPLE_URL})"
    try:
        parts = urlsplit(base.strip())
        has_good_port = parts.port != 0
    except ValueError:
        raise ValueError(complaint) from None
    scheme = _SCHEMES.get(parts.scheme.lower())
    if scheme is None or not parts.hostname or not has_good_port:
        raise ValueError(complaint)
    if "@" in parts.netloc:
        raise ValueError("a URL with a user name or a password is not supported")
    if parts.query or parts.fragment:
        raise ValueError("the URL must end before the run id: no '?' and no '#'")
    target = f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/{quote(path, safe='')}"
    return f"{target}?{query}" if query else target


def closing_words(code: int, reason: str | None, *, hangup: bool) -> str:
    """How the server ended a conversation: its close code, the reason it gave, and whether it said hangup before."""
    words = _CLOSINGS.get(code, "the server closed the connection")
    said = f": {_reason(reason)}" if reason else ""
    return f"{'hangup: ' if hangup else ''}{words}{said} [{code}]"


def refusal_words(status: int, body: bytes | None) -> str:
    """A handshake that was answered with an HTTP status instead of a socket."""
    said = _reason((body or b"").decode("utf-8", "replace"))
    return f"the server refused with {status}{f': {said}' if said else ''}"


def refusal_is_final(status: int) -> bool:
    """True when asking again can't help: the request itself is wrong, or this is no WebSocket server."""
    return status < 500 and status not in {408, 425, 429}


def retry_after(headers: Iterable[tuple[bytes, bytes]], now: datetime) -> float:
    """Seconds that a `Retry-After` header asks for, as a number or as a date; 0 when there is none that can be read."""
    for name, value in headers:
        if name.lower() != b"retry-after":
            continue
        text = value.decode("latin-1").strip()
        if re.fullmatch("[0-9]{1,9}", text, re.ASCII):
            return float(text)
        try:
            date = email.utils.parsedate_to_datetime(text)
        except ValueError:
            return 0.0
        # A date without a zone can't be compared; RFC 9110 has every one end in GMT.
        return max(0.0, (date - now).total_seconds()) if date.tzinfo else 0.0
    return 0.0


def failure_words(error: BaseException) -> str:
    """Why an address could not be reached, from the innermost cause that says it, in one line."""
    cause = error
    while (inner := _inner(cause)) is not None:
        cause = inner
    if isinstance(cause, OSError) and cause.errno and not isinstance(cause, socket.gaierror | ssl.SSLError):
        # Trio puts the address into the text; whoever reads this knows it.
        return os.strerror(cause.errno)
    return _reason((cause.strerror if isinstance(cause, OSError) else "") or str(cause) or type(cause).__name__)


def is_untrusted_certificate(error: BaseException) -> bool:
    """True when TLS failed on the server's certificate: another attempt meets the same one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = _inner(cause)
    return False


def escaped(text: str) -> str:
    """`text` with whatever could act on a terminal spelled out (`\\u001b`); tabs, newlines and other spaces stay."""
    return escape(text, _SPACES)


def one_line(text: str) -> str:
    """`text` as one line: `escaped`, and newlines as `\\n`."""
    return escaped(text).replace("\n", "\\n")


def shortened(text: str, limit: int) -> str:
    """`text` as one line of at most `limit` characters."""
    line = one_line(text)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def raw_text(frame: Mapping[str, object]) -> str:
    """A frame that no view can read, as it came; not escaped yet. What was no JSON object is only a text (`data`)."""
    data = frame.get("data")
    return data if isinstance(data, str) and len(frame) == 1 else compact(frame)


def compact(value: object) -> str:
    """`value` as JSON without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _inner(error: BaseException) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]
    return error.__cause__


def _reason(text: str) -> str:
    line = one_line(text.strip())
    return line if len(line) <= _REASON_LIMIT else f"{line[:_REASON_LIMIT]}…"
