"""What the rows share: their options, the rounds in which the targets take turns, the JSON document and the table.

`main` owns a private redis-server for all runs and, one at a time, the target that is measured; all are gone when it
ends.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import signal
import sys
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, NoReturn

import attrs
import trio

from bench.load import Load, LoadError, run_load
from bench.report import REDIS, TARGET, format_table, make_report, summarize
from bench.targets import HOST, TargetError, open_target
from common.embedded import EmbeddedRedisError, open_embedded_redis

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from bench.feed import Feed
    from bench.report import Report, Run
    from bench.targets import Target
    from common.embedded import EmbeddedRedis

_SPARE_DESCRIPTORS: Final = 100

OK, FAULTS, NO_RESULT, INTERRUPTED = 0, 1, 2, 130


@attrs.frozen(kw_only=True)
class Shape:
    """The options that every row has. Durations are seconds, `rate` is writes a second."""

    clients: int
    rate: float
    seconds: float
    warmup: float
    grace: float
    repeat: int

    @property
    def writes(self) -> float:
        """About how many there will be."""
        return self.rate * (self.warmup + self.seconds)


@attrs.frozen(kw_only=True)
class Row:
    """One kind of measure: the first of `targets` is the subject, the others are what it is compared with."""

    name: str
    targets: Sequence[Target]
    database: int
    feed: Feed
    shape: Shape
    parameters: Mapping[str, float]
    """What of the command line goes into the document."""


def main(row: Row) -> NoReturn:
    """Measure and print. Exit status: 0; 1 when clients did not get what they must, or a connection ended; 2 without a
    result."""
    machine = _machine()
    _raise_descriptor_limit(row.shape.clients)
    status = NO_RESULT
    try:
        report = trio.run(_run, row, machine)
    except* (EmbeddedRedisError, TargetError, LoadError) as group:
        _say(f"no result: {'; '.join(str(error) for error in group.exceptions)}")
    except* KeyboardInterrupt:
        status = INTERRUPTED
    else:
        json.dump(attrs.asdict(report, value_serializer=_rounded), sys.stdout, indent=2)
        print()
        _say(format_table(report))
        status = FAULTS if any(run.faults.total for run in report.runs) else OK
    sys.exit(status)


def add_shape_arguments(parser: argparse.ArgumentParser, *, clients: int, rate: float) -> None:
    """The options of `Shape`; `clients` and `rate` are the row's own defaults."""
    parser.add_argument("--clients", type=int, default=clients, help="at the same time (%(default)s)")
    parser.add_argument("--rate", type=float, default=rate, help="writes to Redis a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="measured in each run (%(default)s)")
    parser.add_argument("--warmup", type=float, default=2, help="seconds before them (%(default)s)")
    parser.add_argument("--grace", type=float, default=5, help="seconds after which a frame is lost (%(default)s)")
    parser.add_argument(
        "--repeat", type=int, default=3, help="rounds, in each of which every target runs (%(default)s)"
    )


def check_shape(parser: argparse.ArgumentParser, shape: Shape) -> None:
    """Exits with status 2 and a line on standard error when it makes no sense."""
    if min(shape.clients, shape.rate, shape.seconds, shape.repeat) <= 0 or min(shape.warmup, shape.grace) < 0:
        parser.error("clients, rate, seconds and repeat must be positive, warmup and grace not negative")


async def _run(row: Row, machine: Mapping[str, str | float]) -> Report:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_interrupt_on_terminate)
        async with open_embedded_redis() as redis:
            runs = await _measure(row, redis)
        nursery.cancel_scope.cancel()
    return make_report(row.name, runs, parameters=row.parameters, machine=machine)


async def _interrupt_on_terminate() -> None:
    """A SIGTERM ends the children in order, as Ctrl-C does."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            raise KeyboardInterrupt


async def _measure(row: Row, redis: EmbeddedRedis) -> list[Run]:
    shape = row.shape
    runs = []
    for number in range(1, shape.repeat + 1):
        for target in row.targets:
            _say(f"round {number} of {shape.repeat}: {target.name}, {shape.warmup + shape.seconds:g} s")
            run = await _measure_once(target, number, row, redis)
            _say(
                f"  {run.cpu_us.total:.1f} µs CPU a message ({run.cpu_us.redis:.1f} of it Redis),"
                f" p50 {run.latency_ms.p50:.2f} p99 {run.latency_ms.p99:.2f} max {run.latency_ms.max:.2f} ms,"
                f" generator {run.generator.cpu:.0%} of a core"
            )
            for line in (*run.marks, *([run.faults.describe()] if run.faults.total else [])):
                _say(f"  {line}")
            runs.append(run)
    return runs


async def _measure_once(target: Target, number: int, row: Row, redis: EmbeddedRedis) -> Run:
    async with open_target(target, redis.url(row.database)) as running:
        load = Load(
            server=running.address,
            redis=(HOST, redis.port),
            feed=row.feed,
            clients=row.shape.clients,
            rate=row.shape.rate,
            warmup=row.shape.warmup,
            seconds=row.shape.seconds,
            grace=row.shape.grace,
        )
        watched = {TARGET: running.pid, REDIS: redis.pid}
        result = await trio.to_thread.run_sync(partial(run_load, load, watched), abandon_on_cancel=True)
    if not result.delivered:
        raise LoadError(f"{target.name} delivered nothing: {result.faults.describe()}")
    return summarize(target.name, number, result)


def _raise_descriptor_limit(clients: int) -> None:
    """Children inherit it. Exits when even the hard limit is too low for the clients asked for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < clients + _SPARE_DESCRIPTORS:
        _say(f"no result: {clients} clients need more than the {hard} files that may be open")
        sys.exit(NO_RESULT)


def _machine() -> dict[str, str | float]:
    return {
        "cpus": os.cpu_count() or 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "trio": version("trio"),
        "trio-websocket": version("trio-websocket"),
        "load_average": os.getloadavg()[0],
    }


def _rounded(_instance: object, _field: object, value: object) -> object:
    """More digits than the clocks have would only be noise in the document."""
    return round(value, 4) if isinstance(value, float) else value


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
