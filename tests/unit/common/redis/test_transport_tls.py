"""Opening a connection to Redis over TLS: which certificates will do, and what is said of those that will not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from common.names import Names
from common.redis.errors import RedisConnectionError
from common.redis.transport import Steps, open_stream, peer_address
from common.redis.url import RedisURL, TLSOptions
from tests.support.raw import PATIENCE, wait_until
from tests.support.tls import CERTIFICATE, LocalServer, answer_without_tls, hang_up, listening, secured, stay_silent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.real_time


async def echo(stream: trio.SocketStream) -> None:
    """A server that says again what it is told."""
    tls = secured(stream)
    while data := await tls.receive_some():
        await tls.send_all(data)


def url_of(peer: LocalServer, host: str = "localhost", *, ca_file: str | None = str(CERTIFICATE)) -> RedisURL:
    return RedisURL(scheme="rediss", host=host, port=peer.port, db=0, tls=TLSOptions(ca_file=ca_file))


@pytest.mark.parametrize(
    ("host", "at"),
    [
        ("localhost", None),
        # The address of one that was found by its name before: the certificate is the name's all the same.
        ("localhost", "127.0.0.1"),
    ],
)
async def test_what_is_opened_is_the_servers_and_knows_its_address(host: str, at: str | None) -> None:
    async with listening(echo) as peer:
        steps = Steps()
        with trio.fail_after(PATIENCE):
            async with await open_stream(url_of(peer, host), steps, Names(), at) as stream:
                assert steps.step == "the TLS handshake"
                assert peer_address(stream) == "127.0.0.1"
                await stream.send_all(b"PING")
                assert await stream.receive_some() == b"PING"
        await wait_until(lambda: peer.ends == ["left"], "the connection was closed")


@pytest.mark.parametrize(
    ("serve", "host", "ca_file", "reason"),
    [
        (echo, "localhost", None, r"certificate verification failed \(self.signed certificate\)"),
        (echo, "127.0.0.1", str(CERTIFICATE), r"certificate verification failed \(IP address mismatch.*\)"),
        (answer_without_tls, "localhost", None, "TLS: .*wrong version number.*"),
        (hang_up, "localhost", None, ".*"),
    ],
)
async def test_a_handshake_that_fails_is_told_in_one_clause_and_leaves_nothing_open(
    serve: Callable[[trio.SocketStream], Awaitable[None]], host: str, ca_file: str | None, reason: str
) -> None:
    async with listening(serve) as peer:
        with trio.fail_after(PATIENCE):
            with pytest.raises(
                RedisConnectionError, match=f"^TLS handshake failed: {reason}: {host}:{peer.port}$"
            ) as caught:
                await open_stream(url_of(peer, host, ca_file=ca_file), Steps(), Names())
        assert str(caught.value).isprintable()
        await wait_until(lambda: len(peer.ends) == 1, "the connection was closed")


async def test_who_gives_up_in_mid_handshake_leaves_nothing_open() -> None:
    async with listening(stay_silent) as peer:
        steps = Steps()
        with trio.move_on_after(0.2) as patience:
            await open_stream(url_of(peer), steps, Names())
        assert patience.cancelled_caught
        assert steps.step == "the TLS handshake"
        await wait_until(lambda: peer.ends == ["left"], "the connection was closed")
