"""An outage as its operator meets it: opsd says what users feel, and its alerts arrive, whoever was away meanwhile."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
import trio

from common.embedded import open_embedded_redis
from tests.integration.test_opsd_platform import TROUBLE, Site, get, read_status, sees_all, site, wait_status
from tests.support.client import handshake
from tests.support.daemon import open_daemon
from tests.support.ports import free_port
from tests.support.raw import PATIENCE, ask, connect, open_redis, wait_until
from tests.support.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from common.embedded import EmbeddedRedis
    from tests.support.daemon import DaemonProcess

pytestmark = pytest.mark.integration

__all__ = ["site"]

SAID = (*TROUBLE, "alert not posted, retrying", "alerts are kept in memory only")
LONG = 3 * PATIENCE
"""Seconds for what waits for a receiver's turn: an attempt a minute at least."""


def mode(status: dict[str, Any]) -> str:
    return str(status["vector"]["directions"]["trafficMode"])


async def sources(opsd: DaemonProcess) -> dict[str, dict[str, Any]]:
    listed = (await get(opsd, "/api/dev/workers")).json()["sources"]
    return {source["name"]: source for source in listed}


async def wait_told(receiver: Receiver, kind: str, holds: Callable[[list[tuple[str, str, str]]], bool]) -> None:
    await wait_until(lambda: holds(receiver.told(kind)), f"an alert of the {kind}", within=LONG)


@pytest.mark.parametrize("own", [True, False], ids=["opsd has a Redis of its own", "opsd loses its Redis too"])
async def test_an_incident_is_told_and_resolved_whoever_was_away(site: Site, redis_program: Path, *, own: bool) -> None:
    receiver = Receiver(free_port())
    async with AsyncExitStack() as stack:
        redis: EmbeddedRedis = site.redis
        if own:
            redis = await stack.enter_async_context(open_embedded_redis(program=redis_program))
        statusd = await stack.enter_async_context(site.open("statusd", redis_request_timeout="500ms"))
        preflightd = await stack.enter_async_context(site.open("preflightd", redis_request_timeout="500ms"))

        def open_opsd() -> AbstractAsyncContextManager[DaemonProcess]:
            settings = site.settings("opsd", alert_webhook=receiver.url)
            return open_daemon(redis, settings, module="opsd", expect=SAID, healthy=False)

        async def users() -> None:
            for _ in range(3):
                assert (await ask(statusd.port, handshake("/run:log"))).status == 503
                assert (await ask(preflightd.port, handshake("/run"))).status == 503

        async with open_opsd() as opsd:
            await wait_status(opsd, sees_all, "both are seen")

            async def lamps_are_green() -> bool:
                return {one["redis"] for one in (await sources(opsd)).values()} == {"online"}

            await wait_until(lamps_are_green, "each daemon says that it has Redis")
            await site.redis.kill()
            await wait_status(opsd, lambda status: status["meta"]["telemetryStatus"] == "degraded", "it is noticed")

            async def lamps_are_red() -> bool:
                shown = (await sources(opsd)).values()
                return all(one["available"] and one["redis"] != "online" and not one["ready"] for one in shown)

            await wait_until(lamps_are_red, "each daemon says that it is not ready, for want of Redis")

            async def isolated() -> bool:
                await users()
                return mode(await read_status(opsd)) == "isolated"

            await wait_until(isolated, "nobody is served")
            # Nobody but probes from here on.
            for _ in range(100):
                assert (await ask(statusd.port, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")).status == 503
            assert mode(await read_status(opsd)) == "isolated"
            # Where opsd had no time for its sources, it takes their next answer.
            await wait_status(opsd, lambda status: status["meta"]["unavailable"] == [], "both daemons are seen")
            assert mode(await read_status(opsd)) == "isolated"
            assert (await get(opsd, "/health")).status_code == 200, "that is about opsd"
            kinds = {event["kind"] for event in (await get(opsd, "/api/dev/events")).json()["events"]}
            assert {"mode", "telemetry", "workers"} <= kinds
            await opsd.wait_said("alert not posted, retrying")
            assert receiver.alerts == []
            async with receiver.open():
                await wait_told(receiver, "mode", lambda told: bool(told) and told[-1][-1] == "isolated")
                await wait_told(receiver, "telemetry", lambda told: bool(told) and told[-1][-1] == "degraded")
                await wait_told(
                    receiver, "workers", lambda told: {name for name, *_ in told} >= {"statusd", "preflightd"}
                )
            if own:
                await wait_until(lambda: kept(redis, "isolated"), "what was told is kept")
        async with open_opsd() as opsd, trio.open_nursery() as nursery:
            if not own:
                await opsd.wait_said("alerts are kept in memory only")
            await site.redis.start()
            await wait_status(opsd, sees_all, "all are well")

            async def normal() -> bool:
                client = await connect(nursery, statusd.port, "/run:log")
                await client.leave()
                return mode(await read_status(opsd)) == "normal"

            await wait_until(normal, "users are served", within=LONG)
            before = "isolated" if own else "unknown"
            async with receiver.open():
                await wait_told(receiver, "mode", lambda told: told[-1] == ("", before, "normal"))
                await wait_told(receiver, "telemetry", lambda told: told[-1][-1] == "healthy")
            nursery.cancel_scope.cancel()


async def kept(redis: EmbeddedRedis, word: str) -> bool:
    """Whether an opsd has kept this of its alerts."""
    async with open_redis(redis) as connection:
        await connection.call("SELECT", 3)
        keys = await connection.call("KEYS", "opsd:alerts:*")
        assert isinstance(keys, list)
        entries = [await connection.call("XRANGE", key, "-", "+") for key in keys]
        return word in str(entries)


async def test_a_daemon_that_is_killed_is_an_event_and_an_alert(site: Site) -> None:
    receiver = Receiver(free_port())
    async with receiver.open(), site.open("preflightd"):
        opsd_settings = {"alert_webhook": receiver.url}
        async with open_daemon(
            site.redis, site.settings("opsd", **opsd_settings), module="opsd", expect=SAID, healthy=False
        ) as opsd:
            async with site.open("statusd"):
                await wait_status(opsd, sees_all, "both are seen")
            await wait_status(opsd, lambda status: status["meta"]["unavailable"] == ["statusd"], "one is away")
            await wait_told(receiver, "source", lambda told: ("statusd", "up", "down") in told)

            async def are_counted() -> bool:
                # None fails, unless the receiver, which is this process, had no time for it.
                metrics = (await get(opsd, "/api/dev/metrics")).text
                sent, failed = len(opsd.said("alert posted")), len(opsd.said("alert not posted, retrying"))
                outcomes = {"sent": float(sent), "failed": float(failed)}
                return all(f'opsd_alerts_total{{outcome="{name}"}} {n}\n' in metrics for name, n in outcomes.items())

            await wait_until(are_counted, "its attempts are counted")
            async with site.open("statusd"):
                await wait_told(receiver, "source", lambda told: ("statusd", "down", "up") in told)

                async def is_there() -> bool:
                    return (await sources(opsd))["statusd"]["available"] is True

                await wait_until(is_there, "it is seen again")
