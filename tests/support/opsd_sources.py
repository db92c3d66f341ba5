"""A source of opsd's that runs against a scripted daemon."""

from __future__ import annotations

from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

import attrs
import trio

from opsd.sources.daemon import DaemonSource
from opsd.sources.polled import PolledSource
from opsd.sources.target import AdminTarget, SourceEndpoint
from tests.support.opsd_telemetry import Telemetry, telemetry, worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from common.secret import Secret


@attrs.define
class Watch:
    """A source that runs, and what it told."""

    source: PolledSource
    changes: list[float] = attrs.field(factory=list)

    def asked(self) -> bool:
        """Whether the source has been asked once."""
        return self.source.asked

    def connections(self) -> int | None:
        """Of the first worker, None while the source is unavailable."""
        status = self.source.reading.current(trio.current_time()).status
        return None if status is None else status.workers[0].connections

    def problem(self) -> str:
        """Why the source is unavailable."""
        return self.source.reading.current(trio.current_time()).problem


@asynccontextmanager
async def watching(server: Telemetry, *, daemon: bool = False, token: Secret | None = None) -> AsyncIterator[Watch]:
    """A source that runs for the block; a `daemon` is listened to as well."""
    source: PolledSource
    if daemon:
        target = AdminTarget("statusd", SourceEndpoint("http://127.0.0.1:9102"))
        source = DaemonSource(target, token=token, seconds=5.0, rng=Random(0), transport=server)
    else:
        endpoint = SourceEndpoint("http://127.0.0.1:9102")
        source = PolledSource("a", endpoint, token=token, seconds=5.0, outside=False, rng=Random(0), transport=server)
    watch = Watch(source)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run, lambda: watch.changes.append(trio.current_time()))
        yield watch
        nursery.cancel_scope.cancel()


def connections(count: int) -> dict[str, object]:
    """A status with one worker that has so many."""
    return telemetry({"1": worker(connections=count)})
