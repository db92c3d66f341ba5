"""The link against a real redis-server: what it refuses, what it orders, and TLS by a proxy in front of it."""

from __future__ import annotations

import random
import ssl
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from common.embedded import EmbeddedRedis, open_embedded_redis
from common.redis.errors import NoPermissionError, ResponseError
from common.redis.link import Link, LinkPolicy, RedisRefused, RedisUnavailable
from common.redis.url import RedisURL, TLSOptions, parse_redis_url
from tests.support.logbook import Logbook
from tests.support.raw import PATIENCE
from tests.support.recording import RecordingHandler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.integration

POLICY = LinkPolicy(request_timeout=PATIENCE, connect_timeout=PATIENCE, retry_base=0.1, retry_max=1.0, max_retries=2)
CERTIFICATE = str(Path(__file__).parent.parent / "support" / "localhost.pem")


def make_link(url: RedisURL, handler: RecordingHandler | None = None, policy: LinkPolicy = POLICY) -> Link:
    return Link(
        url=url,
        client_name="test",
        policy=policy,
        handler=handler or RecordingHandler(),
        log=Logbook().log,
        rng=random.Random(),
    )


@asynccontextmanager
async def open_link(url: RedisURL, handler: RecordingHandler | None = None) -> AsyncIterator[Link]:
    async with trio.open_nursery() as nursery:
        link = make_link(url, handler)
        with trio.fail_after(PATIENCE):
            await nursery.start(link.run)
            yield link
        nursery.cancel_scope.cancel()


def url_of(redis: EmbeddedRedis, db: int = 0) -> RedisURL:
    return parse_redis_url(redis.url(db), db)


async def test_messages_come_in_order_once_and_only_while_subscribed(redis_server: EmbeddedRedis) -> None:
    handler = RecordingHandler()
    async with open_link(url_of(redis_server, 2), handler) as link, open_link(url_of(redis_server, 2)) as publisher:
        for generation in range(20):
            await link.wait_active(link.subscribe(b"c"))
            for i in range(10):
                assert await publisher.request("PUBLISH", "c", f"{generation}:{i}") == 1
            # The answer comes after the messages that were published before the question.
            await link.request("PING")
            link.unsubscribe(b"c")
            await publisher.request("PUBLISH", "c", "nobody wants this")
        assert handler.heard == {b"c": [b"%d:%d" % (g, i) for g in range(20) for i in range(10)]}
        await link.unsubscribe_all()
        assert await publisher.request("PUBSUB", "CHANNELS") == []
        assert (link.reconnects, link.timeouts) == (1, 0)


async def test_a_notification_comes_before_the_reply_that_already_contains_it(redis_server: EmbeddedRedis) -> None:
    handler = RecordingHandler()
    channel = b"__keyspace@0__:run"
    async with open_link(url_of(redis_server), handler) as link, open_link(url_of(redis_server)) as writer:
        await link.wait_active(link.subscribe(channel))
        for i in range(200):
            await writer.request("HSET", "run", "n", i)
            reply = await link.request("HGETALL", "run")
            assert reply == {b"n": b"%d" % i}
            assert len(handler.heard[channel]) == i + 1


async def test_a_wrong_or_missing_password_is_refused_at_once_and_the_right_one_is_not(redis_program: Path) -> None:
    async with open_embedded_redis(password="open-sesame", program=redis_program) as redis:
        url = url_of(redis)
        with pytest.raises(RedisRefused, match="WRONGPASS"):
            await make_link(attrs.evolve(url, password="wrong")).run()
        with pytest.raises(RedisRefused, match="NOAUTH"):
            await make_link(attrs.evolve(url, password=None)).run()
        async with open_link(url) as link:
            assert await link.request("PING") == b"PONG"


async def test_an_acl_that_forbids_one_channel_leaves_the_others_alone(redis_server: EmbeddedRedis) -> None:
    handler = RecordingHandler()
    async with open_link(url_of(redis_server)) as admin:
        await admin.request(
            "ACL", "SETUSER", "ann", "on", ">pw", "+@all", "-info", "allkeys", "resetchannels", "&run:*"
        )
        ann = attrs.evolve(url_of(redis_server), username="ann", password="pw")
        async with open_link(ann, handler) as link:
            allowed, forbidden, other = (link.subscribe(channel) for channel in (b"run:a", b"secret", b"run:b"))
            await link.wait_active(allowed)
            with pytest.raises(NoPermissionError):
                await link.wait_active(forbidden)
            await link.wait_active(other)
            assert await admin.request("PUBLISH", "run:b", "x") == 1
            await link.request("PING")
            assert handler.heard == {b"run:b": [b"x"]}
            with pytest.raises(NoPermissionError):
                await link.request("INFO")
            await admin.request("SET", "text", "x")
            with pytest.raises(ResponseError, match="WRONGTYPE"):
                await link.request("HGETALL", "text")
            assert link.reconnects == 1


@asynccontextmanager
async def open_tls_proxy(redis: EmbeddedRedis) -> AsyncIterator[int]:
    """TLS on a port of its own, in front of a server that has none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)

    async def pump(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream, scope: trio.CancelScope) -> None:
        # Who closes over what it has not read, as a link does that ends while it is answered, resets the connection.
        with suppress(trio.BrokenResourceError):
            async for data in source:
                await sink.send_all(data)
        scope.cancel()

    async def serve(client: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await client.do_handshake()
        except trio.BrokenResourceError:
            # What a client does that does not trust the certificate.
            return
        backend = await trio.open_tcp_stream("127.0.0.1", redis.port)
        async with backend, trio.open_nursery() as nursery:
            nursery.start_soon(pump, client, backend, nursery.cancel_scope)
            nursery.start_soon(pump, backend, client, nursery.cancel_scope)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [trio.SSLListener(listener, context, https_compatible=True)])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("host", "tls", "failure"),
    [
        ("localhost", TLSOptions(ca_file=CERTIFICATE), None),
        ("127.0.0.1", TLSOptions(ca_file=CERTIFICATE, check_hostname=False), None),
        ("127.0.0.1", TLSOptions(verify=False, check_hostname=False), None),
        ("localhost", TLSOptions(), "certificate verification failed"),
        ("127.0.0.1", TLSOptions(ca_file=CERTIFICATE), "IP address mismatch"),
    ],
)
async def test_tls_lets_through_exactly_what_its_options_allow(
    redis_server: EmbeddedRedis, host: str, tls: TLSOptions, failure: str | None
) -> None:
    async with open_tls_proxy(redis_server) as port:
        url = RedisURL(scheme="rediss", host=host, port=port, db=0, tls=tls)
        if failure is None:
            async with open_link(url) as link:
                assert await link.request("PING") == b"PONG"
                payload = "x" * 300_000
                await link.request("SET", "large", payload)
                assert await link.request("GET", "large") == payload.encode()
        else:
            with pytest.raises(RedisUnavailable, match=f"TLS handshake failed: .*{failure}.*: {host}:{port}"):
                await make_link(url).run()


async def test_tls_spoken_to_a_server_without_it_fails_with_a_clear_line(redis_server: EmbeddedRedis) -> None:
    url = attrs.evolve(url_of(redis_server), scheme="rediss", tls=TLSOptions(verify=False, check_hostname=False))
    with pytest.raises(
        RedisUnavailable,
        match=r"TLS handshake failed: TLS: |, the TLS handshake took",
    ):
        # It may wait for the rest of what it takes for a command.
        await make_link(url, policy=attrs.evolve(POLICY, connect_timeout=5.0)).run()
