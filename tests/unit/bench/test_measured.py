"""What a daemon measures only where somebody reads it, and how it keeps knowing what Redis is set to (SPEC 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import trio

from common.config import load
from common.daemon import OBSERVE_INTERVAL, DaemonService
from preflightd.daemon import PREFLIGHTD
from preflightd.settings import PreflightSettings
from statusd.daemon import STATUSD
from statusd.settings import StatusSettings
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    from trio.testing import MockClock

    from common.metrics import HashFigures
    from common.redis.links import RedisLink

OFF: Final[dict[str, str]] = {}
READ: Final = [{"PREFLIGHT_METRICS_ENABLED": "true"}, {"PREFLIGHT_ADMIN_LISTEN_ADDR": "127.0.0.1:0"}]


def preflight(environ: dict[str, str]) -> DaemonService[PreflightSettings]:
    return DaemonService(PREFLIGHTD, load(PreflightSettings, environ).settings, Logbook().log)


def measured(service: DaemonService[PreflightSettings]) -> list[bool]:
    """Whether each of the clocks runs that cost something."""
    hashes = service.counters.hashes
    assert hashes is not None
    clocks = (service.counters.delivery, service.heartbeat.round_trips, hashes.reads)
    return [clock is not None for clock in clocks] + [service._observe is not None]


async def test_where_nobody_reads_it_no_clock_is_looked_at() -> None:
    assert not any(measured(preflight(OFF)))


@pytest.mark.parametrize("environ", READ, ids=["metrics", "the operator's listener"])
async def test_where_somebody_does_all_are(environ: dict[str, str]) -> None:
    assert all(measured(preflight(environ)))


async def test_a_daemon_that_reads_no_hashes_counts_none() -> None:
    settings = load(StatusSettings, {"STATUS_METRICS_ENABLED": "true"}).settings
    assert DaemonService(STATUSD, settings, Logbook().log).counters.hashes is None


async def test_redis_is_asked_at_every_change_of_the_link_and_from_time_to_time(autojump_clock: MockClock) -> None:
    """An operator may turn notifications on at any time, and nothing tells of that."""
    service = preflight(READ[0])
    asked: list[float] = []

    async def observe(link: RedisLink, figures: HashFigures) -> None:
        assert (link, figures) == (service.hub.link, service.counters.hashes)
        asked.append(trio.current_time())
        await trio.lowlevel.checkpoint()

    assert service.counters.hashes is not None
    async with trio.open_nursery() as nursery:
        begun = trio.current_time()
        nursery.start_soon(service._keep_observing, observe, service.counters.hashes)
        await trio.sleep(2.5 * OBSERVE_INTERVAL)
        service.hub.on_lost()
        await trio.sleep(0.2 * OBSERVE_INTERVAL)
        service.hub.on_online(1.0)
        await trio.sleep(0.5 * OBSERVE_INTERVAL)
        nursery.cancel_scope.cancel()
    assert [(at - begun) / OBSERVE_INTERVAL for at in asked] == pytest.approx([0, 1, 2, 2.5, 2.7])
