"""Who is let in by statusd as a process, and what everybody else is answered (SPEC 1)."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from tests.support.client import handshake
from tests.support.daemon import open_daemon
from tests.support.raw import PATIENCE, Answer, ask, connect, fetch, open_redis, request_head, start_client, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    import trio

    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

QUIET = {"ping_interval": "1h", "pong_timeout": "3h"}
"""No heartbeat in between."""


def status(data: str) -> str:
    """The frame's text for a payload."""
    return f'{{"type":"status","data":{data}}}'


# -- paths and refusals -----------------------------------------------------------------------------------------------


async def test_every_way_to_write_a_path_leads_to_its_channel(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    paths = {
        "/run:log": "run:log",
        "/batch;;name;;_base:log": "batch;;name;;_base:log",
        "/batch%3B%3bname;;_base:log": "batch;;name;;_base:log",
        "/run%3Alog": "run:log",
        "/run:log/": "run:log",
        "/run:log?x=1&y=/a:b": "run:log",
        "/run:log/?gap=1": "run:log",
        "http://example.org/run:log": "run:log",
        f"/{'r' * 256}:{'c' * 256}": f"{'r' * 256}:{'c' * 256}",
        "/a.b-C_9;:.x-": "a.b-C_9;:.x-",
    }
    async with open_redis(redis_server) as redis, open_daemon(redis_server, QUIET) as daemon:
        clients = {path: await connect(nursery, daemon.port, path) for path in paths}
        channels = sorted(set(paths.values()))
        assert [await redis.subscribers(channel) for channel in channels] == [1] * len(channels)
        for channel in channels:
            await redis.publish(channel, [channel])
        got = {path: await client.receive(1) for path, client in clients.items()}
        assert got == {path: [status(json.dumps(channel)).encode()] for path, channel in paths.items()}


def upgrade(path: str = "/run:log", **changes: str | None) -> bytes:
    """An upgrade request with some of its headers changed, or left out (None)."""
    headers: dict[str, str | None] = {
        "Upgrade": "websocket",
        "Connection": "keep-alive, Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(),
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    return request_head(path, headers={name: value for name, value in headers.items() if value is not None})


RUN_ID = "the run id may only have the characters A-Za-z0-9_.;-"
CHANNEL = "the channel may only have the characters A-Za-z0-9_.-"
KEY = "Sec-WebSocket-Key must be 16 bytes in base64"

REFUSED: Mapping[str, tuple[bytes, int, str]] = {
    "the root": (upgrade("/"), 404, "there is nothing here"),
    "no colon": (upgrade("/run"), 400, "the path must be /<runid>:<channel>"),
    "a name that only begins like a page": (upgrade("/healthy"), 400, "the path must be /<runid>:<channel>"),
    "no run id": (upgrade("/:log"), 400, "the run id is empty"),
    "no channel": (upgrade("/run:"), 400, "the channel is empty"),
    "a dot": (upgrade("/.:log"), 400, "the run id may not be . or .."),
    "two dots": (upgrade("/run:.."), 400, "the channel may not be . or .."),
    "a space": (upgrade("/a%20b:log"), 400, RUN_ID),
    "a slash": (upgrade("/a/b:log"), 400, RUN_ID),
    "two trailing slashes": (upgrade("/run:log//"), 400, CHANNEL),
    "a semicolon in the channel": (upgrade("/run:l;g"), 400, CHANNEL),
    "a second colon": (upgrade("/run:log:x"), 400, CHANNEL),
    "encoded twice": (upgrade("/a%253Bb:log"), 400, RUN_ID),
    "a newline": (upgrade("/run:log%0A"), 400, CHANNEL),
    "a null": (upgrade("/run%00:log"), 400, RUN_ID),
    "not ASCII": (upgrade("/fl%C3%BC:log"), 400, "the path has characters that no name has"),
    "257 characters": (upgrade(f"/{'r' * 257}:log"), 400, "the run id is longer than 256 characters"),
    "no upgrade": (request_head("/run:log"), 426, "this is a WebSocket: connect with an upgrade"),
    "another upgrade": (upgrade(Upgrade="h2c"), 426, "this is a WebSocket: connect with an upgrade"),
    "not connection: upgrade": (upgrade(Connection="close"), 426, "this is a WebSocket: connect with an upgrade"),
    "an old version": (upgrade(Sec_WebSocket_Version="8"), 426, "only WebSocket version 13 is spoken here"),
    "no version": (upgrade(Sec_WebSocket_Version=None), 426, "only WebSocket version 13 is spoken here"),
    "no key": (upgrade(Sec_WebSocket_Key=None), 400, KEY),
    "a short key": (upgrade(Sec_WebSocket_Key="MTIz"), 400, KEY),
    "a key that is no base64": (upgrade(Sec_WebSocket_Key="!" * 24), 400, KEY),
    "a body": (upgrade(Content_Length="3") + b"abc", 400, "a handshake has no body"),
    "HTTP/1.0": (upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"), 400, "a WebSocket needs HTTP/1.1"),
    "POST": (request_head("/run:log", "POST"), 405, "POST is not possible here"),
    "DELETE on a page": (request_head("/health", "DELETE"), 405, "DELETE is not possible here"),
    "metrics, disabled": (request_head("/metrics"), 404, "there is nothing here"),
}


async def test_every_refusal_has_its_status_and_says_why_in_one_line(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server) as daemon:
        answers = {name: await ask(daemon.port, request) for name, (request, _, _) in REFUSED.items()}
        got = {name: (answer.status, answer.body.decode()) for name, answer in answers.items()}
        assert got == {name: (code, f"{line}\n") for name, (_, code, line) in REFUSED.items()}
        for name, answer in answers.items():
            assert answer.headers["content-length"] == str(len(answer.body)), name
            assert "close" in answer.headers["connection"], name
        assert answers["POST"].headers["allow"] == "GET"
        assert answers["DELETE on a page"].headers["allow"] == "GET, HEAD"
        assert answers["no upgrade"].headers["upgrade"] == "websocket"
        assert answers["an old version"].headers["sec-websocket-version"] == "13"

        head = await fetch(daemon.port, "/run:log", "HEAD")
        assert (head.status, head.body) == (405, b"")
        assert len(await daemon.wait_said("request refused", len(REFUSED) + 1)) == len(REFUSED) + 1


async def test_the_log_says_why_a_request_was_refused(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server) as daemon:
        for request, _, _ in REFUSED.values():
            await ask(daemon.port, request)
        refused = await daemon.wait_said("request refused", len(REFUSED))
        assert [line.get("error") for line in refused] == [why for _, _, why in REFUSED.values()]


async def test_pages_answer_get_and_head(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, {"metrics_enabled": "true"}) as daemon:
        for path in ("/health", "/health/live", "/health?verbose=1"):
            get, head = await fetch(daemon.port, path), await fetch(daemon.port, path, "HEAD")
            assert (get.status, get.body, head.status, head.body) == (200, b"OK\n", 200, b"")
            assert head.headers["content-length"] == "3"
        answer = await ask(daemon.port, upgrade("/health"))
        assert (answer.status, answer.body) == (200, b"OK\n")
        classic = await fetch(daemon.port, "/metrics")
        assert (classic.status, classic.headers["content-type"].partition(";")[0]) == (200, "text/plain")
        for name in ("connections_active", "messages_forwarded_total", "redis_reconnects_total", "write_errors_total"):
            assert f"\nstatus2_{name} ".encode() in classic.body
        modern = await fetch(daemon.port, "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert modern.headers["content-type"].startswith("application/openmetrics-text")
        assert modern.body.endswith(b"# EOF\n")
        head = await fetch(daemon.port, "/metrics", "HEAD")
        assert (head.status, head.body) == (200, b"")


# -- who may come -----------------------------------------------------------------------------------------------------


async def test_pages_of_other_origins_are_refused(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    origins = {
        None: 101,
        "https://maps.example.gov": 101,
        "HTTPS://A.B.EXAMPLE.GOV:8443": 101,
        "http://example.org": 101,  # the request's own host
        "https://lab.test:8443": 101,
        "https://lab.test": 403,
        "http://lab.test:8443": 403,
        "https://example.gov": 403,
        "https://example.gov.evil.test": 403,
        "https://evil.test/.example.gov": 403,
        "null": 403,
        "": 403,
        "garbage": 403,
    }
    allowed = "*.example.gov, https://lab.test:8443"
    async with open_daemon(redis_server, QUIET | {"allowed_origins": allowed, "metrics_enabled": "true"}) as daemon:
        got: dict[str | None, int | None] = {}
        for origin in origins:
            headers = {} if origin is None else {"Origin": origin}
            client = await start_client(nursery, daemon.port, handshake("/run:log", headers))
            await client.wait(lambda client: client.status is not None, within=PATIENCE)
            got[origin] = client.status
        assert got == origins
        assert daemon.said("origin check disabled") == []
        assert await daemon.metric("status2_origin_check_disabled") == 0
        refused = sum(code == 403 for code in origins.values())
        assert await daemon.metric("status2_handshakes_rejected_total", 'reason="origin"') == refused


async def test_without_configured_origins_every_page_may_and_the_log_says_so_once(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_daemon(redis_server, QUIET | {"metrics_enabled": "true"}) as daemon:
        await connect(nursery, daemon.port, "/run:log", {"Origin": "https://evil.test"})
        assert len(await daemon.wait_said("origin check disabled")) == 1
        assert await daemon.metric("status2_origin_check_disabled") == 1


@pytest.mark.parametrize(
    ("proxies", "addresses"),
    [
        (
            "127.0.0.0/8,10.0.0.0/8",
            {
                None: "127.0.0.1",
                "203.0.113.7": "203.0.113.7",
                "198.51.100.1, 203.0.113.7": "203.0.113.7",
                "203.0.113.7, 10.1.2.3": "203.0.113.7",
                "2001:db8::1": "2001:db8::1",
                "[2001:db8::1]:443": "2001:db8::1",
                "203.0.113.7:50000": "203.0.113.7",
                "203.0.113.7, unknown": "127.0.0.1",
            },
        ),
        ("10.0.0.0/8", {None: "127.0.0.1", "203.0.113.7": "127.0.0.1"}),
    ],
    ids=["from a trusted proxy", "from anybody else"],
)
async def test_the_client_address_behind_proxies(
    redis_server: EmbeddedRedis, nursery: trio.Nursery, proxies: str, addresses: Mapping[str | None, str]
) -> None:
    async with open_daemon(redis_server, QUIET | {"trusted_proxies": proxies}) as daemon:
        for forwarded in addresses:
            headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
            await connect(nursery, daemon.port, "/run:log", headers)
        accepted = await daemon.wait_said("connection accepted", len(addresses))
        assert [line["remote"] for line in accepted] == list(addresses.values())


async def test_max_connections_counts_every_open_socket(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    async with open_daemon(redis_server, QUIET | {"max_connections": "3"}) as daemon:
        first, _ = await connect(nursery, daemon.port, "/run:log"), await connect(nursery, daemon.port, "/run:log")
        await start_client(nursery, daemon.port, b"GET /run:log HTTP/1.1\r\n")
        await wait_until(lambda: daemon.clients() == 3, "all three are there")

        async def refused() -> bool:
            answer = await ask(daemon.port, upgrade())
            return is_full(answer, "too many connections")

        await wait_until(refused, "the fourth is refused")
        await first.leave()
        await wait_until(lambda: daemon.clients() == 2, "the first has left, and who was refused")
        again = await connect(nursery, daemon.port, "/run:log")
        await wait_until(refused, "the fourth is refused again")
        await again.leave()


def is_full(answer: Answer, line: str) -> bool:
    """Whether it is a 503 that says when to try again."""
    return (answer.status, answer.body.decode()) == (503, f"{line}\n") and int(answer.headers["retry-after"]) > 0


async def test_a_full_daemon_still_shows_its_pages(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    # An orchestrator restarts what does not say that it lives: being full must not end everybody's connection.
    async with open_daemon(redis_server, QUIET | {"max_connections": "1", "metrics_enabled": "true"}) as daemon:
        client = await connect(nursery, daemon.port, "/run:log")
        pages = {path: (await fetch(daemon.port, path)).status for path in ("/health", "/health/live", "/metrics")}
        assert pages == {"/health": 200, "/health/live": 200, "/metrics": 200}
        await client.leave()


async def test_max_connections_per_address_counts_the_client_and_not_the_proxy(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_daemon(redis_server, QUIET | {"max_connections_per_address": "1"}) as daemon:
        here, there = {"X-Forwarded-For": "203.0.113.7"}, {"X-Forwarded-For": "203.0.113.8"}
        first = await connect(nursery, daemon.port, "/run:log", here)
        await connect(nursery, daemon.port, "/run:log", there)
        answer = await ask(daemon.port, handshake("/run:log", here))
        assert is_full(answer, "too many connections per address")
        await first.leave()
        await wait_until(lambda: daemon.clients() == 1, "the first has left, and who was refused")
        await connect(nursery, daemon.port, "/run:log", here)
