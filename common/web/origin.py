"""Which pages may open a socket (SPEC 1, Origin). Pure.

A browser sends the `Origin` of the page and lets no script change it; that is what keeps a foreign page from opening a
socket with its visitor's credentials (cross-site WebSocket hijacking).
"""

from __future__ import annotations

import fnmatch
import re
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable

_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}

_HOST: Final = r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(?P<port>[1-9][0-9]{0,4}))?"
_OWN: Final = re.compile(_HOST)
_ORIGIN: Final = re.compile(rf"(?P<scheme>[a-z][a-z0-9+.-]*)://{_HOST}")
"""An origin as browsers write it (RFC 6454, section 6.2), in lower case: no path, no user, names in ASCII."""

_VISIBLE: Final = re.compile(r"[!-~]*")
_ANYTHING: Final = "*"


@attrs.frozen
class _Origin:
    scheme: str
    host: str
    port: int | None


@attrs.frozen
class _Pattern:
    scheme: str | None
    host: re.Pattern[str]
    port: int | None

    def matches(self, origin: _Origin) -> bool:
        return (
            (self.scheme is None or self.scheme == origin.scheme)
            and (self.port is None or self.port == origin.port)
            and self.host.fullmatch(origin.host) is not None
        )


class OriginPolicy:
    """Decides whether a handshake's `Origin` may pass; with no patterns, every one does."""

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = [pattern.strip().lower() for pattern in patterns]
        self._patterns = tuple(map(_compile, patterns))
        self._anything = _ANYTHING in patterns

    @property
    def disabled(self) -> bool:
        """Whether every origin passes, because none is configured."""
        return not self._patterns

    def allows(self, origin: str | None, host: str | None) -> bool:
        """Whether a page of `origin` may connect to the server that it addressed as `host` (the `Host` header).

        A request without an origin is no browser's and passes. What has a space, a control character or one that is
        not ASCII is nobody's origin, whatever the patterns are.
        """
        if self.disabled or origin is None:
            return True
        if _VISIBLE.fullmatch(origin) is None:
            return False
        parsed = _parse(origin)
        if parsed is None:
            # An opaque origin ("null": a sandboxed frame, a file) has no host; only a bare `*` lets it in.
            return self._anything
        return _is_own(parsed, host) or any(pattern.matches(parsed) for pattern in self._patterns)


def is_own(origin: str, host: str | None) -> bool:
    """Whether a page of `origin` belongs to the server that it addressed as `host`."""
    parsed = _parse(origin)
    return parsed is not None and _is_own(parsed, host)


def _is_own(origin: _Origin, host: str | None) -> bool:
    """Whether the request's own host is the origin's; a `Host` without a port means the scheme's."""
    own = _OWN.fullmatch((host or "").lower())
    if own is None:
        return False
    return _host(own) == origin.host and _port(own, origin.scheme) == origin.port


def _parse(text: str) -> _Origin | None:
    """None for what is no origin of a host."""
    found = _ORIGIN.fullmatch(text.lower())
    host = None if found is None else _host(found)
    if found is None or host is None or int(found["port"] or 1) > 65535:
        return None
    return _Origin(found["scheme"], host, _port(found, found["scheme"]))


def _host(found: re.Match[str]) -> str | None:
    """The host's name, or an IPv6 address in its shortest form, without brackets; None if that is no address."""
    host = found["host"]
    return _shortest(host[1:-1]) if host.startswith("[") else host


def _port(found: re.Match[str], scheme: str) -> int | None:
    return int(found["port"]) if found["port"] else _DEFAULT_PORTS.get(scheme)


def _shortest(text: str) -> str | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return str(address) if isinstance(address, IPv6Address) else None


def _compile(pattern: str) -> _Pattern:
    scheme, separator, rest = pattern.rpartition("://")
    host, colon, port = rest.rpartition(":")
    if not colon or not port.isdecimal() or _shortest(rest) is not None:
        host, port = rest, ""
    host = _shortest(host.removeprefix("[").removesuffix("]")) or host
    # fnmatch's expressions never backtrack: several wildcards on a long host cost no more than one. Of its wildcards
    # only `*` is meant.
    expression = re.compile(fnmatch.translate(re.sub(r"[\[?]", r"[\g<0>]", host)))
    return _Pattern(scheme if separator else None, expression, int(port) if port else None)
