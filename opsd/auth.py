"""Who may do what: decisions about one request's head, without I/O but for the token's file.

A `Guard` lives as long as the process. `Request` is what it looks at; a `Refusal` is what it answers.

Without a token opsd listens on loopback only (the settings see to that). What it then has to fear is a page of somebody
else in the operator's own browser: one that rebinds its name to 127.0.0.1 (the Host header gives it away), that opens a
WebSocket (its Origin does), or that posts a form (it can't set a header of ours).
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import attrs

from common.guesses import Guesses
from common.secret import Secret, SecretError
from common.web.forwarded import client_address, is_trusted, parse_address, share_of
from common.web.origin import is_own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Self

    from common.config import IPNetwork
    from common.web.forwarded import IPAddress

COOKIE: Final = "opsd_session"

SESSION: Final = 30 * 86400
"""Seconds that a login lasts: a screen on a wall has no keyboard."""

GUESS_EVERY: Final = 2.0
"""Seconds after which an address that has guessed may guess once more."""

REREAD: Final = 1.0
"""Seconds between two looks at the token's file."""

MOST_REVOKED: Final = 10_000
"""Logouts that are remembered; each is forgotten when its session would have ended by itself."""

_AUTHORITY: Final = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}))(?::(?P<port>[0-9]{1,5}))?"
)
_SCHEMES: Final = ("http://", "https://")


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
    forwarded_for: tuple[str, ...] = ()
    """The values of all `X-Forwarded-For`, in order."""

    @classmethod
    def parse(
        cls, method: str, path: str, headers: Iterable[tuple[bytes, bytes]], remote: str | None, *, websocket: bool
    ) -> Self:
        """From an ASGI scope's values."""
        values: dict[str, str] = {}
        repeated: set[str] = set()
        forwarded_for: list[str] = []
        for raw_name, raw_value in headers:
            name = raw_name.decode("latin-1").lower()
            if name in values:
                repeated.add(name)
            values[name] = raw_value.decode("latin-1")
            if name == "x-forwarded-for":
                forwarded_for.append(values[name])
        return cls(method, path, values, remote, websocket, frozenset(repeated), tuple(forwarded_for))

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
    host, port = authority
    return origin.lower().startswith(_SCHEMES) and is_own(origin, host if port is None else f"{host}:{port}")


class Guard:
    """Decides about requests; made with the token, if there is one, and two clocks: for cookies and for limits.

    `trusted` are the proxies whose word for a client's address is believed; `on_guess` hears of each wrong token, and
    of each that was not looked at, with the address that it came from.
    """

    def __init__(
        self,
        token: Secret | None,
        *,
        wall: Callable[[], float],
        clock: Callable[[], float],
        trusted: Sequence[IPNetwork] = (),
        on_guess: Callable[[IPAddress | None], None] = lambda _: None,
    ) -> None:
        self._token = token
        self._wall = wall
        self._clock = clock
        self._trusted = trusted
        self._on_guess = on_guess
        self._guesses = Guesses(GUESS_EVERY, clock)
        self._digest = b""
        self._read_at = float("-inf")
        self._revoked: dict[str, float] = {}

    @property
    def token_required(self) -> bool:
        """Whether there is a token at all."""
        return self._token is not None

    def client(self, request: Request) -> IPAddress | None:
        """Where the request comes from, as far as that can be believed."""
        return client_address(parse_address(request.remote or ""), request.forwarded_for, self._trusted)

    def share(self, request: Request) -> IPAddress | None:
        """Whom what the request costs is counted to; None for a proxy's own, or ours on its machine."""
        client = self.client(request)
        return None if client is None or is_trusted(client, self._trusted) else share_of(client)

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

    def refuse_foreign(self, request: Request) -> Refusal | None:
        """Refuse what a browser sends for a foreign page: it needs no answer to keep us busy."""
        return None if self._of_our_page(request) else Refusal(403, "not from a page of this host")

    def refuse_read(self, request: Request) -> Refusal | None:
        """Refuse a foreign page, and who has no token where one is needed."""
        return self.refuse_foreign(request) or self.refuse_unknown(request)

    def refuse_change(self, request: Request, *, login: bool = False) -> Refusal | None:
        """Refuse a request that changes something; `login` is the one that nobody has a token for yet."""
        foreign = self.refuse_foreign(request)
        if foreign is not None or login:
            return foreign
        if request.header("x-ops-request") != "1":
            return Refusal(403, "the header X-Ops-Request: 1 is needed")
        if self.token_required:
            return self.refuse_unknown(request)
        forwarded = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip"))
        if forwarded or not is_loopback(request.remote):
            return Refusal(403, "without OPS_TOKEN, changes are made from this machine only")
        return None

    def knows(self, request: Request) -> bool:
        """Whether `refuse_unknown` lets the request pass."""
        return self.refuse_unknown(request) is None

    def refuse_unknown(self, request: Request) -> Refusal | None:
        """Refuse who has neither the token nor a session where one is needed, and count the tokens that are wrong."""
        if self._token is None or self._session(request) is not None:
            return None
        scheme, _, bearer = (request.header("authorization") or "").partition(" ")
        offered = [request.header("x-tes-dev-token"), bearer.strip() if scheme.lower() == "bearer" else None]
        # A header's text is its bytes, whatever they are meant to say.
        sent = [text.encode("latin-1") for text in offered if text]
        return self.refuse_tokens(request, sent) if sent else UNAUTHORIZED

    def refuse_tokens(self, request: Request, sent: Sequence[bytes]) -> Refusal | None:
        """Refuse these tokens unless one is right; count them as guesses of the request's address if none is."""
        client = self.client(request)
        wait = self._guesses.wait(client)
        if wait > 0:
            self._on_guess(client)
            return Refusal(429, "too many wrong tokens", (("Retry-After", str(math.ceil(wait))),))
        if any(self._is_token(token) for token in sent):
            return None
        # While the token's file can't be read, no guess can be told from the token.
        if self._current_digest():
            self._guesses.wrong(client, len(sent))
            self._on_guess(client)
        return UNAUTHORIZED

    def _is_token(self, offered: bytes) -> bool:
        """Compare in constant time."""
        digest = self._current_digest()
        return bool(digest) and hmac.compare_digest(_digest(offered), digest)

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
        if origin is not None and not same_origin(origin, authority):
            return False
        # Of a WebSocket browsers always tell the origin; what they hold for its site depends on how they see `ws:`.
        own_site = request.header("sec-fetch-site") in {None, "same-origin", "none"}
        return own_site or (request.websocket and origin is not None)

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
