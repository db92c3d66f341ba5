"""Who may ask the operator's listener: the Host header and the token.

A web page that a browser shows can have its own name point to 127.0.0.1 and then ask us as if we were its server; the
Host header tells. On a Unix socket, and behind a token, that leads nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING

import attrs

from common.config import ListenAddress
from common.secret import SecretError
from common.web.http import Head, Response, refusal

if TYPE_CHECKING:
    from common.config import UnixAddress
    from common.secret import Secret

_CHALLENGE = [("WWW-Authenticate", "Bearer")]


@attrs.frozen
class Access:
    """The rules of one listener: where it is bound, and its token, which is read anew for every request."""

    address: ListenAddress | UnixAddress
    token: Secret | None

    def refusal(self, head: Head) -> Response | None:
        """The answer for who may not ask; None for who may."""
        if isinstance(self.address, ListenAddress) and self.address.is_loopback:
            for host in head.values(b"host"):
                if not self._is_own(host):
                    return refusal(HTTPStatus.MISDIRECTED_REQUEST, "host", "this host is not served here")
        return None if self.token is None else _without_token(head, self.token)

    def _is_own(self, host: str) -> bool:
        """Whether `host` is a name of this machine that no other name server can give away. Any port: it may be
        forwarded."""
        name = host.strip().lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        try:
            return ip_address(name).is_loopback
        except ValueError:
            return name.rstrip(".") == "localhost"


def _without_token(head: Head, token: Secret) -> Response | None:
    try:
        expected = token.read()
    except SecretError as error:
        return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "token_unreadable", str(error))
    given = [value for name, value in head.headers if name == b"authorization"]
    scheme, _, credentials = (given[0] if len(given) == 1 else b"").partition(b" ")
    # Hashed first: the comparison takes as long for a guess of any length.
    same = hmac.compare_digest(
        hashlib.sha256(credentials.strip()).digest(), hashlib.sha256(expected.strip().encode()).digest()
    )
    if same and scheme.lower() == b"bearer":
        return None
    return refusal(HTTPStatus.UNAUTHORIZED, "token", "the token is missing or wrong", _CHALLENGE)
