"""A full name, with the dot that ends it, is held against a certificate without it: of Redis, a source and a daemon."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio
from trio_websocket import HandshakeError

from common.names import Names
from common.redis.transport import Steps, open_stream
from common.redis.url import RedisURL, TLSOptions
from common.watch.socket import open_socket
from opsd.sources.fetch import FetchError, fetch, make_client
from opsd.sources.target import SourceEndpoint
from tests.support.raw import PATIENCE
from tests.support.tls import CERTIFICATE, AllHere, listening, secured

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def of_redis(host: str, port: int) -> None:
    url = RedisURL(scheme="rediss", host=host, port=port, db=0, tls=TLSOptions(ca_file=str(CERTIFICATE)))
    await trio.aclose_forcefully(await open_stream(url, Steps(), Names()))


async def of_a_source(host: str, port: int) -> None:
    async with make_client(SourceEndpoint(f"https://{host}:{port}")) as client:
        with pytest.raises(FetchError, match="illegal status line"):
            await fetch(client, "/", None, seconds=PATIENCE, limit=10)


async def of_a_daemon(host: str, port: int) -> None:
    with suppress(HandshakeError):
        async with open_socket(f"wss://{host}:{port}/r:c"):
            pass


@pytest.mark.parametrize("open_tls", [of_redis, of_a_source, of_a_daemon])
@pytest.mark.real_time
async def test_the_dot_that_ends_a_name_is_in_no_certificate(
    open_tls: Callable[[str, int], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    trio.socket.set_custom_hostname_resolver(AllHere())
    shaken: list[str] = []

    async def shake_hands(stream: trio.SocketStream) -> None:
        tls = secured(stream)
        await tls.do_handshake()
        shaken.append("hands")
        await tls.receive_some()
        await tls.send_all(b"neither Redis nor HTTP\r\n\r\n")

    async with listening(shake_hands) as peer:
        with trio.fail_after(PATIENCE):
            await open_tls("localhost.", peer.port)
    assert shaken == ["hands"]
