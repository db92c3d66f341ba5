"""TLS on the way to a source: a certificate that the system trusts, those that it does not, and peers without any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from opsd.sources.fetch import FetchError, FetchTimeoutError, fetch, make_client
from opsd.sources.target import SourceEndpoint
from opsd.sources.transport import MOST_CONNECTIONS
from tests.support.raw import PATIENCE, wait_until
from tests.support.tls import CERTIFICATE, LocalServer, answer_without_tls, hang_up, listening, secured, stay_silent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx
    import trio

pytestmark = pytest.mark.real_time

WHOLE: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def answer(stream: trio.SocketStream) -> None:
    """A source as it should be."""
    tls = secured(stream)
    # Who does not trust the certificate has left.
    if request := await tls.receive_some():
        assert request.startswith(b"GET /workers/status HTTP/1.1\r\nHost: localhost")
        await tls.send_all(WHOLE)
        assert await tls.receive_some() == b""


def client_of(peer: LocalServer) -> httpx.AsyncClient:
    return make_client(SourceEndpoint(f"https://localhost:{peer.port}"))


async def test_a_source_behind_tls_is_read_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    async with listening(answer) as peer, client_of(peer) as client:
        for _ in range(2):
            answered = await fetch(client, "/workers/status", None, seconds=PATIENCE, limit=10)
            assert answered.body == b"{}"
        await wait_until(lambda: peer.ends == ["left", "left"], "both connections were closed")


@pytest.mark.parametrize(
    ("serve", "reason"),
    [(answer, "certificate verify failed"), (answer_without_tls, "(?i:wrong version number)"), (hang_up, "")],
)
async def test_a_source_whose_tls_fails_is_not_asked(
    serve: Callable[[trio.SocketStream], Awaitable[None]], reason: str
) -> None:
    async with listening(serve) as peer, client_of(peer) as client:
        # More often than there are places: each attempt gives its place back.
        for _ in range(MOST_CONNECTIONS + 1):
            with pytest.raises(FetchError, match=f"^ConnectError: TLS: .*{reason}"):
                await fetch(client, "/workers/status", None, seconds=PATIENCE, limit=10)
        await wait_until(lambda: len(peer.ends) == MOST_CONNECTIONS + 1, "every connection was closed")


async def test_a_handshake_that_never_ends_is_left_in_time() -> None:
    async with listening(stay_silent) as peer, client_of(peer) as client:
        with pytest.raises(FetchTimeoutError):
            await fetch(client, "/workers/status", None, seconds=0.2, limit=10)
        await wait_until(lambda: peer.ends == ["left"], "the connection was closed")
