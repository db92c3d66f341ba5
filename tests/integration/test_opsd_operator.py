"""What opsd passes on from real daemons with two workers: viewers, endpoints, and the snapshots' quota."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from common.admin.quota import EVERY
from tests.integration.test_opsd_platform import Site, get, open_platform, read_status, sees_all, wait_status
from tests.support.ports import free_port
from tests.support.raw import connect, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from common.embedded import EmbeddedRedis
    from tests.support.daemon import DaemonProcess

pytestmark = pytest.mark.integration

WORKERS = 2
LOG_CLIENTS = 9
CHECKLIST_CLIENTS = 3


@pytest.fixture
def site(redis_server: EmbeddedRedis, tmp_path: Path) -> Site:
    """A Redis, and places for the daemons."""
    return Site(redis_server, free_port(), tmp_path / "preflightd.sock")


async def viewers(opsd: DaemonProcess, query: str) -> dict[str, Any]:
    """The viewers of a run."""
    answer = await get(opsd, f"/api/dev/viewers?{query}")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def wait_viewers(opsd: DaemonProcess, query: str, expected: dict[str, Any]) -> None:
    """Wait until these are the viewers of a run: a worker that has no time to answer is named, and not counted."""

    async def are_so() -> bool:
        return (await viewers(opsd, query)).items() >= expected.items()

    await wait_until(are_so, f"{query}: {expected}")


async def test_the_viewers_of_a_run_are_counted_over_all_workers(site: Site) -> None:
    async with open_platform(site, workers=WORKERS) as (statusd, preflightd, opsd), trio.open_nursery() as nursery:
        for _ in range(LOG_CLIENTS):
            await connect(nursery, statusd.port, "/batch;;run:log")
        await connect(nursery, statusd.port, "/batch;;run:other")
        for _ in range(CHECKLIST_CLIENTS):
            await connect(nursery, preflightd.port, "/batch;;run")
        all_of_it = {
            "run": "batch;;run",
            "channel": "log",
            "log": {"clients": LOG_CLIENTS, "unavailable": []},
            "checklist": {"clients": CHECKLIST_CLIENTS, "unavailable": []},
        }
        await wait_viewers(opsd, "run=batch%3B%3Brun&channel=log", all_of_it)
        assert (await viewers(opsd, "run=batch%3B%3Brun&channel=log")).keys() == all_of_it.keys()
        assert (await viewers(opsd, "run=batch%3B%3Brun"))["log"] is None
        await wait_viewers(opsd, "run=nobody&channel=log", {"log": {"clients": 0, "unavailable": []}})
        await connect(nursery, statusd.port, "/batch;;run:log")

        # Counted after `FRESH` seconds.
        one_more = {"log": {"clients": LOG_CLIENTS + 1, "unavailable": []}}
        await wait_viewers(opsd, "run=batch%3B%3Brun&channel=log", one_more)
        nursery.cancel_scope.cancel()


async def test_a_daemon_that_is_away_is_named(site: Site) -> None:
    async with site.open("preflightd") as _, site.open("opsd", healthy=False) as opsd:
        await wait_status(opsd, lambda status: status["meta"]["unavailable"] == ["statusd"], "only preflightd is seen")
        found = {
            "log": {"clients": None, "unavailable": ["statusd"]},
            "checklist": {"clients": 0, "unavailable": []},
        }
        await wait_viewers(opsd, "run=run&channel=log", found)


async def test_the_endpoints_are_as_many_as_the_status_says(site: Site) -> None:
    async with open_platform(site, workers=WORKERS) as (_, _, opsd):
        listed = (await get(opsd, "/api/dev/endpoints")).json()
        assert listed["total"] == len(listed["endpoints"])
        assert listed["total"] == (await read_status(opsd))["meta"]["totalEndpoints"]
        paths = {(found["service"], found["path"]) for found in listed["endpoints"]}
        assert {
            ("opsd", "/api/dev/viewers"),
            ("statusd", "/{runid}:{channel}"),
            ("preflightd", "/{runid}"),
            ("preflightd", "/health"),
        } <= paths
        assert (await get(opsd, "/api/dev/openapi.json")).json()["openapi"].startswith("3.1")


async def test_two_opsd_together_take_one_snapshot_of_a_worker(site: Site) -> None:
    async with open_platform(site, workers=WORKERS) as (_, _, one), site.open("opsd", healthy=False) as other:
        await wait_status(other, sees_all, "the other one sees both too")
        begun = trio.current_time()
        answers = [
            await get(opsd, f"/api/workers/snapshot/statusd-{number}") for number in (1, 2) for opsd in (one, other)
        ]
        statuses = [answer.status_code for answer in answers]
        assert statuses[::2] == [200, 200]
        if trio.current_time() - begun < EVERY:
            assert statuses[1::2] == [429, 429]
        for refused in (answer for answer in answers if answer.status_code == 429):
            assert 1 <= int(refused.headers["retry-after"]) <= EVERY
            assert "a moment ago" in refused.json()["error"]
