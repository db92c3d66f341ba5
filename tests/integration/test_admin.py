"""The operator's listener of real daemons: TCP and Unix sockets, tokens, workers that are killed (SPEC 2)."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import stat
from typing import TYPE_CHECKING, Any

import pytest
import trio

from common.admin.quota import EVERY
from common.admin.sockets import bind_admin
from common.config import UnixAddress
from tests.support.daemon import DaemonProcess, environment, open_daemon, run_to_end
from tests.support.events import address_of, open_events, open_stream
from tests.support.raw import (
    HOST,
    PATIENCE,
    Answer,
    connect,
    connect_silent,
    fetch,
    open_redis,
    read_to_end,
    request_head,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

TCP = {"admin_listen_addr": f"{HOST}:0"}
CLIENTS = 12


async def get(
    daemon: DaemonProcess, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
) -> Answer:
    """One request of an operator."""
    with trio.fail_after(PATIENCE):
        async with await open_stream(address_of(daemon)) as stream:
            await stream.send_all(request_head(path, method, {"Host": "localhost", **(headers or {})}))
            return Answer.parse(await read_to_end(stream))


async def status(daemon: DaemonProcess) -> dict[str, Any]:
    """`/workers/status`."""
    answer = await get(daemon, "/workers/status")
    assert answer.status == 200, answer
    document: dict[str, Any] = json.loads(answer.body)
    return document


async def whole_status(daemon: DaemonProcess, workers: int) -> dict[str, Any]:
    """The same, once that many workers are ready and have answered: one that gets no time for a second is told of as it
    was, and as not ready."""
    documents: list[dict[str, Any]] = []

    async def is_whole() -> bool:
        documents.append(await status(daemon))
        known = documents[-1]["workers"].values()
        return len(known) == workers and all(worker["ready"] for worker in known)

    await wait_until(is_whole, f"{workers} workers ready")
    return documents[-1]


@pytest.mark.parametrize(("module", "routes"), [("statusd", "/{runid}:{channel}"), ("preflightd", "/{runid}")])
async def test_the_status_of_a_daemon(module: str, routes: str, redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, TCP, module=module) as daemon, trio.open_nursery() as nursery:
        await connect(nursery, daemon.port, "/run:log" if module == "statusd" else "/run")
        await fetch(daemon.port, "/nothing/at/all")
        document = await status(daemon)
        assert (document["connected"], document["daemon"], document["draining"]) == (1, module, False)
        assert document["routes"] == [routes, "/health", "/health/live"]
        worker = document["workers"]["1"]
        assert (worker["pid"], worker["connections"], worker["topics"]) == (daemon.pid, 1, 1)
        assert (worker["redis"], worker["ready"]) == ("online", True)
        assert worker["answers"]["total"] == 1, "the handshake; health and the odd page are no users'"
        assert (worker["answers"]["server_errors"], worker["answers"]["in_flight"]) == (worker["errors"], 0)
        assert worker["answers"]["seconds"] > 0
        metrics = await get(daemon, "/metrics")
        assert metrics.status == 200
        assert b"_connections_active 1.0\n" in metrics.body
        assert b"_delivery_seconds_bucket" in metrics.body
        nursery.cancel_scope.cancel()


async def test_the_public_port_never_serves_it(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, TCP) as daemon:
        for path in ("/workers/status", "/workers/snapshot/1", "/events", "/metrics", "/topics?name=run:log"):
            answer = await fetch(daemon.port, path)
            assert answer.status in {400, 404}
            assert b"connected" not in answer.body
        assert (await get(daemon, "/run:log")).status == 404
        assert (await get(daemon, "/health")).status == 404
        assert (await get(daemon, "/workers/status", {"Host": "evil.example"})).status == 421


async def test_the_token_is_asked_for(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("open sesame\n")
    everywhere = {"admin_listen_addr": ":0", "admin_token_file": str(token)}
    async with open_daemon(redis_server, everywhere) as daemon:
        assert (await get(daemon, "/workers/status")).status == 401
        assert (await get(daemon, "/events", {"Authorization": "Bearer wrong"})).status == 401
        assert (await get(daemon, "/workers/status", {"Authorization": "Bearer open sesame"})).status == 200
        assert len(await daemon.wait_said("admin request refused", 2)) == 2
        assert "sesame" not in json.dumps(daemon.lines)


async def test_a_unix_socket_is_private_and_leaves_nothing_behind(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    settings = {"admin_listen_addr": f"unix:{path}"}
    async with open_daemon(redis_server, settings) as daemon:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (await status(daemon))["connected"] == 1
        second = await run_to_end(environ=environment(redis_server, settings))
        assert second.code == 2
        (line,) = second.said("error")
        assert (line["msg"], line["address"]) == ("can't listen", f"unix:{path}")
        assert (await status(daemon))["connected"] == 1, "the second one took nothing away"
    assert not path.exists()


async def test_a_taken_port_is_the_end_with_a_clear_line(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, TCP) as daemon:
        taken = address_of(daemon)
        for workers in ("1", "2"):
            settings = {"admin_listen_addr": taken, "workers": workers}
            second = await run_to_end(environ=environment(redis_server, settings))
            assert second.code == 2
            (line,) = second.said("error")
            assert (line["msg"], line["address"]) == ("can't listen", taken)


async def test_what_is_no_socket_is_not_taken_away(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("data")
    with pytest.raises(FileExistsError):
        bind_admin(UnixAddress(str(precious)))
    assert precious.read_text() == "data"
    with pytest.raises(FileNotFoundError):
        bind_admin(UnixAddress(str(tmp_path / "nowhere" / "admin.sock")))
    with bind_admin(UnixAddress(str(tmp_path / "admin.sock"))) as bound:
        (tmp_path / "admin.sock").unlink()
        (tmp_path / "admin.sock").write_text("another's")
        assert bound.names == [f"unix:{tmp_path / 'admin.sock'}"]
    assert (tmp_path / "admin.sock").read_text() == "another's"


async def test_check_says_what_is_wrong_with_the_address(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, why in [(tmp_path / "no" / "admin.sock", "there is no directory"), (tmp_path / "file", "no socket")]:
        checked = await run_to_end("check", environ=environment(redis_server, {"admin_listen_addr": f"unix:{path}"}))
        assert checked.code == 1
        assert f"operator's listener: FAILED: unix:{path}: " in checked.stdout
        assert why in checked.stdout
    lost = {"admin_listen_addr": f"{HOST}:0", "admin_token_file": str(tmp_path / "lost")}
    checked = await run_to_end("check", environ=environment(redis_server, lost))
    assert checked.code == 2
    assert "STATUS_ADMIN_TOKEN_FILE" in checked.stderr
    checked = await run_to_end("check", environ=environment(redis_server, TCP))
    assert checked.code == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_snapshot_opens(workers: str, redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, TCP | {"workers": workers}) as daemon, trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            await connect(nursery, daemon.port, "/run:log")
        connections = 0
        for worker_id, worker in (await whole_status(daemon, int(workers)))["workers"].items():
            zips = worker_id == "1"
            answer = await get(daemon, f"/workers/snapshot/{worker_id}", {"Accept-Encoding": "gzip"} if zips else None)
            assert answer.headers.get("content-encoding") == ("gzip" if zips else None)
            document = json.loads(gzip.decompress(answer.body) if zips else answer.body)
            assert document["worker"]["pid"] == worker["pid"]
            connections += len(document["connections"])
        assert connections == CLIENTS
        assert (await get(daemon, f"/workers/snapshot/{int(workers) + 1}")).status == 404
        nursery.cancel_scope.cancel()


async def test_two_operators_share_the_snapshots_of_a_worker(redis_server: EmbeddedRedis) -> None:
    async with open_daemon(redis_server, TCP | {"workers": "2"}) as daemon:
        answers: dict[str, list[Answer]] = {"1": [], "2": []}
        begun = trio.current_time()

        async def ask(worker_id: str) -> None:
            answers[worker_id].append(await get(daemon, f"/workers/snapshot/{worker_id}", {"Accept-Encoding": "gzip"}))

        async with trio.open_nursery() as nursery:
            for worker_id in answers:
                for _ in range(4):
                    nursery.start_soon(ask, worker_id)
        # On a machine that took longer for all of this than the quota's time, some may have been let through again.
        most = 1 + int((trio.current_time() - begun) / EVERY)
        for had in answers.values():
            taken = [answer for answer in had if answer.status == 200]
            refused = [answer for answer in had if answer.status == 429]
            assert len(taken) + len(refused) == 4
            assert 1 <= len(taken) <= most
            assert all(1 <= int(answer.headers["retry-after"]) <= EVERY for answer in refused)
        number = sum(answer.status == 429 for had in answers.values() for answer in had)
        metrics = (await get(daemon, "/metrics")).body.decode()
        assert f'status2_snapshots_total{{outcome="refused"}} {number}.0\n' in metrics


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("module", "name", "other"), [("statusd", "run:log", "run:other"), ("preflightd", "run", "other")]
)
async def test_the_clients_of_a_channel_are_counted_over_all_workers(
    module: str, name: str, other: str, workers: str, redis_server: EmbeddedRedis
) -> None:
    async with (
        open_daemon(redis_server, TCP | {"workers": workers}, module=module) as daemon,
        trio.open_nursery() as nursery,
    ):

        async def count(of: str) -> dict[str, Any]:
            document: dict[str, Any] = {}

            async def all_answer() -> bool:
                answer = await get(daemon, f"/topics?name={of}")
                assert answer.status == 200, answer
                document.update(json.loads(answer.body))
                # A worker that gets no time for a second is named, and asked again.
                return not document["silent"]

            await wait_until(all_answer, "every worker has counted")
            return document

        assert await count(name) == {"name": name, "clients": 0, "silent": []}
        for _ in range(CLIENTS):
            await connect(nursery, daemon.port, f"/{name}")
        await connect(nursery, daemon.port, f"/{other}")
        assert await count(name) == {"name": name, "clients": CLIENTS, "silent": []}
        assert await count(other) == {"name": other, "clients": 1, "silent": []}
        if workers == "2":
            served = [worker["connections"] for worker in (await whole_status(daemon, 2))["workers"].values()]
            assert sum(served) == CLIENTS + 1
        assert (await get(daemon, "/topics?name=no%20name")).status == 400
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_each_client_that_connects_is_told_of(workers: str, redis_server: EmbeddedRedis) -> None:
    async with (
        open_daemon(redis_server, TCP | {"workers": workers}) as daemon,
        open_events(daemon) as events,
        trio.open_nursery() as nursery,
    ):
        await events.until(0)
        for number in range(1, 10):
            await connect(nursery, daemon.port, "/run:log")
            await events.until(number)
        nursery.cancel_scope.cancel()


async def test_workers_answer_as_one_daemon_and_sums_survive_a_death(redis_server: EmbeddedRedis) -> None:
    settings = TCP | {"workers": "2"}
    async with open_daemon(redis_server, settings, expect=["worker died"]) as daemon, trio.open_nursery() as nursery:
        clients = [await connect(nursery, daemon.port, "/run:log") for _ in range(CLIENTS)]
        async with open_redis(redis_server) as redis:
            await redis.publish("run:log", ["once"])
        for client in clients:
            await client.receive(1)
        before = await whole_status(daemon, 2)
        assert (before["connected"], sorted(before["workers"])) == (2, ["1", "2"])
        assert sum(worker["connections"] for worker in before["workers"].values()) == CLIENTS
        assert sums(before)["messages"] == CLIENTS
        async with open_events(daemon) as events:
            await events.next()
            os.kill(before["workers"]["1"]["pid"], signal.SIGKILL)
            seen = [await events.next()]
            while seen[-1]["connected"] == 2:
                seen.append(await events.next())
            assert list(seen[-1]["workers"]) == ["2"]
            while seen[-1]["connected"] == 1:
                seen.append(await events.next())
        assert seen[-1]["workers"]["1"]["pid"] != before["workers"]["1"]["pid"]
        last = await whole_status(daemon, 2)
        for earlier, later in zip([before, *seen], [*seen, last], strict=True):
            assert all(sums(later)[name] >= value for name, value in sums(earlier).items()), (earlier, later)
        nursery.cancel_scope.cancel()


async def test_a_drain_is_seen_to_its_end(redis_server: EmbeddedRedis) -> None:
    settings = TCP | {"workers": "2", "drain_spread": "1s"}
    async with open_daemon(redis_server, settings) as daemon, trio.open_nursery() as nursery:
        clients = [await connect(nursery, daemon.port, "/run:log") for _ in range(CLIENTS)]
        # One that does not answer the goodbye: what is to be seen of the drain is seen before it is over.
        async with await connect_silent(daemon.port, "/run:log"), open_events(daemon) as events:
            await events.until(CLIENTS + 1)
            daemon.signal()
            document = await events.next()
            while not document["draining"]:
                document = await events.next()
            while any(worker["ready"] for worker in document["workers"].values()):
                document = await events.next()
        for client in clients:
            await client.wait_ended()


def sums(document: dict[str, Any]) -> dict[str, float]:
    """What the daemon has counted, over all workers, dead ones included."""
    parts = [document["retired"], *document["workers"].values()]
    return {
        "messages": sum(part["messages"] for part in parts),
        "errors": sum(part["errors"] for part in parts),
        "answers": sum(part["answers"]["total"] for part in parts),
        "delivered": sum(part["delivery"]["count"] for part in parts),
        "disconnects": sum(sum(part["disconnects"].values()) for part in parts),
    }
