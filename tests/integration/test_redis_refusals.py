"""statusd and a redis-server that refuses: passwords, channels, connections, messages too large; and other ways to it.

The other ways are a unix socket and TLS. The redis-server of the tests may not speak TLS: there a small proxy in the
test does, so that the bytes still come from a real one.
"""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio

from common.embedded import open_embedded_redis
from tests.support import needs
from tests.support.client import HANGUP_PAYLOAD
from tests.support.daemon import environment, open_daemon, run_to_end
from tests.support.load import Follower, open_traffic
from tests.support.raw import HOST, PATIENCE, RawClient, connect, open_redis, open_stream, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from common.embedded import EmbeddedRedis
    from tests.support.daemon import DaemonProcess
    from tests.support.load import Traffic

pytestmark = pytest.mark.integration

LOST: Final = "redis stream interrupted"
RETRY: Final = "redis unavailable, retrying"
ENDED: Final = "connection ended with error"
REFUSED: Final = "subscription refused"
DROPPED: Final = "message dropped"

QUICK: Final = {
    "redis_retry_base": "50ms",
    "redis_retry_max": "100ms",
    "redis_max_retries": "0",
    "metrics_enabled": "true",
}

RUN: Final = "run-1:log"


def status(data: str) -> bytes:
    """The text that a client gets for `data`."""
    return b'{"type":"status","data":"%b"}' % data.encode()


async def wait_retry(daemon: DaemonProcess, text: str) -> None:
    """Wait for an attempt that failed for this reason."""
    await wait_until(lambda: any(text in line["error"] for line in daemon.said(RETRY)), f"{RETRY}: {text}")


async def check_resumed(daemon: DaemonProcess, traffic: Traffic, followers: list[Follower]) -> None:
    """Wait until the link is back, end the traffic: every client has its socket and what it was owed."""
    await wait_until(lambda: daemon_online(daemon), "online again")
    await traffic.wait_heard()
    await traffic.stop(followers)
    for follower in followers:
        traffic.check(follower, forgiven=1)
        assert follower.undisturbed


def daemon_online(daemon: DaemonProcess) -> bool:
    """Whether the log says that the link came back after its last end."""
    words = [line["msg"] for line in daemon.lines if line["msg"] in {LOST, "redis online"}]
    return LOST in words and words[-1] == "redis online"


# -- passwords --------------------------------------------------------------------------------------------------------


async def test_a_rotated_secret_is_read_at_the_next_attempt(
    redis_server: EmbeddedRedis, nursery: trio.Nursery, tmp_path: Path
) -> None:
    secret = tmp_path / "redis-password"
    secret.write_text("the-former-one\n")
    settings = QUICK | {"redis_password_file": str(secret)}
    async with (
        open_traffic(redis_server, [RUN, "run-2:log"]) as traffic,
        open_daemon(redis_server, settings, expect={LOST, RETRY}) as daemon,
    ):
        followers = await traffic.gather(nursery, daemon.port, 8)
        await traffic.wait_heard()
        redis_server.password = "the-new one; with ünusual \\ characters"
        await redis_server.restart()
        await wait_retry(daemon, "WRONGPASS: Redis refuses the password of the default user")
        assert await daemon.health() == 503
        # What a rotation may look like in between.
        secret.write_text("")
        await wait_retry(daemon, f"STATUS_REDIS_PASSWORD_FILE: file {secret} is empty")
        secret.unlink()
        await wait_retry(daemon, f"STATUS_REDIS_PASSWORD_FILE: file {secret} can't be read: No such file or directory")
        secret.write_text(redis_server.password + "\n")
        await check_resumed(daemon, traffic, followers)
        log = "".join(map(str, daemon.lines))
        assert "the-former-one" not in log
        assert "the-new" not in log


