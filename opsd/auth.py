"""Who may do what: decisions about one request's head, without I/O but for the token's file.

A `Guard` lives as long as the process. `Request` is what it looks at; a `Refusal` is what it answers.

Without a token opsd listens on loopback only (the settings see to that). What it then has to fear is a page of somebody
else in the operator's own browser: one that rebinds its name to 127.0.0.1 (the Host header gives it away), that opens a
WebSocket (its Origin does), or that posts a form (it can't set a header of ours).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

from common.secret import Secret, SecretError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Self

COOKIE: Final = "opsd_session"

SESSION: Final = 30 * 86400
"""Seconds that a login lasts: a screen on a wall has no keyboard."""

LOGINS: Final = 5
"""Attempts to log in a second, right or wrong, from everywhere together."""

REREAD: Final = 1.0
"""Seconds between two looks at the token's file."""

MOST_REVOKED: Final = 10_000
"""Logouts that are remembered; each is forgotten when its session would have ended by itself."""

_AUTHORITY: Final = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}))(?::(?P<port>[0-9]{1,5}))?"
)
_PORTS: Final = {"http": 80, "https": 443}


@attrs.frozen
class Refusal:
    """An answer that says no."""

    status: int
    error: str
    headers: tuple[tuple[str, str], ...] = ()


UNAUTHORIZED: Final = Refusal(401, "a token is needed", (("WWW-Authenticate", 'Bearer realm="opsd"'),))


@attrs.frozen
class Request:
    """The parts of a request's head that decide."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case; the last value of each."""
    remote: str | None
    """The address of the peer, None if it has none."""
    websocket: bool = False
    repeated: frozenset[str] = frozenset()
    """The names that came more than once."""

    @classmethod
    def parse(
        cls, method: str, path: str, headers: Iterable[tuple[bytes, bytes]], remote: str | None, *, websocket: bool
    ) -> Self:
        """From an ASGI scope's values."""
        values: dict[str, str] = {}
        repeated: set[str] = set()
        for raw_name, raw_value in headers:
            name = raw_name.decode("latin-1").lower()
            if name in values:
                repeated.add(name)
            values[name] = raw_value.decode("latin-1")
        return cls(method, path, values, remote, websocket, frozenset(repeated))

    def header(self, name: str) -> str | None:
        """The header's value without the space around it; None when there is none."""
        value = self.headers.get(name)
        return None if value is None else value.strip()

    @property
    def authority(self) -> tuple[str, int | None] | None:
        """The Host header's host, in lower case, and port; None unless there is exactly one that is well formed."""
        return None if "host" in self.repeated else parse_authority(self.header("host") or "")


