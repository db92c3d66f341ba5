"""Bounded requests to a source: a deadline, a size, no redirect, no proxy, no cookie that is kept.

A client belongs to its source and is closed by it. Every request has a connection of its own: one that the other side
closes while it is idle would look like a failure.
"""

from __future__ import annotations

from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from common.quote import quote
from common.secret import SecretError
from opsd.sources.transport import SourceTransport

if TYPE_CHECKING:
    from common.secret import Secret
    from opsd.sources.target import SourceEndpoint

FETCH_ERRORS: Final = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)
"""All that httpx raises for what the other side or the network does."""

LONGEST_WAIT: Final = 3600
"""Seconds of a Retry-After that are passed on."""

_OK: Final = 200


class FetchError(Exception):
    """There is no usable answer; the message is for the log. `status` is the answer's, None when there is none.

    `retry_after` are the seconds after which the answer asks to come back, None when it says nothing of the kind.
    """

    def __init__(self, text: str, status: int | None = None, retry_after: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after = retry_after


class FetchTimeoutError(FetchError):
    """The answer was not there in time."""


@attrs.frozen
class Answer:
    """A whole answer."""

    encoding: str
    """Content-Encoding in lower case; `identity` when there is none."""
    body: bytes


def make_client(endpoint: SourceEndpoint, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """A client for one source, without deadlines: whoever asks bounds the whole. `transport` replaces the network."""
    return httpx.AsyncClient(
        transport=SourceTransport(endpoint.socket) if transport is None else transport,
        base_url=endpoint.url,
        timeout=None,  # noqa: S113 - see above
        follow_redirects=False,
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    )


def headers(token: Secret | None, *, accept: str, encoding: str = "identity") -> dict[bytes, bytes]:
    """The headers of a request. Raises FetchError when the token can't be read."""
    wanted = {b"accept": accept.encode(), b"accept-encoding": encoding.encode(), b"connection": b"close"}
    if token is not None:
        try:
            wanted[b"authorization"] = b"Bearer " + token.read().encode()
        except SecretError as error:
            raise FetchError(str(error)) from error
    return wanted


async def fetch(
    client: httpx.AsyncClient,
    path: str,
    token: Secret | None,
    *,
    seconds: float,
    limit: int,
    encoding: str = "identity",
) -> Answer:
    """GET `path` and return the answer, which is a 200 of at most `limit` bytes. Raises FetchError."""
    wanted = headers(token, accept="application/json", encoding=encoding)
    body, too_large = bytearray(), False
    with trio.move_on_after(seconds) as scope:
        try:
            async with client.stream("GET", path, headers=wanted) as response:
                if response.status_code != _OK:
                    wait = retry_after(response.headers.get("retry-after", ""))
                    raise FetchError(f"answered {response.status_code}", response.status_code, wait)
                got = encoding_of(response)
                if got not in {"identity", encoding}:
                    raise FetchError("answered in an encoding that was not asked for", _OK)
                async for chunk in response.aiter_raw():
                    if not too_large:
                        body += chunk
                    if len(body) > limit:
                        too_large = True
                        # Cancelled, the next read ends the iteration: left alone, its generators would live on.
                        scope.cancel()
        except FETCH_ERRORS as error:
            raise FetchError(explain(error)) from error
        except ValueError as error:
            # What httpx makes of a Location or a header that it can't read.
            raise FetchError("answered what can't be read") from error
    if too_large:
        raise FetchError(f"answered more than {limit} bytes")
    if scope.cancelled_caught:
        raise FetchTimeoutError(f"no answer within {seconds:g}s")
    return Answer(got, bytes(body))


def retry_after(value: str) -> int | None:
    """The seconds of a Retry-After header; None for a date, nonsense, and what is longer than `LONGEST_WAIT`."""
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        return None
    return int(value) if 1 <= int(value) <= LONGEST_WAIT else None


def encoding_of(response: httpx.Response) -> str:
    """Content-Encoding in lower case; `identity` when there is none."""
    encoding: str = response.headers.get("content-encoding", "identity")
    return encoding.strip().lower()


def explain(error: Exception) -> str:
    """One line that says what happened, even where httpx says nothing."""
    text = str(error)
    return f"{type(error).__name__}: {quote(text)}" if text else type(error).__name__