async def test_a_password_that_is_asked_for_later_is_an_outage(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with (
        open_traffic(redis_server, [RUN]) as traffic,
        open_daemon(redis_server, QUICK, expect={LOST, RETRY}) as daemon,
    ):
        followers = await traffic.gather(nursery, daemon.port, 2)
        await traffic.wait_heard()
        redis_server.password = "unknown-to-the-daemon"
        await redis_server.restart()
        await wait_retry(daemon, "NOAUTH: Redis wants a password and none is configured")
        assert await daemon.health() == 503
        async with open_redis(redis_server) as redis:
            await redis.call("CONFIG", "SET", "requirepass", "")
        redis_server.password = None
        await check_resumed(daemon, traffic, followers)


# -- permissions ------------------------------------------------------------------------------------------------------


async def test_a_forbidden_channel_ends_its_own_clients_only(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_redis(redis_server) as redis:
        await redis.call("ACL", "SETUSER", "limited", "on", ">secret", "~*", "+@all", "resetchannels", "&allowed:*")
        url = f"redis://limited:secret@{HOST}:{redis_server.port}/2"
        async with open_daemon(url, QUICK, expect={REFUSED, ENDED, LOST, RETRY}) as daemon:
            allowed = [await connect(nursery, daemon.port, f"/allowed:{name}") for name in ("log", "log", "wepp")]
            forbidden = [await connect(nursery, daemon.port, "/secret:log") for _ in range(3)]
            for client in forbidden:
                await check_refused(client)
            assert await daemon.wait_said(REFUSED, channel="secret:log")
            assert all("NOPERM" in line["error"] for line in daemon.said(REFUSED))
            assert len(await daemon.wait_said(ENDED, 3, reason="refused_by_redis", channel="log", run_id="secret")) == 3
            assert await daemon.metric("status2_disconnects_total", 'reason="refused_by_redis"') == 3
            assert await redis.publish("allowed:log", ["1"]) == [1]
            assert await redis.publish("allowed:wepp", ["2"]) == [1]
            for client, text in zip(allowed, ("1", "1", "2"), strict=True):
                assert await client.receive(1) == [status(text)]
            assert await daemon.health() == 200
            assert not daemon.said(LOST)

            await redis.call("ACL", "SETUSER", "limited", "&secret:*")
            late = await connect(nursery, daemon.port, "/secret:log")
            assert await redis.publish("secret:log", ["3"]) == [1]
            assert await late.receive(1) == [status("3")]

            # Redis ends a connection whose user loses a channel that it listens to: an outage, and the end for some.
            await redis.call("ACL", "SETUSER", "limited", "resetchannels", "&allowed:*")
            await check_refused(late, after=[status("3")])
            await wait_until(lambda: daemon_online(daemon), "online again")
            assert await redis.publish("allowed:log", ["4"]) == [1]
            assert await allowed[0].receive(2) == [status("1"), status("4")]
            assert not any(client.ended for client in allowed)


async def check_refused(client: RawClient, after: list[bytes] | None = None) -> None:
    """The client was let in, and is told by hangup and close code that its channel is not to be had."""
    await client.wait_ended(within=PATIENCE)
    assert client.status == 101
    assert client.messages == [*(after or []), HANGUP_PAYLOAD]
    assert client.close_code == 1011


async def test_a_server_that_is_full_is_an_outage(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    async with (
        open_traffic(redis_server, [RUN]) as traffic,
        open_daemon(redis_server, QUICK, expect={LOST, RETRY}) as daemon,
        open_redis(redis_server) as redis,
    ):
        followers = await traffic.gather(nursery, daemon.port, 2)
        await traffic.wait_heard()
        await redis.call("CONFIG", "SET", "maxclients", 1)
        assert await traffic.disturb("CLIENT", "KILL", "TYPE", "pubsub") == 1
        await wait_retry(daemon, "max number of clients reached")
        await redis.call("CONFIG", "SET", "maxclients", 1000)
        await check_resumed(daemon, traffic, followers)


# -- messages too large -----------------------------------------------------------------------------------------------

MB: Final = 1 << 20


async def test_a_message_too_large_is_dropped_and_ends_nobody(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with (
        open_redis(redis_server) as redis,
        open_daemon(redis_server, {"metrics_enabled": "true"}, expect={DROPPED}) as daemon,
    ):
        clients = [await connect(nursery, daemon.port, f"/{RUN}") for _ in range(3)]
        other = await connect(nursery, daemon.port, "/run-2:log")
        largest = "a" * (8 * MB)
        expected = [status("before"), status("between"), status(largest), status("after")]
        # In two parts: Redis gives a subscriber up that is 32 MB behind.
        assert await redis.publish(RUN, ["before", "x" * (20 * MB), "between"]) == [1, 1, 1]
        for client in clients:
            assert await client.receive(2) == expected[:2]
        assert await redis.publish(RUN, [largest + "b", largest, "after"]) == [1, 1, 1]
        assert await redis.publish("run-2:log", ["other"]) == [1]
        for client in clients:
            assert await client.receive(4) == expected
            assert not client.ended
        assert await other.receive(1) == [status("other")]
        assert await daemon.metric("status2_messages_dropped_total", 'reason="too_big"') == 2
        fields = {
            "reason": "too_big",
            **dict(zip(("run_id", "channel"), RUN.split(":"), strict=True)),
            "limit": 8 * MB,
            "level": "warn",
        }
        assert [line["bytes"] for line in await daemon.wait_said(DROPPED, 2, **fields)] == [20 * MB, 8 * MB + 1]
        assert await daemon.metric("status2_redis_reconnects_total") == 1


async def test_more_than_redis_keeps_for_a_subscriber_costs_the_link_only(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with (
        open_redis(redis_server) as redis,
        open_daemon(redis_server, QUICK, expect={LOST, RETRY}) as daemon,
    ):
        client = await connect(nursery, daemon.port, f"/{RUN}?gap=1")
        # client-output-buffer-limit: above 32 MB Redis gives its subscriber up. In one turn of the server, and in small
        # messages: a large value that is shared by reference is not counted by every version.
        script = "for _ = 1, 40 do for _ = 1, 1024 do redis.call('PUBLISH', ARGV[1], ARGV[2]) end end"
        await redis.call("EVAL", script, 0, RUN, "x" * 1024)
        await wait_until(lambda: daemon_online(daemon), "online again")
        assert await redis.publish(RUN, ["next"]) == [1]
        *some, gap, text = await client.receive_until(status("next"))
        assert set(some) <= {status("x" * 1024)}
        assert gap.startswith(b'{"type":"gap","seconds":')
        assert text == status("next")
        assert not client.ended


# -- other ways to Redis ----------------------------------------------------------------------------------------------


async def test_a_unix_socket(redis_program: Path, nursery: trio.Nursery, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    wrapper = tmp_path / "redis-with-a-socket"
    wrapper.write_text(f'#!/bin/sh\nexec "{redis_program}" "$1" --unixsocket "{path}"\n')
    wrapper.chmod(0o700)
    async with (
        open_embedded_redis(program=wrapper) as redis_server,
        open_traffic(redis_server, [RUN]) as traffic,
        open_daemon(f"unix://{path}?db=2", QUICK, expect={LOST, RETRY}) as daemon,
    ):
        assert daemon.said("redis connecting", address=str(path))
        followers = await traffic.gather(nursery, daemon.port, 2)
        await traffic.wait_heard()
        await redis_server.kill()
        await wait_retry(daemon, f"connection refused: {path}")
        path.unlink(missing_ok=True)
        await wait_retry(daemon, f"no such socket: {path}")
        await redis_server.start()
        await check_resumed(daemon, traffic, followers)


@attrs.frozen
class Certificate:
    """A self-made certificate and its key, as files."""

    certificate: Path
    key: Path


@pytest.fixture
def certificate(tmp_path: Path, request: pytest.FixtureRequest) -> Certificate:
    """A certificate that is its own authority, for 127.0.0.1 unless the test names another subject."""
    openssl = needs.program("openssl")
    made = Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    subject = getattr(request, "param", f"IP:{HOST}")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=redis", "-addext", f"subjectAltName={subject}"),
            *("-keyout", str(made.key), "-out", str(made.certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    return made


async def open_tls_proxy(nursery: trio.Nursery, redis: EmbeddedRedis, certificate: Certificate) -> int:
    """Listen with TLS and pass everything on to `redis`, in `nursery`; return the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)

    async def serve(outer: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            async with outer, await open_stream(redis.port) as inner, trio.open_nursery() as both:
                both.start_soon(pump, outer, inner, both.cancel_scope)
                both.start_soon(pump, inner, outer, both.cancel_scope)
        except OSError:
            # Redis is away: so is the proxy.
            return

    async def pump(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream, scope: trio.CancelScope) -> None:
        try:
            while data := await source.receive_some(1 << 16):
                await sink.send_all(data)
        except trio.BrokenResourceError:
            pass
        finally:
            scope.cancel()

    (plain,) = await trio.open_tcp_listeners(0, host=HOST)
    nursery.start_soon(trio.serve_listeners, serve, [trio.SSLListener(plain, context, https_compatible=True)])
    return int(plain.socket.getsockname()[1])


async def test_tls(redis_server: EmbeddedRedis, nursery: trio.Nursery, certificate: Certificate) -> None:
    port = await open_tls_proxy(nursery, redis_server, certificate)
    url = f"rediss://{HOST}:{port}/2?ssl_ca_certs={certificate.certificate}"
    async with (
        open_traffic(redis_server, [RUN, "run-2:log"]) as traffic,
        open_redis(redis_server) as redis,
        open_daemon(url, QUICK, expect={LOST, RETRY}) as daemon,
    ):
        followers = await traffic.gather(nursery, daemon.port, 8)
        await traffic.wait_heard()
        assert await traffic.disturb("CLIENT", "KILL", "TYPE", "pubsub") == 1
        await check_resumed(daemon, traffic, followers)
        client = await connect(nursery, daemon.port, "/run-3:log")
        large = "x" * (3 * MB)
        assert await redis.publish("run-3:log", [large, "after"]) == [1, 1]
        assert await client.receive(2) == [status(large), status("after")]


@pytest.mark.parametrize(
    ("certificate", "trusted", "reason"),
    [
        ("IP:127.0.0.1", False, "certificate verification failed (self"),
        ("DNS:redis.example.org", True, "certificate verification failed (IP address mismatch"),
    ],
    indirect=["certificate"],
    ids=["nobody vouches for it", "of another host"],
)
async def test_a_certificate_that_is_not_to_be_trusted_is_said(
    redis_server: EmbeddedRedis, nursery: trio.Nursery, certificate: Certificate, trusted: bool, reason: str
) -> None:
    port = await open_tls_proxy(nursery, redis_server, certificate)
    query = f"?ssl_ca_certs={certificate.certificate}" if trusted else ""
    settings = {"redis_max_retries": "1"}
    finished = await run_to_end(environ=environment(f"rediss://{HOST}:{port}/2{query}", settings))
    assert finished.code == 1
    (error,) = finished.said("error")
    assert reason in error["error"]
    assert f"{HOST}:{port}" in error["error"]
