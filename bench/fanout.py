"""The fan-out row: N clients on one channel, so many messages a second, the daemon and its peers in turn.

`python -m bench.fanout` prints one JSON document on standard output; progress and a table go to standard error. It
owns a private redis-server for all runs and, one at a time, the target that is measured; all are gone when it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import sys
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import attrs
import trio

from bench.ledger import LARGEST_COUNT, SMALLEST_SIZE
from bench.load import Load, LoadError, run_load
from bench.report import REDIS, TARGET, format_table, make_report, summarize
from bench.targets import HOST, TARGETS, TargetError, open_target
from common.embedded import EmbeddedRedisError, open_embedded_redis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.report import Report, Run
    from bench.targets import Target
    from common.embedded import EmbeddedRedis

CHANNEL: Final = "bench;;fanout;;_base:wepp"
"""A composite run id, as the platform's are."""
_DATABASE: Final = 2
_SPARE_DESCRIPTORS: Final = 100

OK, FAULTS, NO_RESULT, INTERRUPTED = 0, 1, 2, 130


@attrs.frozen
class Options:
    """The command line. Durations are seconds, `rate` is messages a second, `size` the bytes of a payload."""

    subject: str
    against: Sequence[str]
    clients: int
    rate: float
    size: int
    seconds: float
    warmup: float
    grace: float
    repeat: int

    def targets(self) -> list[Target]:
        """The subject first, then its peers."""
        return [TARGETS[name] for name in (self.subject, *self.against)]


def main() -> None:
    """Exit status: 0; 1 when a message was lost, repeated or altered, or a connection ended; 2 without a result."""
    options = parse_options(sys.argv[1:])
    machine = _machine()
    _raise_descriptor_limit(options.clients)
    status = NO_RESULT
    try:
        report = trio.run(_run, options, machine)
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


def parse_options(arguments: Sequence[str]) -> Options:
    """Exits with status 2 and a line on standard error when they make no sense."""
    parser = argparse.ArgumentParser(prog="python -m bench.fanout", description=__doc__.partition("\n")[0])
    parser.add_argument("--subject", default="statusd", choices=TARGETS, help="what is measured (%(default)s)")
    parser.add_argument(
        "--against",
        action="append",
        choices=[*TARGETS, "none"],
        metavar="PEER",
        help=f"what it is compared with, again for several: {', '.join(TARGETS)} or none (trio_websocket)",
    )
    parser.add_argument("--clients", type=int, default=300, help="on one channel (%(default)s)")
    parser.add_argument("--rate", type=float, default=10, help="messages a second (%(default)s)")
    parser.add_argument("--size", type=int, default=100, help="bytes of a message (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="measured in each run (%(default)s)")
    parser.add_argument("--warmup", type=float, default=2, help="seconds before them (%(default)s)")
    parser.add_argument("--grace", type=float, default=5, help="seconds after which a message is lost (%(default)s)")
    parser.add_argument(
        "--repeat", type=int, default=3, help="rounds, in each of which every target runs (%(default)s)"
    )
    given = parser.parse_args(arguments)
    against = [name for name in given.against or ["trio_websocket"] if name != "none"]
    options = Options(**vars(given) | {"against": against})
    if len({options.subject, *against}) != len(against) + 1:
        parser.error("a target can't be compared with itself, or twice with another")
    if (
        min(options.clients, options.rate, options.seconds, options.repeat) <= 0
        or min(options.warmup, options.grace) < 0
    ):
        parser.error("clients, rate, seconds and repeat must be positive, warmup and grace not negative")
    if options.size < SMALLEST_SIZE or options.rate * (options.warmup + options.seconds) >= LARGEST_COUNT:
        parser.error(f"messages have at least {SMALLEST_SIZE} bytes, and there are fewer than {LARGEST_COUNT}")
    return options


async def _run(options: Options, machine: Mapping[str, str | float]) -> Report:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_interrupt_on_terminate)
        async with open_embedded_redis() as redis:
            runs = await _measure(options, redis)
        nursery.cancel_scope.cancel()
    parameters = attrs.asdict(options, filter=lambda field, _: field.name not in ("subject", "against"))
    return make_report("fanout", runs, parameters=parameters, machine=machine)


async def _interrupt_on_terminate() -> None:
    """A SIGTERM ends the children in order, as Ctrl-C does."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            raise KeyboardInterrupt


async def _measure(options: Options, redis: EmbeddedRedis) -> list[Run]:
    runs = []
    for number in range(1, options.repeat + 1):
        for target in options.targets():
            _say(f"round {number} of {options.repeat}: {target.name}, {options.warmup + options.seconds:g} s")
            run = await _measure_once(target, number, options, redis)
            _say(
                f"  {run.cpu_us.total:.1f} µs CPU a message ({run.cpu_us.redis:.1f} of it Redis),"
                f" p50 {run.latency_ms.p50:.2f} p99 {run.latency_ms.p99:.2f} max {run.latency_ms.max:.2f} ms,"
                f" generator {run.generator.cpu:.0%} of a core"
            )
            for line in (*run.marks, *([run.faults.describe()] if run.faults.total else [])):
                _say(f"  {line}")
            runs.append(run)
    return runs


async def _measure_once(target: Target, number: int, options: Options, redis: EmbeddedRedis) -> Run:
    async with open_target(target, redis.url(_DATABASE)) as running:
        load = Load(
            server=running.address,
            redis=(HOST, redis.port),
            channel=CHANNEL,
            clients=options.clients,
            rate=options.rate,
            size=options.size,
            warmup=options.warmup,
            seconds=options.seconds,
            grace=options.grace,
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


if __name__ == "__main__":
    main()
