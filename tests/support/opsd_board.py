"""A board with sources that a test sets by hand, and one that stands on scripted daemons."""

from __future__ import annotations

from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Final

import jsonschema
import trio
import trio.testing

from common.telemetry.parse import parse_status
from opsd.board import Board
from opsd.keys import Keys
from opsd.schema import SCHEMA
from opsd.sources.daemon import DaemonSource
from opsd.sources.interface import Reading, SnapshotError
from opsd.sources.target import AdminTarget, SourceEndpoint
from tests.support.logbook import Logbook
from tests.support.opsd_telemetry import encoded, telemetry, worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    import httpx

    from opsd.sources.interface import Source

KEYS: Final = Keys("opsd:history:test", "opsd:alerts:test")
"""Where a test's opsd keeps the past."""

VALIDATOR: Final = jsonschema.Draft202012Validator(SCHEMA)


class HandSource:
    """A source whose readings are the test's."""

    def __init__(self, name: str, *, outside: bool = False) -> None:
        self.name = name
        self.outside = outside
        self.asked = False
        self.reading = Reading()
        self._changed: Callable[[], None] = lambda: None

    async def run(self, changed: Callable[[], None]) -> None:
        """See `Source`."""
        self._changed = changed
        await trio.sleep_forever()

    async def snapshot(self, worker: str) -> bytes:
        """See `Source`; there is one worker, `1`."""
        if worker != "1":
            raise SnapshotError(404, "no such worker")
        return f"{self.name}/{worker}".encode()

    def shows(self, document: object = None) -> None:
        """It answers."""
        body = encoded(telemetry() if document is None else document)
        self._set(Reading(parse_status(body, outside=self.outside), answers=True, problem=""))

    def fails(self, *, answers: bool = False) -> None:
        """It does not, or with an error."""
        self._set(Reading(answers=answers, problem="gone"))

    def news(self) -> None:
        """Something changes before it was asked."""
        self._changed()

    def _set(self, reading: Reading) -> None:
        self.asked = True
        self.reading = reading
        self._changed()


@asynccontextmanager
async def open_board(sources: Sequence[Source], *, own_routes: int = 10) -> AsyncIterator[tuple[Board, Logbook]]:
    """A board that runs as long as the block."""
    logbook = Logbook()
    board = Board(sources, region="us-east-1", own_routes=own_routes, log=logbook.log)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.run)
        await trio.testing.wait_all_tasks_blocked()
        yield board, logbook
        nursery.cancel_scope.cancel()


def daemons(servers: Mapping[str, httpx.AsyncBaseTransport]) -> list[DaemonSource]:
    """Sources for scripted servers, by name."""
    return [
        DaemonSource(
            AdminTarget(name, SourceEndpoint("http://127.0.0.1:9102")),
            token=None,
            seconds=5.0,
            rng=Random(0),
            transport=server,
        )
        for name, server in servers.items()
    ]


def answers(total: int, errors: int = 0, seconds: float = 0.0, in_flight: int = 0) -> dict[str, object]:
    """The counts of a worker's answers, as telemetry has them."""
    return {"total": total, "server_errors": errors, "seconds": seconds, "in_flight": in_flight}


def counted(total: int, errors: int = 0, **changes: object) -> dict[str, object]:
    """The telemetry of one worker that has counted so much."""
    return telemetry({"1": worker(answers=answers(total, errors), **changes)})


def mode(board: Board) -> str:
    """The traffic mode that it shows."""
    return board.status.vector.directions.traffic_mode


def unavailable(board: Board) -> tuple[str, ...]:
    """The sources that it misses."""
    return board.status.meta.unavailable
