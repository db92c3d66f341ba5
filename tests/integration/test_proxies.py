"""The configurations of `deploy/proxies` with the real Caddy, nginx and HAProxy before real daemons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.client import handshake
from tests.support.daemon import open_daemon
from tests.support.proxies import KINDS, ONCE, PREFIX, open_proxy
from tests.support.raw import HOST, RawClient, ask, connect, fetch, open_redis, wait_until

if TYPE_CHECKING:
    from common.embedded import EmbeddedRedis

pytestmark = [pytest.mark.integration, pytest.mark.parametrize("kind", KINDS)]

SETTINGS = {"allowed_origins": "*.example.gov", "max_connections_per_address": "2", "metrics_enabled": "true"}


async def test_a_browser_gets_what_it_would_get_without_the_proxy(kind: str, redis_server: EmbeddedRedis) -> None:
    async with (
        open_daemon(redis_server, SETTINGS) as statusd,
        open_daemon(redis_server, SETTINGS, module="preflightd") as preflightd,
        open_proxy(kind, statusd.port, preflightd.port) as port,
        open_redis(redis_server) as redis,
        trio.open_nursery() as nursery,
    ):
        # The platform's forms: as encodeURIComponent writes an id, and as it stands.
        encoded = await connect(nursery, port, f"{PREFIX}/status/batch%3B%3Ba%3B%3B_base%3Awepp?gap=1")
        raw = await connect(nursery, port, f"{PREFIX}/status/batch;;a;;_base:wepp")
        assert await redis.call("PUBLISH", "batch;;a;;_base:wepp", "line") == 1
        for client in (encoded, raw):
            assert await client.receive(1) == [b'{"type":"status","data":"line"}']
        checklist = await connect(nursery, port, f"{PREFIX}/preflight/batch;;a;;_base")
        assert b'"checklist":{"sbs_map":false' in (await checklist.receive(1))[0]
        await wait_until(lambda: len(statusd.said("connection accepted")) == 2, "two connections")
        assert {line["remote"] for line in statusd.said("connection accepted")} == {HOST}
        await _leave(encoded, raw, checklist)


async def test_a_forged_address_passes_no_limit(kind: str, redis_server: EmbeddedRedis) -> None:
    async with (
        open_daemon(redis_server, SETTINGS) as statusd,
        open_proxy(kind, statusd.port, statusd.port) as port,
        trio.open_nursery() as nursery,
    ):
        path = f"{PREFIX}/status/run:wepp"
        clients = [await connect(nursery, port, path, {"X-Forwarded-For": f"192.0.2.{n}"}) for n in (1, 2)]
        third = await ask(port, handshake(path, {"X-Forwarded-For": "192.0.2.3", "Connection": "close, Upgrade"}))
        assert third.status == 503
        await _leave(*clients)


async def test_the_pages_own_host_passes_and_a_foreign_one_does_not(kind: str, redis_server: EmbeddedRedis) -> None:
    async with (
        open_daemon(redis_server, SETTINGS) as statusd,
        open_proxy(kind, statusd.port, statusd.port) as port,
        trio.open_nursery() as nursery,
    ):
        path = f"{PREFIX}/status/run:wepp"
        own = await connect(nursery, port, path, {"Origin": "http://example.org"})
        await own.leave()
        with_port = handshake(path, {"Origin": f"http://example.org:{port}"}).replace(
            b"Host: example.org", f"Host: example.org:{port}".encode()
        )
        assert (await _status(nursery, port, with_port)) == 101
        assert (await _status(nursery, port, handshake(path, {"Origin": "https://evil.org"}))) == 403
        assert (await _status(nursery, port, handshake(path, {"Origin": "https://a.example.gov"}))) == 101
        nursery.cancel_scope.cancel()


async def test_pages_that_are_the_operators_are_not_shown(kind: str, redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, SETTINGS) as statusd, open_proxy(kind, statusd.port, statusd.port) as port:
        for daemon in ("status", "preflight"):
            for page in ("metrics", "metrics/", "%6detrics", "./metrics"):
                assert (await fetch(port, f"{PREFIX}/{daemon}/{page}", headers=ONCE)).status in {400, 404}, page
            assert (await fetch(port, f"{PREFIX}/{daemon}/health", headers=ONCE)).status == 200


async def _status(nursery: trio.Nursery, port: int, head: bytes) -> int | None:
    client = RawClient(await _stream(port), answers=True)
    nursery.start_soon(client.run)
    await client.send_raw(head)
    await client.wait(lambda _: client.status is not None or client.ended, within=60)
    return client.status


async def _stream(port: int) -> trio.SocketStream:
    return await trio.open_tcp_stream(HOST, port)


async def _leave(*clients: RawClient) -> None:
    for client in clients:
        await client.leave()
