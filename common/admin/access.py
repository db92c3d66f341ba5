"""Who may ask the operator's listener: the page that asks, the Host header, the token and how often it was wrong.

A web page that a browser shows can ask any listener that the browser reaches, and hold its places with what it never
gets to read; the browser says so (`Sec-Fetch-Site`, `Origin`). It can also have its own name point to 127.0.0.1 and
then ask as if we were its server; the Host header tells. On a Unix socket, and behind a token, that leads nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import attrs

from common.config import ListenAddress
from common.guesses import Guesses
from common.secret import SecretError
from common.web.forwarded import client_address
from common.web.http import Head, Response, refusal
from common.web.origin import is_own

if TYPE_CHECKING:
    from common.config import IPNetwork, UnixAddress
    from common.secret import Secret
    from common.web.forwarded import IPAddress

GUESSING: Final = "token_guessing"
"""The reason of a refusal whose token was not looked at."""

GUESS_EVERY: Final = 5.0
"""Seconds after which an address that has guessed may guess once more."""

_WRONG: Final = "token"
_CHALLENGE: Final = [("WWW-Authenticate", "Bearer")]
_OWN_SITES: Final = {"same-origin", "none"}
"""What `Sec-Fetch-Site` says of our own pages and of what a person has typed (W3C Fetch Metadata)."""


@attrs.frozen
class Access:
    """The rules of one listener: where it is bound, and its token, which is read anew for every request."""

    address: ListenAddress | UnixAddress
    token: Secret | None
    trusted_proxies: tuple[IPNetwork, ...] = ()
    """Networks whose word about the client's address is believed."""
    guesses: Guesses = attrs.field(factory=lambda: Guesses(GUESS_EVERY), eq=False, repr=False)
    """The wrong tokens so far."""

    def client(self, peer: IPAddress | None, head: Head) -> IPAddress | None:
        """The client's address, where `peer` is the socket's other end; None if it has none."""
        return client_address(peer, head.values(b"x-forwarded-for"), self.trusted_proxies)

    def refusal(self, head: Head, client: IPAddress | None) -> Response | None:
        """The answer for who may not ask; None for who may. `client` is the address that wrong tokens count for."""
        if isinstance(self.address, ListenAddress) and self.address.is_loopback:
            for host in {*head.values(b"host"), *([] if head.host is None else [head.host])}:
                if not self._is_own(host):
                    return refusal(HTTPStatus.MISDIRECTED_REQUEST, "host", "this host is not served here")
        if _is_foreign(head):
            return refusal(HTTPStatus.FORBIDDEN, "foreign_page", "the pages of other sites may not ask here")
        return None if self.token is None else self._without_token(head, self.token, client)

    def _is_own(self, host: str) -> bool:
        """Whether `host` is a name of this machine that no other name server can give away. Any port: it may be
        forwarded."""
        name = host.strip().lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        try:
            return ip_address(name).is_loopback
        except ValueError:
            return name.rstrip(".") == "localhost"

    def _without_token(self, head: Head, token: Secret, client: IPAddress | None) -> Response | None:
        given = [value for name, value in head.headers if name == b"authorization"]
        # Who reaches a Unix socket may read our files: there is nobody to keep from guessing.
        counted = client if given else None
        if counted is not None and (wait := self.guesses.wait(counted)):
            return refusal(HTTPStatus.TOO_MANY_REQUESTS, GUESSING, "too many wrong tokens", retry_after=math.ceil(wait))
        refused = _check_token(given, token)
        if counted is not None and refused is not None and refused.reason == _WRONG:
            self.guesses.wrong(counted)
        return refused


def _is_foreign(head: Head) -> bool:
    """Whether a browser says that a page of another site, or of another port of this host, asks."""
    if any(site.lower() not in _OWN_SITES for site in head.values(b"sec-fetch-site")):
        return True
    return any(not is_own(origin, head.host) for origin in head.values(b"origin"))


def _check_token(given: list[bytes], token: Secret) -> Response | None:
    try:
        expected = token.read()
    except SecretError as error:
        # Where the token is kept is nothing for strangers.
        text = "the token that would open this can't be read"
        return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "token_unreadable", text, detail=str(error))
    scheme, _, credentials = (given[0] if len(given) == 1 else b"").partition(b" ")
    # Hashed first: the comparison takes as long for a guess of any length.
    same = hmac.compare_digest(
        hashlib.sha256(credentials.strip()).digest(), hashlib.sha256(expected.strip().encode()).digest()
    )
    if same and scheme.lower() == b"bearer":
        return None
    return refusal(HTTPStatus.UNAUTHORIZED, _WRONG, "the token is missing or wrong", _CHALLENGE)
