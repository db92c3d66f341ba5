"""A worker's process: the daemon's service on inherited sockets, with a parent that it answers to."""

from __future__ import annotations

import argparse
import socket
from typing import TYPE_CHECKING, TypeVar

import attrs
import trio

from common.admin.informant import Informant
from common.admin.probe import Probe
from common.admin.roster import worker_id
from common.config import Settings
from common.daemon import Daemon, Service
from common.signals import run_until_told
from common.workers.channel import Channel
from common.workers.member import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from common.exposition import Report
    from common.logs import Logger

S = TypeVar("S", bound=Settings)


@attrs.frozen
class Inherited:
    """What the parent gave: this worker's number, the descriptors of the channel and of the listening sockets."""

    worker: int
    channel: int
    listeners: tuple[int, ...]


def worker_arguments(worker: int, channel: int, listeners: Sequence[int]) -> list[str]:
    """The arguments of the `serve` command that make a process a worker."""
    return [f"--worker={worker}", f"--channel={channel}", f"--listeners={','.join(map(str, listeners))}"]


def add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    """What reads them again. They are not for people, so the help does not show them."""
    parser.add_argument("--worker", type=int, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--channel", type=int, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--listeners", type=_numbers, default=(), help=argparse.SUPPRESS)


def shared_out(settings: S, worker: int) -> S:
    """The settings of one worker: its share of the limits that hold for the daemon, never less than 1."""

    def share(limit: int) -> int:
        return max(1, limit // settings.workers + (worker < limit % settings.workers)) if limit else 0

    return attrs.evolve(
        settings,
        max_connections=share(settings.max_connections),
        max_connections_per_address=share(settings.max_connections_per_address),
    )


async def serve_worker(daemon: Daemon[S], settings: S, inherited: Inherited, log: Logger) -> int:
    """Serve until a signal, or until the parent is gone; return the exit code."""
    log = log.bind(worker=inherited.worker)
    channel = Channel(trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=inherited.channel))))
    listeners = [socket.socket(fileno=number) for number in inherited.listeners]

    async def run(stop: trio.Event) -> int:
        members: list[Member] = []

        def make_fleet(report: Callable[[], Report]) -> Member:
            members.append(Member(channel, report))
            return members[0]

        service = Service(daemon, shared_out(settings, inherited.worker), log, make_fleet=make_fleet)
        (member,) = members
        informant = Informant(channel, Probe(service, daemon.name, worker_id(inherited.worker)), log)
        member.hear_more = informant.hear
        async with trio.open_nursery() as nursery:
            await nursery.start(informant.run)
            nursery.start_soon(member.run)
            nursery.start_soon(_tell_ready, service, member)
            nursery.start_soon(_stop_if_orphaned, member, stop)
            code = await service.run(listeners, stop)
            nursery.cancel_scope.cancel()
        return code

    try:
        return await run_until_told(run, log)
    finally:
        for listener in listeners:
            listener.close()
        await channel.aclose()


async def _tell_ready(service: Service[S], member: Member) -> None:
    """Tell the parent of every change of the link's state."""
    while True:
        changed = service.hub.link_changed
        await member.tell_ready(service.hub.link.online)
        await changed.wait()


async def _stop_if_orphaned(member: Member, stop: trio.Event) -> None:
    await member.orphaned.wait()
    stop.set()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))
