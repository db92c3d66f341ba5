"""A serving process as its operator sees it: figures, changes, the snapshot (common/admin: probe, snapshot, tasks)."""

from __future__ import annotations

import gc
import gzip
import json
from contextlib import aclosing
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from common.admin.probe import Probe, Sampler
from common.admin.tasks import SHOWN, TaskTree
from common.admin.telemetry_source import ALONE, Local, UnknownWorkerError, about
from statusd.daemon import STATUSD
from tests.support.client import handshake
from tests.support.service import PATH, Running, open_service, settings_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from trio.testing import MockClock

    from statusd.settings import StatusSettings

ADMIN = "127.0.0.1:9102"


def probe_of(running: Running) -> Probe[StatusSettings]:
    """What looks at a running service."""
    return Probe(running.service, "statusd", ALONE)


def walk(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A task of a snapshot and all below it."""
    yield task
    for nursery in task.get("nurseries", []):
        for child in nursery:
            yield from walk(child)


async def test_the_figures_of_a_process(autojump_clock: MockClock) -> None:
    async with open_service(admin_listen_addr=ADMIN) as running:
        probe = probe_of(running)
        clients = [await running.open(), await running.open(), await running.open("/other:log")]
        await trio.sleep(2)
        running.redis.publish(b"run:log", b"1")
        await clients[0].wait(lambda client: bool(client.messages))
        await clients[2].send_close()
        await clients[2].wait_ended()
        await trio.sleep(10)
        await running.get("/health")
        await running.get("/nothing")
        await running.get("/run:log")
        assert [probe.clients(channel) for channel in (b"run:log", b"other:log", b"nobody:log")] == [2, 0, 0]
        status = probe.status()
        assert (status.id, status.daemon, status.redis, status.ready) == ("1", "statusd", "online", True)
        assert (status.connections, status.topics, status.messages) == (2, 1, 2)
        assert 12 <= status.uptime < 13
        assert (status.answers.total, status.answers.server_errors, status.answers.in_flight) == (3, 0, 0), (
            "users' only"
        )
        assert status.disconnects == {"client_closed": 1}
        assert status.delivery.count == 1, "kept for the operator, whatever METRICS_ENABLED says"
        assert status.errors == 0
        assert status.rss > 1 << 20
        assert status.cpu > 0


async def test_a_request_is_in_flight_until_its_answer_and_its_time_is_counted(autojump_clock: MockClock) -> None:
    async with open_service(redis_request_timeout="800ms") as running:
        answers = running.service.counters.answers
        running.redis.holding = True
        client = running.arrive()
        await client.send_raw(b"GET /health HTTP/1.1\r\nHost: ")
        await trio.sleep(1)
        assert answers.in_flight == 0, "not before its head is read"
        asking = running.arrive()
        await asking.send_raw(handshake(PATH))
        await trio.sleep(0.5)
        assert (answers.in_flight, answers.total) == (1, 0)
        await asking.wait(lambda client: client.status == 503)
        assert (answers.in_flight, answers.total, answers.server_errors) == (0, 1, 1)
        assert answers.seconds == pytest.approx(0.8, abs=0.01)
        running.redis.release()
        await client.send_raw(b"x\r\n\r\n")
        await client.wait(lambda client: client.status is not None)
        assert (answers.in_flight, answers.total) == (0, 1), "a probe is nobody's"


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", id="health"),
        pytest.param(b"HEAD /health/live HTTP/1.1\r\nHost: x\r\n\r\n", id="live"),
        pytest.param(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", id="metrics"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="root"),
        pytest.param(b"GET /run:log HTTP/1.1\r\nHost: x\r\n\r\n", id="no upgrade"),
        pytest.param(handshake("/health?x=1"), id="a handshake with a page"),
        pytest.param(b"\x16\x03\x01 nonsense\r\n\r\n", id="no head"),
    ],
)
async def test_what_is_no_users_is_not_counted(autojump_clock: MockClock, request_bytes: bytes) -> None:
    async with open_service(metrics_enabled="true") as running:
        answers = running.service.counters.answers
        for _ in range(20):
            client = running.arrive()
            await client.send_raw(request_bytes)
            await client.wait(lambda client: client.status is not None)
        assert (answers.total, answers.server_errors, answers.in_flight, answers.seconds) == (0, 0, 0, 0.0)


async def test_a_users_handshake_counts_whatever_it_gets(autojump_clock: MockClock) -> None:
    async with open_service() as running:
        answers = running.service.counters.answers
        for number, path in enumerate((PATH, "/no-channel", "/a/b/c"), start=1):
            client = running.arrive()
            await client.send_raw(handshake(path))
            await client.wait(lambda client: client.status is not None)
            assert (answers.total, answers.in_flight) == (number, 0)
        assert answers.server_errors == 0


async def test_what_is_cut_off_without_an_answer_is_in_flight_no_more(autojump_clock: MockClock) -> None:
    async with open_service() as running:
        answers = running.service.counters.answers
        running.redis.holding = True
        asking = running.arrive()
        await asking.send_raw(handshake(PATH))
        await trio.sleep(0.1)
        assert answers.in_flight == 1
        running.scope.cancel()
        await running.stopped.wait()
        assert (answers.in_flight, answers.total) == (0, 0)


async def test_without_a_reader_no_histogram_is_kept(autojump_clock: MockClock) -> None:
    async with open_service() as running:
        assert running.service.counters.delivery is None
        assert probe_of(running).status().delivery.count == 0


async def test_a_sampler_sees_changes_and_nothing_else(autojump_clock: MockClock) -> None:
    async with open_service(admin_listen_addr=ADMIN) as running:
        sampler = Sampler(probe_of(running))
        await trio.sleep(60)
        assert not sampler.changed(), "time and memory are no change"
        client = await running.open()
        assert sampler.changed()
        assert not sampler.changed()
        running.redis.publish(b"run:log", b"1")
        await client.wait(lambda client: bool(client.messages))
        assert sampler.changed()
        assert not sampler.changed()
        running.redis.drop_all()
        await trio.testing.wait_all_tasks_blocked()
        assert sampler.changed()


async def test_a_process_by_itself_tells_of_a_change_within_25_ms(autojump_clock: MockClock) -> None:
    async with open_service(admin_listen_addr=ADMIN) as running:
        source = Local(about(STATUSD, running.service.settings), probe_of(running))
        source.start_watching()
        await running.open()
        before = trio.current_time()
        await source.wait_changed()
        assert trio.current_time() - before <= 0.025 + 1e-6
        assert source.newest().workers[0].connections == 1
        with trio.move_on_after(30) as quiet:
            await source.wait_changed()
        assert quiet.cancelled_caught
        source.stop_watching()
        with pytest.raises(UnknownWorkerError):
            await source.snapshot("2")


@pytest.mark.parametrize("metrics", [False, True])
def test_the_table_of_routes_is_what_is_served(metrics: bool) -> None:
    routes = about(STATUSD, settings_of(metrics_enabled=str(metrics))).routes
    assert routes == ("/{runid}:{channel}", "/health", "/health/live", *(["/metrics"] if metrics else []))


async def test_a_snapshot_has_everything_and_no_secret() -> None:
    async with open_service(admin_listen_addr=ADMIN, admin_token="hunter2-token") as running:
        crowd = SHOWN + 5
        clients = [await running.open() for _ in range(crowd)]
        await running.open("/other:log")
        running.redis.publish(b"run:log", b"1")
        for client in clients:
            await client.wait(lambda client: bool(client.messages))
        text = gzip.decompress(await probe_of(running).snapshot()).decode()
        assert "hunter2" not in text
        document = json.loads(text)
        assert set(document) == {
            *("time", "worker", "settings", "link", "collector", "scheduler"),
            *("tasks", "topics", "connections", "memory", "versions"),
        }
        assert document["worker"]["connections"] == crowd + 1
        assert document["settings"]["STATUS_ADMIN_TOKEN"] == "set"
        assert document["link"]["state"] == "online"
        assert len(document["collector"]["generations"]) == 3
        assert document["memory"]["rss"] > 1 << 20
        assert {"python", "trio"} <= set(document["versions"])
        topics = {topic["channel"]: topic["clients"] for topic in document["topics"]}
        assert topics == {"run:log": crowd, "other:log": 1}
        assert len(document["connections"]) == crowd + 1
        first = document["connections"][0]
        assert (first["run_id"], first["channel"], first["remote"]) == ("run", "log", "192.0.2.1")
        assert (first["frames"], first["backlog"], first["ending"]) == (1, 0, None)
        assert first["age"] >= first["silent"] >= 0
        tasks = list(walk(document["tasks"]))
        readers = [task for task in tasks if task["where"].endswith(" Peer._read")]
        summaries = [task for task in readers if "count" in task]
        assert [task["where"] for task in summaries] == ["common/web/peer.py Peer._read"]
        lines = [task["where"].partition(" ")[0].partition(":") for task in readers if task not in summaries]
        assert all(file == "common/web/peer.py" and line.isdecimal() for file, _, line in lines), lines
        assert [(task["shown"], task["count"]) for task in summaries] == [(SHOWN, crowd + 1)]
        assert len(readers) == SHOWN + 1
        assert any(task["where"].endswith(" Hub._let_go") for task in tasks)


def called(described: dict[str, Any], function: str) -> list[dict[str, Any]]:
    """The tasks of a described tree that run `function` of this module, summaries included."""
    return [task for task in walk(described) if task["name"].endswith(f"<locals>.{function}")]


async def test_the_tree_leaves_out_what_has_ended_meanwhile() -> None:
    release = trio.Event()
    paces = 0

    async def fleeting() -> None:
        await release.wait()

    async def staying() -> None:
        await trio.sleep_forever()

    async def pace() -> None:
        nonlocal paces
        paces += 1
        if paces == ended_at:
            release.set()
        await trio.testing.wait_all_tasks_blocked()

    # The tasks are looked at one by one, then once more when they are described: 5 looks, then 5 more.
    for ended_at, left in ((1, 0), (6, 0), (100, 3)):
        paces, release = 0, trio.Event()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(fleeting)
            for _ in range(2):
                nursery.start_soon(staying)
            await trio.testing.wait_all_tasks_blocked()
            described = await TaskTree({"tests"}, pace).describe(trio.lowlevel.current_task())
            nursery.cancel_scope.cancel()
        assert described["where"] == "here: it takes this snapshot"
        assert len(called(described, "fleeting")) == left, ended_at
        assert len(called(described, "staying")) == 2, ended_at
        assert all(" " in task["where"] for task in called(described, "staying"))
        assert json.loads(json.dumps(described)) == described


async def test_a_crowd_is_looked_at_without_a_lasting_trace() -> None:
    async def wait() -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for _ in range(SHOWN + 30):
            nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()

        def frames() -> int:
            return sum(type(found) is FrameType and found.f_code is wait.__code__ for found in gc.get_objects())

        assert frames() == 0
        described = await TaskTree({"tests"}, trio.lowlevel.checkpoint).describe(trio.lowlevel.current_task())
        tasks = called(described, "wait")
        assert len(tasks) == SHOWN + 1
        assert (tasks[-1]["shown"], tasks[-1]["count"]) == (SHOWN, SHOWN + 30)
        # One for each task that is shown, one for the name of the function's module.
        assert frames() <= SHOWN + 1
        nursery.cancel_scope.cancel()


async def test_a_call_inside_an_async_generator_is_found() -> None:
    async def numbers() -> AsyncGenerator[int]:
        await trio.Event().wait()
        yield 1

    async def count() -> None:
        async with aclosing(numbers()) as generator:
            async for _ in generator:
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await trio.testing.wait_all_tasks_blocked()
        described = await TaskTree({"tests"}, trio.lowlevel.checkpoint).describe(trio.lowlevel.current_task())
        (task,) = called(described, "count")
        assert task["where"].startswith("tests/unit/common/admin/test_probe.py:")
        assert task["where"].endswith(".<locals>.numbers")
        nursery.cancel_scope.cancel()
