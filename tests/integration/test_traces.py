"""Traces of real daemons at a collector's stand-in, and daemons that send none (common/otel.py, common/start.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import trio

from common.version import version
from tests.support.collector import Collector
from tests.support.daemon import environment, open_daemon, run_to_end
from tests.support.ports import free_port
from tests.support.raw import connect, open_redis, wait_until
from tests.support.traces import PARENT, TRACE, TRACEPARENT

if TYPE_CHECKING:
    from pathlib import Path

    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

ON: Final = {"traces_enabled": "true", "ping_interval": "1h", "pong_timeout": "3h"}

AT_THE_END: Final = {"OTEL_BSP_SCHEDULE_DELAY": "3600000"}
"""Nothing is sent before."""

LATE: Final = {"traces not sent"}
"""What may be said at the end on a machine that is busy."""

IN_VAIN: Final = {"opentelemetry warned", *LATE}
"""What may be said while the collector is away."""


def without(tmp_path: Path, program: str) -> dict[str, str]:
    """An environment in which opentelemetry is `program` and nothing else."""
    package = tmp_path / "opentelemetry"
    package.mkdir()
    (package / "__init__.py").write_text(program)
    return {"PYTHONPATH": str(tmp_path)}


async def test_statusd_tells_of_handshakes_and_messages(redis_server: EmbeddedRedis) -> None:
    collector = Collector()
    async with (
        collector.open(),
        open_daemon(redis_server, ON, expect=LATE, variables=collector.variables) as daemon,
        open_redis(redis_server) as redis,
        trio.open_nursery() as nursery,
    ):
        clients = [
            await connect(nursery, daemon.port, "/run:log?token=hidden", {"traceparent": TRACEPARENT}),
            await connect(nursery, daemon.port, "/run:log"),
        ]
        await redis.publish("run:log", ["one", "three"])
        for client in clients:
            await client.receive(2)
        [on] = daemon.said("sending traces")
        accepted = await daemon.wait_said("connection accepted", 2)

        def told_all() -> bool:
            frames = sum(int(span.attributes["frames"]) for span in collector.named("delivery"))
            return (len(collector.named("handshake")), len(collector.named("subscribe")), frames) == (2, 1, 4)

        await wait_until(told_all, "all was traced")
        daemon.signal()
        assert await daemon.wait_exit() == 0
    first, second = sorted(collector.named("handshake"), key=lambda span: span.start)
    assert (first.trace, first.parent, second.parent) == (TRACE, PARENT, "")
    subscribe = collector.one("subscribe")
    assert (subscribe.trace, subscribe.parent) == (TRACE, first.id)
    assert first.start <= subscribe.start <= subscribe.end <= first.end
    known = {(said["connection"], said["run_id"], said["channel"]) for said in accepted}
    told = [span.attributes for span in (first, second)]
    assert {(said["connection"], said["run_id"], said["channel"]) for said in told} == known
    assert [said["status"] for said in told] == [101, 101]
    deliveries = collector.named("delivery")
    assert sum(int(span.attributes["bytes"]) for span in deliveries) == len("onethree")
    assert all(span.attributes["clients"] == 2 and span.parent == "" for span in deliveries)
    for span in collector.spans:
        said = span.resource
        assert (said["service.name"], said["service.version"], said["process.pid"]) == (
            "statusd",
            version(),
            daemon.pid,
        )
        assert said["service.instance.id"] == on["instance"]
    assert "hidden" not in str(collector.spans)


async def test_preflightd_tells_of_its_reads(redis_server: EmbeddedRedis) -> None:
    collector = Collector()
    async with (
        collector.open(),
        open_daemon(redis_server, ON, expect=LATE, module="preflightd", variables=collector.variables) as daemon,
        open_redis(redis_server) as redis,
        trio.open_nursery() as nursery,
    ):
        client = await connect(nursery, daemon.port, "/run")
        await client.receive(1)
        await redis.call("HSET", "run", "attrs:has_sbs", "true")
        await client.receive(2)

        def changed() -> bool:
            return any(
                span.attributes["notified"] and span.attributes["changed"] for span in collector.named("refresh")
            )

        await wait_until(changed, "the change was traced")
        await wait_until(lambda: len(collector.named("handshake")) == 1, "the handshake was traced")
        refresh = next(span for span in collector.named("refresh") if span.attributes["changed"])
        parts = {span.name: span for span in collector.spans if span.parent == refresh.id}
        assert parts.keys() == {"read", "evaluate", "write"}
        assert refresh.start <= parts["read"].start <= parts["read"].end <= parts["evaluate"].start
        assert parts["evaluate"].end <= parts["write"].start <= parts["write"].end <= refresh.end
        assert (refresh.attributes["run_id"], parts["write"].attributes["clients"]) == ("run", 1)
        assert refresh.resource["service.name"] == "preflightd"
        assert collector.one("handshake").attributes["run_id"] == "run"
        daemon.signal()
        assert await daemon.wait_exit() == 0


async def test_each_worker_tells_for_itself(redis_server: EmbeddedRedis) -> None:
    collector = Collector()
    async with (
        collector.open(),
        open_daemon(redis_server, {**ON, "workers": "2"}, expect=LATE, variables=collector.variables) as daemon,
        open_redis(redis_server) as redis,
        trio.open_nursery() as nursery,
    ):

        def who() -> set[tuple[object, object]]:
            said = [span.resource for span in collector.named("handshake")]
            return {(resource["worker"], resource["service.instance.id"]) for resource in said}

        async def both() -> bool:
            # Who takes one is the kernel's choice.
            await connect(nursery, daemon.port, "/run:log")
            return len(who()) == 2

        await wait_until(both, "both workers have told of a handshake")
        assert {worker for worker, _ in who()} == {1, 2}
        assert len({instance for _, instance in who()}) == 2
        await redis.publish("run:log", ["one"])
        await wait_until(lambda: len(collector.named("delivery")) == 2, "both workers have told of the message")
        # The parent, which serves nobody, has no part in it.
        assert {line.get("worker") for line in await daemon.wait_said("sending traces", 2)} == {1, 2}
        daemon.signal()
        assert await daemon.wait_exit() == 0


async def test_a_collector_that_is_away_disturbs_nobody_and_may_come_back(redis_server: EmbeddedRedis) -> None:
    collector = Collector(free_port())
    async with (
        open_daemon(redis_server, ON, expect=IN_VAIN, variables=collector.variables) as daemon,
        open_redis(redis_server) as redis,
        trio.open_nursery() as nursery,
    ):
        client = await connect(nursery, daemon.port, "/run:log")
        await redis.publish("run:log", ["one"])
        await client.receive(1)
        [complaint] = await daemon.wait_said("opentelemetry warned")
        assert complaint["error"].startswith(("Transient error", "Failed to export"))
        async with collector.open():

            async def heard() -> bool:
                await redis.publish("run:log", ["more"])
                return bool(collector.named("delivery"))

            await wait_until(heard, "the collector is heard of again")
        daemon.signal()
        assert await daemon.wait_exit() == 0


async def test_a_daemon_ends_without_its_collector(redis_server: EmbeddedRedis) -> None:
    collector = Collector(free_port())
    async with (
        open_daemon(redis_server, ON, expect=IN_VAIN, variables=collector.variables | AT_THE_END) as daemon,
        trio.open_nursery() as nursery,
    ):
        client = await connect(nursery, daemon.port, "/run:log")
        daemon.signal()
        await client.wait_ended()
        assert (client.close_code, await daemon.wait_exit()) == (1001, 0)
        assert daemon.said("stopped", code=0)


# -- off, or impossible ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["statusd", "preflightd"])
async def test_off_it_imports_nothing(module: str, redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    variables = without(tmp_path, "raise RuntimeError('imported')")
    path = {"statusd": "/run:log", "preflightd": "/run"}[module]
    async with (
        open_daemon(redis_server, module=module, variables=variables) as daemon,
        open_redis(redis_server) as redis,
        trio.open_nursery() as nursery,
    ):
        client = await connect(nursery, daemon.port, path)
        if module == "statusd":
            await redis.publish("run:log", ["one"])
        await client.receive(1)
        daemon.signal()
        assert await daemon.wait_exit() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_on_without_the_extra_is_one_clear_line(workers: str, tmp_path: Path) -> None:
    settings = {"traces_enabled": "true", "workers": workers}
    ended = await run_to_end(environ=environment(settings=settings) | without(tmp_path, ""))
    [error] = ended.said("warn", "error")
    assert (ended.code, error["msg"], ended.stderr) == (2, "can't send traces", "")
    assert error["setting"] == "STATUS_TRACES_ENABLED=true"
    assert "pip install 'run-status-daemons[otel]'" in error["error"]


async def test_a_variable_that_can_not_be_used_is_one_clear_line() -> None:
    environ = environment(settings={"traces_enabled": "true"}) | {"OTEL_TRACES_SAMPLER_ARG": "half"}
    ended = await run_to_end(environ=environ)
    [error] = ended.said("warn", "error")
    assert (ended.code, error["msg"], ended.stderr) == (2, "can't send traces", "")
    assert "OTEL_TRACES_SAMPLER_ARG='half'" in error["error"]


async def test_check_says_where_to(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    environ = environment(redis_server, {"traces_enabled": "true"})
    environ |= {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://me:hidden@collector:4318"}
    ended = await run_to_end("check", environ=environ)
    assert (ended.code, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert {"STATUS_TRACES_ENABLED=true", "traces: sent to https://***@collector:4318/v1/traces"} <= set(lines)
    ended = await run_to_end("check", environ=environ | without(tmp_path, ""))
    assert ended.code == 1
    assert "traces: FAILED: the extra `otel` is not installed" in ended.stdout
    ended = await run_to_end("check", environ=environment(redis_server))
    assert (ended.code, "traces:" in ended.stdout) == (0, False)
