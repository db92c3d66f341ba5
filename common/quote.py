"""What strangers say, made fit to be quoted in a log line, an answer or a message. Pure.

A stranger is whoever sends bytes over the network: a client, a proxy, Redis, a source of telemetry. What is quoted of
them is short (`LIMIT`), steers no terminal and no log viewer, and says when it was longer. `quote_url` besides leaves
out the places of a URL in which secrets travel.

What is escaped is what Python doesn't call printable: all that ends a line, is invisible, reverses the text around it,
commands a terminal or has no meaning yet (Unicode's categories C… and Z…, the space apart). Escapes are `\\u2028`,
`\\U000e0001` for code points beyond U+FFFF, and `\\xff` for a byte that is not UTF-8. A backslash stands for itself, so
what was quoted may be quoted again and stays as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    _Escape = Callable[[str], str]

LIMIT: Final = 200
"""Characters of a quotation, its note about what was left out included."""

_LOGIN: Final = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*://)?.*(?:@|%40)", re.DOTALL)
_TAIL: Final = re.compile(r"(?:[?#]|%3f|%23).*", re.DOTALL | re.IGNORECASE)
_PARAMETER: Final = re.compile(r"(=|%3d)[^/;&]+", re.IGNORECASE)
_MASK: Final = "***"


def quote(said: str | bytes, limit: int = LIMIT) -> str:
    """`said`, escaped and cut to `limit` characters (40 at least); bytes are read as UTF-8.

    What was cut ends with an ellipsis and how long it was: `GET /aaaa… (16384 characters)`.
    """
    if isinstance(said, bytes):
        # A character has 4 bytes at most: so many hold one more than may be shown, if there is one.
        text = said[: 4 * limit + 4].decode("utf-8", "surrogateescape")
        escaped, unit = _escaped_byte, "bytes"
    else:
        text, escaped, unit = said, _escaped, "characters"
    if len(text) <= limit:
        shown = _escape(text, escaped)
        if len(shown) <= limit:
            return shown
    note = f"… ({len(said)} {unit})"
    return _cut(text, limit - len(note), escaped) + note


def quote_url(said: str | bytes, limit: int = LIMIT) -> str:
    """Like `quote`, for a request target, an origin or a URL, without the user's name, password, query and fragment.

    Values of parameters in the path are masked too. Percent-encoded separators count like plain ones: what a careless
    proxy has encoded is as secret as before.
    """
    text = said.decode("utf-8", "backslashreplace") if isinstance(said, bytes) else said
    text = _LOGIN.sub(rf"\g<1>{_MASK}@", _TAIL.sub("", text))
    return quote(_PARAMETER.sub(rf"\g<1>{_MASK}", text), limit)


def escape(text: str, kept: Container[str] = frozenset()) -> str:
    """All of `text`, escaped like a quotation but for the characters in `kept`."""
    return _escape(text, lambda character: character if character in kept else _escaped(character))


def _cut(text: str, room: int, escaped: _Escape) -> str:
    """As much of `text`, escaped, as there is room for; no escape is cut in two."""
    shown = ""
    for character in text[: max(room, 0)]:
        piece = _escape(character, escaped)
        if len(shown) + len(piece) > room:
            break
        shown += piece
    return shown


def _escape(text: str, escaped: _Escape) -> str:
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else escaped(character) for character in text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _escaped_byte(character: str) -> str:
    """Like `_escaped`; what stands for a byte that is not UTF-8 is shown as that byte."""
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else _escaped(character)
