"""One client that never reads, among a thousand: the others get every message all the same.

What it costs them in time is a measure: `make bench ROW=stalled`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
import trio

from bench import crowd as crowd_module
from bench.crowd import Site
from bench.scenarios import stalled
from bench.scenarios.stalled import open_pairs
from tests.support.daemon import open_daemon
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.embedded import EmbeddedRedis

pytestmark = [pytest.mark.integration, pytest.mark.sensitive]

HEALTHY: Final = 999
PAIRS: Final = 3
"""Of blocks of messages, one of each pair beside a client that never reads."""


def publish_blocks(site: Site, inspect: Callable[[], None]) -> None:
    """Publish the blocks one after the other, each when every healthy client has all of the last."""
    with open_pairs(site, "run:log", HEALTHY, PAIRS, inspect=inspect) as (crowd, measure_pair):
        before = crowd.start_measuring()
        for _ in range(PAIRS):
            measure_pair()
        observed = crowd.observed(before, crowd.read_clocks())
    faults = observed.faults
    assert observed.clients == HEALTHY
    assert (faults.lost, faults.repeated, faults.unexpected, faults.ended) == (0, 0, 0, 0)


async def test_999_healthy_clients_get_everything_while_one_stands_still(
    redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is late is lost to the bench, which has the machine to itself.
    monkeypatch.setattr(stalled, "_GRACE", PATIENCE)
    monkeypatch.setattr(crowd_module, "_OPEN_TIMEOUT", PATIENCE)
    # No limit ends the one that stands still before the others have got their block.
    settings = {"write_timeout": "1h", "max_backlog": "64MB", "metrics_enabled": "true"}
    backlogs: list[float] = []
    # A client that leaves without having read everything leaves by a reset.
    async with open_daemon(redis_server, settings, expect=["connection ended with error"]) as daemon:

        async def note_backlog() -> None:
            backlogs.append(await daemon.metric("status2_backlog_bytes"))

        site = Site(("127.0.0.1", daemon.port), ("127.0.0.1", redis_server.port), {"target": daemon.pid})
        await trio.to_thread.run_sync(
            partial(publish_blocks, site, lambda: trio.from_thread.run(note_backlog)), abandon_on_cancel=True
        )
        ended = daemon.said("connection ended with error")
    assert {line["reason"] for line in ended} <= {"write_error"}, ended
    assert len(backlogs) == PAIRS
    assert min(backlogs) > 0, "the client was not stalled"