def parse_authority(text: str) -> tuple[str, int | None] | None:
    """`host[:port]`, the host in lower case and IPv6 in its brackets; None if it is neither."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    return match["host"].lower(), None if match["port"] is None else int(match["port"])


def is_loopback(host: str | None) -> bool:
    """Whether a host, with or without brackets, is this machine by name or address."""
    if host is None:
        return False
    name = host.lower().removeprefix("[").removesuffix("]").rstrip(".")
    if name == "localhost":
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def same_origin(origin: str, authority: tuple[str, int | None]) -> bool:
    """Whether an Origin header names the host and port that the request went to.

    The scheme is the proxy's affair: behind one that ends TLS, a page of ours has an https origin here.
    """
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    own_port = _PORTS.get(parts.scheme)
    if own_port is None or parts.path or parts.query or parts.fragment:
        return False
    found = parse_authority(parts.netloc)
    host, host_port = authority
    return found is not None and found[0] == host and (port or own_port) == (host_port or own_port)


class Guard:
    """Decides about requests; made with the token, if there is one, and two clocks: for cookies and for limits."""

    def __init__(self, token: Secret | None, *, wall: Callable[[], float], clock: Callable[[], float]) -> None:
        self._token = token
        self._wall = wall
        self._clock = clock
        self._digest = b""
        self._read_at = float("-inf")
        self._revoked: dict[str, float] = {}
        self._logins: list[float] = []

    @property
    def token_required(self) -> bool:
        """Whether there is a token at all."""
        return self._token is not None

    def refuse_host(self, request: Request) -> Refusal | None:
        """Refuse a request that was sent to another name: a page whose name has been pointed at this machine.

        With a token any name will do: such a page has no cookie of ours, and a proxy may give us any name.
        """
        authority = request.authority
        if authority is None:
            return Refusal(400, "one good Host header is needed")
        if not self.token_required and not is_loopback(authority[0]):
            return Refusal(421, "not a name of this machine: set OPS_TOKEN to be reached under other names")
        return None

    def refuse_read(self, request: Request) -> Refusal | None:
        """Refuse who has no token where one is needed, and the WebSocket of a foreign page."""
        if request.websocket and not self._of_our_page(request):
            return Refusal(403, "not from a page of this host")
        return None if self.knows(request) else UNAUTHORIZED

    def refuse_change(self, request: Request, *, login: bool = False) -> Refusal | None:
        """Refuse a request that changes something; `login` is the one that nobody has a token for yet."""
        if not self._of_our_page(request):
            return Refusal(403, "not from a page of this host")
        if login:
            return None
        if request.header("x-ops-request") != "1":
            return Refusal(403, "the header X-Ops-Request: 1 is needed")
        if self.token_required:
            return None if self.knows(request) else UNAUTHORIZED
        forwarded = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip"))
        if forwarded or not is_loopback(request.remote):
            return Refusal(403, "without OPS_TOKEN, changes are made from this machine only")
        return None

    def knows(self, request: Request) -> bool:
        """Whether the request has the token or a session, or needs none."""
        if self._token is None:
            return True
        scheme, _, bearer = (request.header("authorization") or "").partition(" ")
        offered = [request.header("x-tes-dev-token"), bearer.strip() if scheme.lower() == "bearer" else None]
        # A header's text is its bytes, whatever they are meant to say.
        sent = [text.encode("latin-1") for text in offered if text]
        return any(map(self.is_token, sent)) or self._session(request) is not None

    def is_token(self, offered: bytes) -> bool:
        """Compare in constant time."""
        digest = self._current_digest()
        return bool(digest) and hmac.compare_digest(_digest(offered), digest)

    def admit_login(self) -> bool:
        """Count one attempt to log in; False when there were too many within a second."""
        now = self._clock()
        self._logins = [at for at in self._logins if now - at < 1.0]
        if len(self._logins) >= LOGINS:
            return False
        self._logins.append(now)
        return True

    def new_cookie(self, request: Request) -> str:
        """A Set-Cookie value that opens a session. It holds no secret but a proof: it dies with the token."""
        name = f"{int(self._wall()) + SESSION}.{secrets.token_hex(16)}"
        return self._cookie(f"{name}.{self._proof(name)}", SESSION, request)

    def end_session(self, request: Request) -> str:
        """End the request's session, if it has one; return the Set-Cookie value that removes it."""
        cookie = self._session(request)
        if cookie is not None:
            name, expires = cookie
            now = self._wall()
            self._revoked = {name: end for name, end in self._revoked.items() if end > now}
            while len(self._revoked) >= MOST_REVOKED:
                del self._revoked[next(iter(self._revoked))]
            self._revoked[name] = expires
        return self._cookie("", 0, request)

    def _of_our_page(self, request: Request) -> bool:
        """True also for what is no page: it sends no Origin."""
        origin, authority = request.header("origin"), request.authority
        if authority is None or "origin" in request.repeated:
            return False
        if request.header("sec-fetch-site") not in {None, "same-origin", "none"} and not request.websocket:
            return False
        return origin is None or same_origin(origin, authority)

    def _session(self, request: Request) -> tuple[str, float] | None:
        """The name of the request's session and when it ends; None if it has no good one."""
        if self._token is None or not self._current_digest():
            return None
        for pair in (request.header("cookie") or "").split(";"):
            key, _, value = pair.strip().partition("=")
            name, _, proof = value.rpartition(".")
            expires, _, _ = name.partition(".")
            if key != COOKIE or not re.fullmatch(r"[0-9]{1,15}", expires):
                continue
            good = hmac.compare_digest(proof.encode("latin-1"), self._proof(name).encode())
            if good and int(expires) > self._wall() and name not in self._revoked:
                return name, float(expires)
        return None

    def _proof(self, name: str) -> str:
        return hmac.new(b"session " + self._current_digest(), name.encode("latin-1"), hashlib.sha256).hexdigest()

    def _cookie(self, value: str, age: int, request: Request) -> str:
        secure = "; Secure" if (request.header("origin") or "").startswith("https://") else ""
        return f"{COOKIE}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"

    def _current_digest(self) -> bytes:
        """The digest of the token; empty, which nothing matches, while its file can't be read."""
        now = self._clock()
        if self._token is not None and now - self._read_at >= REREAD:
            self._read_at = now
            try:
                self._digest = _digest(self._token.read().encode())
            except SecretError:
                self._digest = b""
        return self._digest


def _digest(data: bytes) -> bytes:
    """Of equal length whatever is offered."""
    return hashlib.sha256(data).digest()
