"""The bench as a process: rows one after the other, in each of which the targets take turns, round by round.

`run` owns a private redis-server for each row and, one at a time, the target that is measured; all are gone when it
ends.
"""

from __future__ import annotations

import os
import platform
import resource
import signal
import time
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import attrs
import trio

from bench.crowd import LoadError, Site
from bench.figures import FIGURES
from bench.outcome import REDIS, TARGET
from bench.report import Document, Run, report_row
from bench.schedule import make_schedule
from bench.targets import HOST, TargetError, open_target
from common.embedded import open_embedded_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.outcome import Outcome
    from bench.report import RowReport
    from bench.rows import Contestant, Row
    from bench.schedule import Schedule
    from common.embedded import EmbeddedRedis

_PACKAGES: Final = ("trio", "wsproto", "hiredis", "websockets", "tornado", "trio-websocket", "redis")


async def run(rows: Sequence[Row], say: Callable[[str], None], keep: Callable[[Document], None]) -> Document:
    """Measure; `say` gets lines of progress, and `keep` the document as it is after each row.

    Raises EmbeddedRedisError when there is no Redis, and KeyboardInterrupt on SIGTERM, once the children have ended.
    """
    raise_descriptor_limit()
    started = time.monotonic()
    document = Document(
        started=datetime.now(UTC).isoformat(timespec="seconds"), machine=_machine(), seconds=0.0, rows=[]
    )
    taking_part, missing = _contestants(rows)
    schedule = make_schedule(rows, taking_part)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_interrupt_on_terminate)
        for row, contestants, absent in zip(rows, taking_part, missing, strict=True):
            report = await _measure_row(row, contestants, absent, schedule, say)
            document = attrs.evolve(
                document, rows=[*document.rows, report], seconds=round(time.monotonic() - started, 1)
            )
            keep(document)
        nursery.cancel_scope.cancel()
    return document


def _contestants(rows: Sequence[Row]) -> tuple[list[list[Contestant]], list[dict[str, str]]]:
    """For each row who takes part, and why the others can't."""
    able, missing = [], []
    for row in rows:
        whys = {contestant.label: contestant.target.missing() for contestant in row.contestants}
        able.append([contestant for contestant in row.contestants if whys[contestant.label] is None])
        missing.append({label: why for label, why in whys.items() if why is not None})
    return able, missing


async def _measure_row(
    row: Row,
    contestants: Sequence[Contestant],
    missing: Mapping[str, str],
    schedule: Schedule,
    say: Callable[[str], None],
) -> RowReport:
    """One that fails is left out of the remaining rounds."""
    runs: list[Run] = []
    absent = dict(missing)
    for label, why in missing.items():
        say(f"{row.name} without {label}: {why}")
    async with open_embedded_redis() as redis:
        for number in range(1, row.repeat + 1):
            for contestant in contestants:
                if contestant.label in absent:
                    schedule.skipped()
                    continue
                say(schedule.line())
                begun = time.monotonic()
                try:
                    outcome = await _measure(row, contestant, redis)
                except (TargetError, LoadError) as error:
                    absent[contestant.label] = f"failed in round {number}: {error}"
                    say(f"  {absent[contestant.label]}")
                else:
                    runs.append(Run(contestant.label, number, outcome))
                    _say_outcome(row, outcome, say)
                schedule.done(time.monotonic() - begun)
    return report_row(row, runs, absent)


async def _measure(row: Row, contestant: Contestant, redis: EmbeddedRedis) -> Outcome:
    async with open_target(contestant.target, redis.url(row.database), contestant.settings) as running:
        site = Site(running.address, (HOST, redis.port), {TARGET: running.pid, REDIS: redis.pid})
        return await trio.to_thread.run_sync(partial(row.scenario.measure, site), abandon_on_cancel=True)


def _say_outcome(row: Row, outcome: Outcome, say: Callable[[str], None]) -> None:
    values = outcome.values
    shown = (f"{FIGURES[name].title} {FIGURES[name].text(values[name])}" for name in row.figures if name in values)
    say(f"  {', '.join(shown)}; generator {outcome.generator['cpu']:.0%} of a core")
    for line in (*outcome.marks, *([f"FAULTS: {outcome.faults.describe()}"] if outcome.faults.total else [])):
        say(f"  {line}")


async def _interrupt_on_terminate() -> None:
    """A SIGTERM ends the children in order, as Ctrl-C does."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            raise KeyboardInterrupt


def raise_descriptor_limit() -> None:
    """To what is allowed; children inherit it. A row for which it is not enough fails with the kernel's words."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _machine() -> dict[str, str | float]:
    return {
        "cpus": os.cpu_count() or 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
        "load": round(os.getloadavg()[0], 2),
    }
