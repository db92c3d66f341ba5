"""One client that never reads, among a thousand: the others get their messages as soon as without it."""

from __future__ import annotations

import statistics
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
import trio

from bench.crowd import Site
from bench.scenarios.stalled import open_pairs
from tests.support.daemon import open_daemon

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

HEALTHY: Final = 999
LIMIT: Final = 1.2
FEWEST: Final = 5
MOST: Final = 40
"""Pairs. What else the machine does can only lengthen a block: it falls on both kinds alike, and the median forgets
the pairs of which it hit one."""


def measure(site: Site, inspect: Callable[[], None]) -> list[float]:
    """The p99 beside a stalled client divided by that without, pair by pair, until the median is decided."""
    ratios: list[float] = []
    with open_pairs(site, "run:log", HEALTHY, MOST, inspect=inspect) as (crowd, measure_pair):
        before = crowd.start_measuring()
        while len(ratios) < MOST:
            ratios.append(measure_pair().ratio)
            if len(ratios) >= FEWEST and statistics.median(ratios) <= LIMIT:
                break
        observed = crowd.observed(before, crowd.read_clocks())
    # Of the writes that were prepared for more pairs nothing was sent, and nothing else was lost.
    assert observed.clients == HEALTHY
    assert (observed.faults.repeated, observed.faults.unexpected, observed.faults.ended) == (0, 0, 0)
    return ratios


async def test_the_p99_of_999_healthy_clients_is_within_a_fifth_of_that_without_a_stalled_one(
    redis_server: EmbeddedRedis,
) -> None:
    settings = {"write_timeout": "30s", "metrics_enabled": "true"}
    backlogs: list[float] = []
    # A client that leaves without having read everything leaves by a reset.
    async with open_daemon(redis_server, settings, expect=["connection ended with error"]) as daemon:

        async def note_backlog() -> None:
            backlogs.append(await daemon.metric("status2_backlog_bytes"))

        site = Site(("127.0.0.1", daemon.port), ("127.0.0.1", redis_server.port), {"target": daemon.pid})
        ratios = await trio.to_thread.run_sync(
            partial(measure, site, lambda: trio.from_thread.run(note_backlog)), abandon_on_cancel=True
        )
        ended = daemon.said("connection ended with error")
    assert {line["reason"] for line in ended} <= {"write_error"}, ended
    assert statistics.median(ratios) <= LIMIT, ratios
    assert len(backlogs) == len(ratios)
    assert min(backlogs) > 0, "the client was not stalled"
