"""Where `watch` connects to, from the arguments that a person gave. Pure.

What is meant is done where it is clear: a host without a scheme, a whole URL as the only argument. What is missing is
said, before anything is dialled.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from common.watch.words import one_line

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_WHOLE: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^/]+(?:/.*)?)/([^/?#]*)")


def where_and_what(url: str | None, path: str, default: str, what: str) -> tuple[str, str]:
    """The base URL and the path (not encoded) that two arguments mean, the second of which may be a whole URL.

    `default` is the URL where none is given, `what` the path's form, for messages. Raises ValueError with one line.
    """
    if not _SCHEME.match(path):
        return default if url is None else _with_scheme(url), path
    if url is not None:
        raise ValueError(f"the URL comes first, then {what}")
    whole = _WHOLE.fullmatch(path.rstrip("/"))
    if whole is None:
        raise ValueError(f"what to watch is missing: {one_line(path)} {what}")
    return whole[1], unquote(whole[2])


def _with_scheme(url: str) -> str:
    if _SCHEME.match(url):
        return url
    return f"{'wss' if url.partition('/')[0].endswith(':443') else 'ws'}://{url}"
