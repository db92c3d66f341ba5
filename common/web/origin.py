"""Which pages may open a socket (SPEC 1, Origin). Pure.

A browser sends the `Origin` of the page and lets no script change it; that is what keeps a foreign page from opening a
socket with its visitor's credentials (cross-site WebSocket hijacking).
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable

_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@attrs.frozen
class _Pattern:
    scheme: str | None
    host: re.Pattern[str]
    port: int | None

    def matches(self, scheme: str, host: str, port: int | None) -> bool:
        return (
            (self.scheme is None or self.scheme == scheme)
            and (self.port is None or self.port == port)
            and self.host.fullmatch(host) is not None
        )


class OriginPolicy:
    """Decides whether a handshake's `Origin` may pass; with no patterns, every one does."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(_compile(pattern) for pattern in patterns)

    @property
    def disabled(self) -> bool:
        """Whether every origin passes, because none is configured."""
        return not self._patterns

    def allows(self, origin: str | None, host: str | None) -> bool:
        """Whether a page of `origin` may connect to the server that it addressed as `host` (the `Host` header).

        A request without an origin is no browser's and passes.
        """
        if self.disabled or origin is None:
            return True
        try:
            parts = urlsplit(origin.strip().lower())
            scheme, name, port = parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme)
        except ValueError:
            return False
        if name and host is not None and _same_host(name, port, scheme, host):
            return True
        # An opaque origin ("null": a sandboxed frame, a file) has no host; only a bare `*` lets it in.
        return any(pattern.matches(scheme, name, port) for pattern in self._patterns)


def _same_host(name: str, port: int | None, scheme: str, host: str) -> bool:
    """Whether the request's own host is the origin's; a `Host` without a port means the scheme's."""
    try:
        own = urlsplit("//" + host.strip().lower())
        return own.hostname == name and (own.port or _DEFAULT_PORTS.get(scheme)) == port
    except ValueError:
        return False


def _compile(pattern: str) -> _Pattern:
    scheme, separator, rest = pattern.strip().lower().rpartition("://")
    host, colon, port = rest.rpartition(":")
    if not colon or not port.isdigit():
        host, port = rest, ""
    # fnmatch's expressions never backtrack: several wildcards on a long host cost no more than one.
    expression = re.compile(fnmatch.translate(host.strip("[]")))
    return _Pattern(scheme if separator else None, expression, int(port) if port else None)
