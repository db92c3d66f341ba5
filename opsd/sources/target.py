"""Where telemetry is found: `statusd=http://127.0.0.1:9102`, `preflightd=unix:/run/preflightd.sock`. Pure.

Parsers raise ValueError with a reason that completes "the item is …", like those of `common.config.values`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

from common.config.addresses import parse_admin_address, parse_host

if TYPE_CHECKING:
    from collections.abc import Iterable

OUTSIDE: Final = "workers"
"""The name of the outside telemetry API; no target may have it."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,31}")
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~%-]+)*")
_STATUS_PATH: Final = "/workers/status"


@attrs.frozen
class SourceEndpoint:
    """A base URL without a slash at its end, and the Unix socket that leads there, if it is not TCP."""

    url: str
    socket: str | None = None

    def __str__(self) -> str:
        return self.url if self.socket is None else f"unix:{self.socket}"


@attrs.frozen
class AdminTarget:
    """One daemon's admin listener under the name that the operator gave it; `str` gives the notation back."""

    name: str
    endpoint: SourceEndpoint

    def __str__(self) -> str:
        return f"{self.name}={self.endpoint}"


def parse_target(text: str) -> AdminTarget:
    """`name=http://host:port`, `name=https://…` or `name=unix:/path`."""
    name, equals, place = (part.strip() for part in text.partition("="))
    if not equals or not _NAME.fullmatch(name):
        raise ValueError("not name=URL, the name of letters, digits, _ . and -, at most 32")
    if name == OUTSIDE:
        raise ValueError(f"named {OUTSIDE}, which is what OPS_WORKERS_URL is called")
    if not place.startswith("unix:"):
        return AdminTarget(name, parse_endpoint(place))
    address = parse_admin_address(place)
    # The host is for the Host header only: it names this machine, as a listener on a socket file expects.
    return AdminTarget(name, SourceEndpoint("http://localhost", str(address).removeprefix("unix:")))


def parse_endpoint(text: str) -> SourceEndpoint:
    """An `http` or `https` base URL; `/workers/status` at its end is taken away."""
    return SourceEndpoint(parse_url(text, ("http", "https")).removesuffix(_STATUS_PATH))


def parse_url(text: str, schemes: Iterable[str]) -> str:
    """A URL of a scheme, a host, perhaps a port and a plain path, without the slash at its end.

    Nothing else gets through, so that the result can stand in a header or a page: no user, query or fragment.
    """
    wanted = f"not a URL such as {'/'.join(schemes)}://host:port"
    # urlsplit takes some characters away without a word.
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(wanted)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(wanted) from None
    path = parts.path.rstrip("/")
    if parts.scheme not in schemes or not parts.hostname or not _PATH.fullmatch(path) or port == 0:
        raise ValueError(wanted)
    if "@" in parts.netloc or "?" in text or "#" in text:
        raise ValueError("a URL with a user, a query or a fragment, which have no place here")
    host = parse_host(parts.hostname)
    netloc = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{netloc}{'' if port is None else f':{port}'}{path}"
