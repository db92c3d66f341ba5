"""What `deploy/proxies/Caddyfile` can do besides: replicas, a canary share, the way back, and asking who may listen;
and that the ingress of `deploy/kubernetes` keeps a run in one place as well."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
import trio

from tests.support.client import handshake
from tests.support.daemon import DaemonProcess, open_daemon
from tests.support.proxies import ONCE, PREFIX, open_caddy, open_hashing_nginx
from tests.support.raw import HOST, RawClient, connect, fetch, open_redis, start_client, wait_until
from tests.unit.deploy.test_deployment import of_kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

RUN: Final = "batch;;a;;_base"
ENCODED: Final = "batch%3B%3Ba%3B%3B_base%3Awepp"
"""As `encodeURIComponent` writes the run and its channel."""
ORIGINS: Final = {"allowed_origins": "*.example.gov", "ping_interval": "1h", "pong_timeout": "3h"}
PLATFORM_KNOWS: Final = {"/mine:wepp": 204, "/theirs:wepp": 403}


@asynccontextmanager
async def answering(answer: Callable[[bytes], tuple[int, str]]) -> AsyncIterator[str]:
    """The address of a server that answers each request head with a status and a body."""

    async def handle(stream: trio.SocketStream) -> None:
        head = bytearray()
        async with stream:
            while b"\r\n\r\n" not in head:
                if not (data := await stream.receive_some()):
                    return
                head += data
            status, body = answer(bytes(head))
            lines = [f"HTTP/1.1 {status} So", f"Content-Length: {len(body)}", "Connection: close", "", body]
            await stream.send_all("\r\n".join(lines).encode())

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, handle, 0, host=HOST)
        listeners: list[trio.SocketListener] = await nursery.start(serve)
        yield f"{HOST}:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_names(*names: str) -> AsyncIterator[list[str]]:
    """The addresses of servers that say their names."""
    async with trio.open_nursery() as nursery:
        found = dict.fromkeys(names, "")

        async def keep(name: str, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            async with answering(lambda _: (200, name)) as found[name]:
                task_status.started()
                await trio.sleep_forever()

        for name in names:
            await nursery.start(keep, name)
        yield list(found.values())
        nursery.cancel_scope.cancel()


async def who(port: int, path: str, daemon: str = "status") -> str:
    answer = await fetch(port, f"{PREFIX}/{daemon}/{path}", headers=ONCE)
    assert answer.status == 200, answer
    return answer.body.decode()


async def test_a_run_lives_on_one_replica_whatever_its_spelling() -> None:
    async with open_names("one", "two") as upstreams, open_caddy({"NEW_STATUS": " ".join(upstreams)}) as port:
        homes = {number: await who(port, f"run;;{number}:wepp") for number in range(24)}
        assert set(homes.values()) == {"one", "two"}
        for number, home in list(homes.items())[:6]:
            for spelt in (f"run;;{number}:wepp?gap=1", f"run%3B%3B{number}%3Awepp", f"run%3b%3b{number}:wepp?gap=2"):
                assert await who(port, spelt) == home


async def test_what_the_ingress_hashes_is_the_path_alone_too() -> None:
    ingress = of_kind("Ingress")["statusd"]
    hashed = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/upstream-hash-by"]
    prefix = ingress["spec"]["rules"][0]["http"]["paths"][0]["path"]
    names = ("one", "two", "three")
    async with open_names(*names) as upstreams, open_hashing_nginx(prefix, hashed, upstreams) as port:
        homes = {number: await who(port, f"run;;{number}:wepp") for number in range(40)}
        assert set(homes.values()) == set(names)
        for number, home in list(homes.items())[:6]:
            for spelt in (f"run;;{number}:wepp?gap=1", f"run%3B%3B{number}%3Awepp", f"run%3b%3b{number}:wepp?gap=2"):
                assert await who(port, spelt) == home


@pytest.mark.parametrize("daemon", ["status", "preflight"])
@pytest.mark.parametrize(
    ("serving", "shares"),
    [("new", {"new": 40}), ("canary", {"old": 36, "new": 2, "newer": 2}), ("old", {"old": 40})],
)
async def test_one_line_says_who_serves(daemon: str, serving: str, shares: dict[str, int]) -> None:
    async with open_names("old", "new", "newer") as (old, new, newer):
        # All of one run: of the new ones, by themselves, it is one's.
        replicas = f"{new} {newer}" if serving == "canary" else new
        places = {f"NEW_{daemon.upper()}": replicas, f"OLD_{daemon.upper()}": old}
        async with open_caddy({"SERVING": serving, **places}) as port:
            assert Counter([await who(port, "run", daemon) for _ in range(40)]) == shares


async def test_a_client_of_a_replica_that_drains_comes_back_to_the_other(redis_server: EmbeddedRedis) -> None:
    async with (
        open_daemon(redis_server, ORIGINS) as one,
        open_daemon(redis_server, ORIGINS) as two,
        open_caddy({"NEW_STATUS": f"{HOST}:{one.port} {HOST}:{two.port}"}) as port,
        open_redis(redis_server) as redis,
        trio.open_nursery() as nursery,
    ):
        path = f"{PREFIX}/status/{ENCODED}"
        client = await connect(nursery, port, path)
        home, other = await _home(one, two)
        home.signal()
        await client.wait_ended()
        assert client.close_code == 1001
        again = await _reconnected(nursery, port, path)
        await other.wait_said("connection accepted")

        async def is_alone() -> bool:
            return await redis.subscribers(f"{RUN}:wepp") == 1

        await wait_until(is_alone, "the one that drains has given its subscription back")
        assert await redis.call("PUBLISH", f"{RUN}:wepp", "line") == 1
        assert await again.receive(1) == [b'{"type":"status","data":"line"}']
        foreign = await start_client(nursery, port, handshake(path, {"Origin": "https://elsewhere.org"}))
        await foreign.wait(lambda client: client.status is not None)
        assert foreign.status == 403
        nursery.cancel_scope.cancel()


async def test_the_platform_says_who_may_listen(redis_server: EmbeddedRedis) -> None:
    asked: list[bytes] = []

    def platform(head: bytes) -> tuple[int, str]:
        asked.append(head)
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        names = {name.lower(): value.decode() for name, value in fields.items()}
        if b"cookie" not in names:
            return 401, "who are you?"
        return PLATFORM_KNOWS.get(names[b"x-forwarded-uri"].partition("?")[0], 404), ""

    async with (
        open_daemon(redis_server, ORIGINS) as statusd,
        answering(platform) as address,
        open_caddy({"NEW_STATUS": f"{HOST}:{statusd.port}", "LISTENERS": "asked", "PLATFORM": address}) as port,
        open_redis(redis_server) as redis,
        trio.open_nursery() as nursery,
    ):
        for run, headers, status in (
            ("mine", {}, 401),
            ("theirs", {"Cookie": "session=1"}, 403),
            ("nobodys", {"Cookie": "session=1"}, 404),
        ):
            client = await start_client(nursery, port, handshake(f"{PREFIX}/status/{run}:wepp", headers))
            await client.wait(lambda client: client.status is not None)
            assert client.status == status
        assert not statusd.said("connection accepted")
        listener = await connect(nursery, port, f"{PREFIX}/status/mine:wepp?gap=1", {"Cookie": "session=1"})
        assert await redis.call("PUBLISH", "mine:wepp", "line") == 1
        assert await listener.receive(1) == [b'{"type":"status","data":"line"}']
        assert {head.split(b" ")[1].partition(b"?")[0] for head in asked} == {b"/auth/run-status"}
        assert not any(b"upgrade" in head.lower() for head in asked)
        nursery.cancel_scope.cancel()


async def _home(one: DaemonProcess, two: DaemonProcess) -> tuple[DaemonProcess, DaemonProcess]:
    """The daemon that has accepted somebody, and the other."""
    daemons = [one, two]
    await wait_until(lambda: any(daemon.said("connection accepted") for daemon in daemons), "somebody is accepted")
    return (one, two) if one.said("connection accepted") else (two, one)


async def _reconnected(nursery: trio.Nursery, port: int, path: str) -> RawClient:
    """A client that asks until it is let in, as the platform's pages do."""
    clients: list[RawClient] = []

    async def is_in() -> bool:
        client = await start_client(nursery, port, handshake(path))
        await client.wait(lambda client: client.status is not None or client.ended)
        clients.append(client)
        return client.status == 101

    await wait_until(is_in, "let in again")
    return clients[-1]
