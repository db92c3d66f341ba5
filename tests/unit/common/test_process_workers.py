"""What the parent of several workers, and each of them, make of the settings (common/process.py, workers/worker.py)."""

from __future__ import annotations

import argparse
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from common import process
from common.daemon_cli import program
from common.notify import Notifier
from common.process import ProcessParts
from common.start import Listeners, Start
from common.tracing import NO_TRACES
from common.workers import supervisor, worker
from common.workers.inherited import Inherited
from common.workers.worker import shared_out
from statusd.daemon import STATUSD
from statusd.settings import StatusSettings
from tests.support.logbook import Logbook


async def test_the_parents_patience_is_the_delay_and_the_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    patience: list[float] = []

    class Patient:
        def __init__(self, _spawn: object, _count: int, seconds: float, *_: object, **__: object) -> None:
            patience.append(seconds)
            self.ready = trio.Event()

        async def run(self, _stop: trio.Event) -> int:
            return 0

    monkeypatch.setattr(supervisor, "Supervisor", Patient)
    settings = StatusSettings(workers=2, drain_delay=20.0, drain_timeout=15.0)
    serve: Any = process._serve
    log = Logbook().log
    parts = ProcessParts(Listeners([], kept=False), None, Notifier(None, None, log), NO_TRACES)
    assert await serve(STATUSD, settings, {}, parts, log, False, trio.Event()) == 0
    assert patience == [35.0]


@given(limit=st.integers(1, 5000), workers=st.integers(1, 64))
def test_the_shares_of_a_limit_are_even_and_never_nothing(limit: int, workers: int) -> None:
    settings = StatusSettings(workers=workers, max_connections=limit, max_connections_per_address=limit)
    shares = [shared_out(settings, number) for number in range(1, workers + 1)]
    for share in shares:
        assert share == attrs.evolve(
            settings, max_connections=share.max_connections, max_connections_per_address=share.max_connections
        )
    counts = [share.max_connections for share in shares]
    assert sum(counts) == max(limit, workers)
    assert max(counts) - min(counts) <= 1
    assert min(counts) >= 1


def test_no_limit_is_none_for_anybody() -> None:
    assert shared_out(StatusSettings(workers=3), 2) == StatusSettings(workers=3)


@pytest.mark.parametrize("kept", [False, True])
def test_a_worker_knows_all_that_its_parent_gave_it(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    known: list[Inherited] = []

    async def serve_worker(_daemon: object, _settings: object, inherited: Inherited, *_: object) -> int:
        known.append(inherited)
        await trio.lowlevel.checkpoint()
        return 0

    monkeypatch.setattr(worker, "serve_worker", serve_worker)
    gave = Inherited(2, 7, (8, 9), kept)
    made, parser = program(STATUSD), argparse.ArgumentParser()
    made.add_serve_arguments(parser, parser.add_subparsers(dest="command").add_parser("serve"))
    options = parser.parse_args(["serve", *gave.arguments()])
    start = Start(settings=StatusSettings(), warnings=(), environ={}, options=options, log=Logbook().log)
    assert made.serve(start) == 0
    assert known == [gave]
