"""A worker's process: the daemon's service on inherited sockets, with a parent that it answers to."""

from __future__ import annotations

import math
import os
import socket
from typing import TYPE_CHECKING, Final, TypeVar

import attrs
import trio

from common.admin.probe import Probe
from common.config import Settings
from common.daemon import Daemon, DaemonService
from common.exits import Exit
from common.signals import run_until_told
from common.workers.answers import WorkerAnswers
from common.workers.channel import WorkerChannel
from common.workers.member import Member
from common.workers.orders import heed_orders
from common.workers.questions import Standing

if TYPE_CHECKING:
    from common.logs import Logger
    from common.tracing import Tracer
    from common.workers.inherited import Inherited

S = TypeVar("S", bound=Settings)

INTRODUCTION: Final = 5.0
"""Seconds that a worker waits for its parent's first word before it accepts."""


def shared_out(settings: S, worker: int) -> S:
    """The settings of one worker, numbered from 1: its share of the daemon's limits, never less than 1."""

    def share(limit: int) -> int:
        return max(1, limit // settings.workers + (worker <= limit % settings.workers)) if limit else 0

    return attrs.evolve(
        settings,
        max_connections=share(settings.max_connections),
        max_connections_per_address=share(settings.max_connections_per_address),
    )


async def serve_worker(daemon: Daemon[S], settings: S, inherited: Inherited, tracer: Tracer, log: Logger) -> int:
    """Serve until told to end, or until the parent is gone; return the exit code.

    Signals, however many, are one order to drain; that there is no time for it is the parent's word alone.
    """
    log = log.bind(worker=inherited.worker, pid=os.getpid())
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=inherited.channel)))
    channel = WorkerChannel(stream, log)
    listeners = [socket.socket(fileno=number) for number in inherited.listeners]

    async def run(signalled: trio.Event) -> int:
        stop, ready = trio.Event(), Standing()
        code: int = Exit.FAILED
        member = Member(channel)
        service = DaemonService(
            daemon,
            shared_out(settings, inherited.worker),
            log,
            tracer=tracer,
            fleet=member,
            kept=inherited.kept,
        )
        answers = WorkerAnswers(service.report, Probe(service, daemon.name, str(inherited.worker)), ready)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(member.run, answers.by_name())
            nursery.start_soon(_follow_link, service, ready)

            async def end_at_once() -> None:
                await heed_orders(signalled, member, service.door, stop, log)
                nursery.cancel_scope.cancel()

            nursery.start_soon(end_at_once)
            # Else a successor that is faster than its parent's word would say for all that the daemon is not ready.
            with trio.move_on_after(INTRODUCTION):
                await member.introduced.wait()
            code = await service.run(listeners, stop)
            nursery.cancel_scope.cancel()
        return code

    try:
        return await run_until_told(run, log, impatience=math.inf)
    finally:
        for listener in listeners:
            listener.close()
        await channel.aclose()


async def _follow_link(service: DaemonService[S], ready: Standing) -> None:
    """A worker is ready while its link is online."""
    while True:
        ready.set(service.hub.link.online)
        await service.hub.link_changed.wait()
