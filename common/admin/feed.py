"""Changes of the daemon's status, for as long as somebody listens to them.

`Feed.run` is owned by the admin server's nursery. The first listener makes the source notice changes and the last one
ends that; all get the same rendered bytes. Nothing is queued: a slow listener gets the newest status and misses those
in between.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.admin.telemetry_source import TelemetrySource

PAUSE: Final = 0.05
"""Seconds between two statuses at least."""


class Feed:
    """The newest status of `source`, and when there is a newer one."""

    def __init__(self, source: TelemetrySource) -> None:
        self._source = source
        self._listeners = 0
        self._scope = trio.CancelScope()
        self._wanted = trio.Event()
        self._published = trio.Event()
        self.version = 0
        """Grows with every status that is published."""
        self.body = b""
        """The newest that was published, as JSON."""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """For this block changes are published; every status asked for in it is older than the next of them."""
        self._listeners += 1
        if self._listeners == 1:
            self._source.start_watching()
            self._wanted.set()
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._source.stop_watching()
                self._wanted = trio.Event()
                self._scope.cancel()

    async def wait_newer(self, version: int) -> None:
        """Wait until `version` is not the newest."""
        while self.version == version:
            await self._published.wait()

    async def run(self) -> None:
        """Publish while somebody listens, until cancelled."""
        while True:
            while not self._listeners:
                await self._wanted.wait()
            with trio.CancelScope() as self._scope:
                await self._publish()

    async def _publish(self) -> None:
        while True:
            await self._source.wait_changed()
            self.body = self._source.newest().render()
            self.version += 1
            self._published.set()
            self._published = trio.Event()
            await trio.sleep(PAUSE)
