"""What real daemons serve, in the eyes of Prometheus' own tool, and the files that are for Prometheus and Grafana."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.integration.test_opsd import get, open_opsd
from tests.support import needs
from tests.support.daemon import open_daemon
from tests.support.raw import connect, fetch, open_redis, wait_until
from tests.support.series import ROOT, read, served

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from common.embedded import EmbeddedRedis
    from tests.support.daemon import DaemonProcess

pytestmark = pytest.mark.integration

METRICS = {"metrics_enabled": "true"}
BEATING = METRICS | {"ping_interval": "100ms", "pong_timeout": "3h"}


@pytest.fixture
def promtool() -> str:
    return needs.program("promtool", package="prometheus")


async def run(command: Sequence[str | Path], stdin: bytes = b"") -> None:
    """Run it; it must succeed and complain of nothing."""
    done = await trio.run_process(
        command, stdin=stdin, capture_stdout=True, stderr=subprocess.STDOUT, check=False, cwd=ROOT
    )
    said = done.stdout.decode()
    assert done.returncode == 0, said


async def check_page(promtool: str, page: bytes) -> None:
    """Nothing that promtool's lint objects to: it says so and fails, or says so and does not."""
    done = await trio.run_process(
        [promtool, "check", "metrics"], stdin=page, capture_stdout=True, stderr=subprocess.STDOUT, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"")


async def scrape(daemon: DaemonProcess, expected: Collection[str]) -> bytes:
    """The page, once it has these series and no others: workers that get no time for a second are left out of it."""
    pages: list[bytes] = []

    async def is_whole() -> bool:
        answer = await fetch(daemon.port, "/metrics")
        pages.append(answer.body)
        return answer.status == 200 and set(read(answer.body)) == expected

    await wait_until(is_whole, f"the series {sorted(expected)}")
    return pages[-1]


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(("module", "path"), [("statusd", "/run:log"), ("preflightd", "/run")])
async def test_a_daemon_serves_the_known_series_before_and_after_a_client(
    module: str, path: str, workers: str, promtool: str, redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    prefix = "status2_" if module == "statusd" else "preflight2_"
    expected = {name for name in await served() if name.startswith((prefix, "process_", "python_"))}
    async with open_daemon(redis_server, METRICS | {"workers": workers}, module=module) as daemon:
        page = await scrape(daemon, expected)
        await check_page(promtool, page)
        known = {name: series.labels for name, series in read(page).items() if name.startswith(prefix)}
        client = await connect(nursery, daemon.port, path)
        await fetch(daemon.port, "/nothing/here")
        await client.leave()

        async def is_counted() -> bool:
            counted = [
                await daemon.metric(f"{prefix}disconnects_total", 'reason="client_closed"'),
                await daemon.metric(f"{prefix}handshakes_rejected_total", 'reason="bad_path"'),
                *[await daemon.metric(f"{prefix}{name}") for name in ("ready", "workers", "workers_ready")],
            ]
            return counted == [1, 1, 1, int(workers), int(workers)]

        await wait_until(is_counted, "the client is gone, the odd page counted, and all are ready")
        page = await scrape(daemon, expected)
        await check_page(promtool, page)
        # What happened has added no series: each was there, at 0.
        assert {name: series.labels for name, series in read(page).items() if name.startswith(prefix)} == known
        nursery.cancel_scope.cancel()


async def test_opsd_serves_the_known_series(promtool: str, redis_server: EmbeddedRedis) -> None:
    async with open_opsd(redis_server, metrics_enabled="true") as opsd:
        page, vector = [(await get(opsd, path)).content for path in ("/metrics", "/api/dev/metrics")]
        for text in (page, vector):
            await check_page(promtool, text)
        expected = {name for name in await served() if name.startswith(("opsd_", "process_", "python_"))}
        # There is no source, so there is none that may be away.
        expected.remove("opsd_source_unavailable")
        assert set(read(page)) == expected
        assert set(read(vector)) == {name for name in expected if name.startswith("opsd_")}


async def test_round_trips_of_clients_and_redis_are_measured(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_daemon(redis_server, BEATING) as daemon:
        await connect(nursery, daemon.port, "/run:log")

        async def are_measured() -> bool:
            counts = [await daemon.metric(f"status2_{name}_round_trip_seconds_count") for name in ("client", "redis")]
            return all(count >= 2 for count in counts)

        await wait_until(are_measured, "both are measured")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("flags", "state"), [("Kghx", "on"), ("", "off")])
async def test_notifications_and_reads_of_hashes(
    flags: str, state: str, redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_redis(redis_server) as redis:
        await redis.call("CONFIG", "SET", "notify-keyspace-events", flags)
    settings = METRICS | {"resync_interval": "1s"}
    expect = set() if state == "on" else {"keyspace notifications"}
    async with open_daemon(redis_server, settings, module="preflightd", expect=expect) as daemon:

        async def is_known() -> bool:
            return await daemon.metric("preflight2_notifications", f'state="{state}"') == 1

        await wait_until(is_known, "Redis has been asked")
        await connect(nursery, daemon.port, "/run")

        async def is_read() -> bool:
            return await daemon.metric("preflight2_hgetall_seconds_count") >= 1

        await wait_until(is_read, "the hash has been read")
        assert await daemon.metric("preflight2_hgetall_failures_total", 'reason="unavailable"') == 0
        if state == "off":
            async with open_redis(redis_server) as redis:
                await redis.call("HSET", "run", "timestamps:build_channels", "1")

            async def is_missed() -> bool:
                return await daemon.metric("preflight2_resync_changes_total") == 1

            await wait_until(is_missed, "the resync has found it")
        nursery.cancel_scope.cancel()


async def test_the_rules_and_the_configuration_are_good(promtool: str) -> None:
    await run([promtool, "check", "rules", ROOT / "deploy/prometheus/alerts.yml"])
    await run([promtool, "check", "config", ROOT / "deploy/prometheus/prometheus.yml"])
    # Its secret is a file of the container.
    await run([promtool, "check", "config", "--syntax-only", ROOT / "deploy/prometheus/compose.yml"])


async def test_the_alerts_come_when_they_must(promtool: str) -> None:
    await run([promtool, "test", "rules", ROOT / "deploy/prometheus/alerts_test.yml"])


async def test_prometheus_can_read_what_the_dashboard_asks(promtool: str, tmp_path: Path) -> None:
    dashboard: dict[str, Any] = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text("utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    values = {"$__rate_interval": "1m", "$instance": ".*"}
    rules = []
    for number, expression in enumerate(asked):
        for variable, value in values.items():
            expression = expression.replace(variable, value)
        assert not re.search(r"\$", expression)
        rules.append({"record": f"panel_{number}", "expr": expression})
    path = tmp_path / "rules.yml"
    # JSON is YAML.
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    await run([promtool, "check", "rules", path])
