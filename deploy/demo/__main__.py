"""The command line of the demo: `python -m deploy.demo [--seconds N] [--sentinel | --cluster]`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Final

import trio

from common.early import ending_signals
from common.embedded import EmbeddedRedisError
from common.foreground import discard_output
from common.watch.show import OutputClosedError
from deploy.demo.backends import Topology
from deploy.demo.daemon_process import ChildError
from deploy.demo.ledger import ChecklistLedger, DemoLedger
from deploy.demo.stage import play

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SIGNAL_DELAY: Final = 1.0
"""Seconds in which a signal that has ended a part of the demo is told to the demo itself."""


def main() -> int:
    """Run the demo; 0 when it ended as asked (by time or by Ctrl-C), 1 when a part failed, a message was lost, or the
    last checklist was not true."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.demo",
        description=(
            "A private redis-server, statusd, preflightd, opsd with its page, a simulated run, and clients that print"
            " what comes."
        ),
    )
    parser.add_argument(
        "--seconds", type=_seconds, metavar="N", help="end by itself after N seconds of publishing (default: Ctrl-C)"
    )
    redis = parser.add_mutually_exclusive_group()
    redis.add_argument(
        "--sentinel",
        dest="topology",
        action="store_const",
        const=Topology.SENTINEL,
        default=Topology.SINGLE,
        help="with a primary and a replica under three sentinels, and a failover while you look",
    )
    redis.add_argument(
        "--cluster",
        dest="topology",
        action="store_const",
        const=Topology.CLUSTER,
        help="with a cluster of three primaries and three replicas, and a failover while you look",
    )
    arguments = parser.parse_args()
    # Python leaves these out where the descriptor is closed, and what is opened next gets its number.
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - a path object is not shorter; it lives as long as we
    if sys.stdout is None:
        print("demo: there is no standard output to show anything on", file=sys.stderr)
        return 1
    return trio.run(_run, arguments.seconds, arguments.topology)


async def _run(seconds: float | None, topology: Topology) -> int:
    ledger, checklist = DemoLedger(), ChecklistLedger()
    trouble: str | None = None
    interrupted = trio.Event()
    with trio.open_signal_receiver(*ending_signals()) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_signal, signals, interrupted, nursery.cancel_scope)
            try:
                await play(ledger, checklist, seconds, topology)
            except (ChildError, EmbeddedRedisError) as error:
                trouble = str(error)
                # Ctrl-C reaches also a part that has just been forked, and has no session of its own yet: it may be
                # gone before we are told.
                with trio.move_on_after(SIGNAL_DELAY):
                    await interrupted.wait()
            except OutputClosedError:
                discard_output()
                # Whoever reads no more has seen enough.
                interrupted.set()
            nursery.cancel_scope.cancel()
    if trouble is not None and not interrupted.is_set():
        print(f"demo: {trouble}", file=sys.stderr)
        return 1
    return _sum_up(ledger, checklist, interrupted.is_set())


def _sum_up(ledger: DemoLedger, checklist: ChecklistLedger, interrupted: bool) -> int:
    print(f"statusd: published {ledger.published}, received {ledger.received}")
    print(f"preflightd: {checklist.writes} writes of the hash, {checklist.frames} frames of the checklist")
    complaints = []
    if ledger.missing:
        complaints.append(f"{ledger.missing} messages were published and not received")
    if not checklist.is_true:
        complaints.append(f"the last checklist is not what the hash says: {checklist.shown}, not {checklist.due}")
    # Interrupted, what was underway had no time to arrive.
    if interrupted or not complaints:
        return 0
    print("\n".join(f"demo: {complaint}" for complaint in complaints), file=sys.stderr)
    return 1


async def _cancel_on_signal(signals: AsyncIterator[int], told: trio.Event, scope: trio.CancelScope) -> None:
    async for _ in signals:
        told.set()
        scope.cancel()


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of seconds")
    return value


if __name__ == "__main__":
    sys.exit(main())
