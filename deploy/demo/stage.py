"""The demo's play: everything started in order, watched while it runs, and ended in order.

Redis, then statusd and preflightd, then opsd, which watches them, then clients, then the simulated run; the other way
round at the end. Nothing of it outlives `play`, however that ends.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import redis
import trio

from common.daemons import OPS, PREFLIGHT, STATUS
from common.watch.client import watch
from common.watch.show import OutputClosedError
from common.watch.words import socket_url
from deploy.demo.backends import REDIS_TIMEOUT, hand_over, open_backend
from deploy.demo.daemon_process import ChildError, DaemonProcess, open_daemon
from deploy.demo.shell import python
from deploy.demo.simulated_run import Published, simulated_run
from deploy.demo.witness import MARK, checklist_witness, status_witness
from preflightd.checklist import packaged
from statusd.watch import open_status_view

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from common.daemons import KnownDaemon
    from common.watch.view import View
    from deploy.demo.backends import Backend, Client, Successor, Topology
    from deploy.demo.ledger import ChecklistLedger, DemoLedger
    from deploy.demo.witness import Witness

RUN_ID: Final = "demo-run;;disturbed;;_base"
TOPIC: Final = f"{RUN_ID}:wepp"
SEED: Final = 9002

# None of these is met unless something is broken, on however slow a machine: a demo that is late has lost nothing.

CONNECT_TIMEOUT: Final = 120.0
"""Seconds until our clients' sockets are open."""

ARRIVAL_TIMEOUT: Final = 60.0
"""Seconds that the last messages may take to arrive, once nothing is published any more."""

FIRST_HANDOVER: Final = 4.0
"""Seconds after which a primary's part is handed over for the first time, where there is somebody to hand it to."""

NEXT_HANDOVER: Final = 30.0
"""Seconds between one handover and the next. A former primary is told by its sentinels after ten that it is one."""

PATIENCE: Final = {
    "HANDSHAKE_TIMEOUT": "60s",
    "PONG_TIMEOUT": "10m",
    "REDIS_CONNECT_TIMEOUT": "60s",
    "REDIS_REQUEST_TIMEOUT": "60s",
    "WRITE_TIMEOUT": "60s",
}
"""That of the daemons that carry what is counted: a link that they give up loses messages (SPEC 1)."""

SILENCE: Final = 600.0
"""Seconds without a frame until a client gives its connection up: also a demo that was suspended goes on."""

LONGEST_PATH: Final = 100
"""Bytes of a socket's path; the systems' own limits are 103 and 107."""

SHORT_PARENT: Final = "/tmp"  # noqa: S108 - a directory in it is made as safely as in the usual place


async def play(ledger: DemoLedger, checklist: ChecklistLedger, seconds: float | None, topology: Topology) -> None:
    """Run the demo for `seconds`, or until it is cancelled, counting in `ledger` and `checklist`.

    Raises ChildError or EmbeddedRedisError, with a line for the user, when a part of it fails; OutputClosedError when
    nobody reads what it prints.
    """
    with _open_directory() as directory:
        async with (
            open_backend(topology) as backend,
            open_daemon(STATUS, backend, directory, _watched(STATUS, directory)) as statusd,
            open_daemon(PREFLIGHT, backend, directory, _watched(PREFLIGHT, directory)) as preflightd,
            open_daemon(OPS, backend, directory, _watching(statusd, preflightd, directory)) as opsd,
        ):
            _say("\n".join(programme(statusd, preflightd, opsd, backend, await backend.introduce())))
            with open_status_view(sys.stdout, sys.stderr) as view, _open_client(backend) as run:
                await _perform(
                    _Cast(statusd, preflightd, opsd, view, ledger, checklist, backend.successor), run, seconds
                )


def _watched(known: KnownDaemon, directory: Path) -> Mapping[str, str]:
    """The settings of a daemon that opsd watches: its operator's listener, and an end that nobody waits for long."""
    return {**PATIENCE, "ADMIN_LISTEN_ADDR": f"unix:{_socket(known, directory)}", "DRAIN_TIMEOUT": "2s"}


def _watching(statusd: DaemonProcess, preflightd: DaemonProcess, directory: Path) -> Mapping[str, str]:
    """The settings of opsd: whom it watches, and where a browser finds them."""
    return {
        "TARGETS": ",".join(f"{known.name}=unix:{_socket(known, directory)}" for known in (STATUS, PREFLIGHT)),
        "STATUS_WS_URL": statusd.url,
        "PREFLIGHT_WS_URL": preflightd.url,
    }


def _socket(known: KnownDaemon, directory: Path) -> Path:
    """Of a daemon's operator's listener."""
    return directory / f"{known.name}.sock"


def run_page(opsd: DaemonProcess) -> str:
    """The address of opsd's page that opens on the run."""
    return f"{opsd.page}#run={TOPIC}"


def programme(
    statusd: DaemonProcess, preflightd: DaemonProcess, opsd: DaemonProcess, backend: Backend, introduction: str
) -> Iterable[str]:
    """What is said before the play starts."""
    yield f"Open {run_page(opsd)}"
    yield "to see a run move, and how the daemons are."
    yield ""
    yield "A simulated hydrology run publishes to Redis and writes to its hash there, the daemons forward it, and two"
    yield "clients print below what arrives on real WebSockets: the run's messages and, marked"
    yield f"{MARK}, what changes in the checklist. Ctrl-C ends all of it."
    yield ""
    if introduction:
        yield introduction
        yield f"After {FIRST_HANDOVER:g} s, and then every {NEXT_HANDOVER:g} s, the run's primary hands over to a"
        yield "replica, and the run says so."
        yield ""
    for daemon, address in (
        (statusd, socket_url(statusd.url, TOPIC)),
        (preflightd, socket_url(preflightd.url, RUN_ID)),
        (opsd, run_page(opsd)),
    ):
        known = daemon.known
        if daemon.port != known.port:
            yield (f"Port {known.port} is taken by another process: {known.name} serves on port {daemon.port} instead.")
        yield f"  {known.name:<10}  {address}"
        yield f"  {'its log':<10}  {daemon.log} (until the demo ends)"
    yield ""
    yield "Try in a second terminal:"
    yield f"  {backend.command(STATUS.database, 'publish', TOPIC, 'hello')}"
    yield f"  {python()} -m statusd watch {statusd.url} '{TOPIC}'"
    yield f"  {backend.command(PREFLIGHT.database, 'hset', RUN_ID, 'locked:by-you', 'true')}"
    yield f"  {python()} -m preflightd watch {preflightd.url} '{RUN_ID}'"
    yield ""


@attrs.frozen
class _Cast:
    """Who plays."""

    statusd: DaemonProcess
    preflightd: DaemonProcess
    opsd: DaemonProcess
    view: View
    ledger: DemoLedger
    checklist: ChecklistLedger
    successor: Successor | None
    pen: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    """Of who writes to Redis: nobody does who must not."""


async def _perform(cast: _Cast, client: Client, seconds: float | None) -> None:
    lines = status_witness(cast.view, cast.ledger)
    steps = checklist_witness(cast.view, cast.checklist)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, cast.statusd, TOPIC, lines)
            nursery.start_soon(_watch, cast.preflightd, RUN_ID, steps)
            for daemon in (cast.statusd, cast.preflightd, cast.opsd):
                nursery.start_soon(daemon.watch_over)
            with trio.move_on_after(CONNECT_TIMEOUT) as patience:
                await lines.connected.wait()
                await steps.connected.wait()
            if patience.cancelled_caught:
                raise ChildError(f"the clients did not connect within {CONNECT_TIMEOUT:g} s")
            with trio.move_on_after(float("inf") if seconds is None else seconds):
                async with trio.open_nursery() as acts:
                    if cast.successor is not None:
                        acts.start_soon(_hand_over_now_and_then, client, cast, cast.successor)
                    acts.start_soon(_run_again_and_again, client, cast)
            with trio.move_on_after(ARRIVAL_TIMEOUT):
                await lines.wait_until(lambda: not cast.ledger.missing)
                cast.checklist.due = await _due(client)
                await steps.wait_until(lambda: cast.checklist.is_true)
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # One line for the user, as if there were no nursery: the first failure is the one that ended the others.
        raise _first(group) from None


async def _watch(daemon: DaemonProcess, path: str, witness: Witness) -> None:
    await watch(daemon.url, path, witness, lossy=daemon.known is STATUS, silence=SILENCE)
    raise ChildError(f"{daemon.known.name} refused our client")


async def _run_again_and_again(client: Client, cast: _Cast) -> None:
    """Run after run of one project. After each its page is named: what was said first has scrolled away by then."""
    rng = random.Random(SEED)
    for number in count(1):
        await _publish(client, simulated_run(rng, number), cast)
        cast.view.line(f"-- this run on a page: {run_page(cast.opsd)} --", "bold green")


async def _hand_over_now_and_then(client: Client, cast: _Cast, successor: Successor) -> None:
    """What else happens to the run: said on the terminal and, in its own channel, on the page."""
    await trio.sleep(FIRST_HANDOVER)
    while True:
        await _tell(client, cast, f"-- failover: {await successor.primary(RUN_ID)} hands over to a replica --")
        if successor.holds:
            async with cast.pen:
                done = await hand_over(successor, client, RUN_ID, TOPIC)
        else:
            done = await hand_over(successor, client, RUN_ID, TOPIC)
        if done is None:
            raise ChildError("a primary's part was not handed over")
        await _tell(client, cast, f"-- failover: {done.new} is the primary, {done.seconds:.1f} s later --")
        await trio.sleep(NEXT_HANDOVER)


async def _tell(client: Client, cast: _Cast, text: str) -> None:
    await _publish(client, [Published(0.0, text)], cast)


async def _publish(client: Client, messages: Iterable[Published], cast: _Cast) -> None:
    for message in messages:
        await trio.sleep(message.delay)
        async with cast.pen:
            # What is counted is sent, also when the time is up at this very moment.
            with _redis_errors(), trio.move_on_after(2 * REDIS_TIMEOUT, shield=True):
                cast.ledger.publish(message.data)
                cast.checklist.writes += bool(message.fields or message.done)
                await trio.to_thread.run_sync(_send, client, message)


def _send(client: Client, message: Published) -> None:
    if written := message.written(time.time()):
        client.hset(RUN_ID, items=[part for field in written.items() for part in field])
    # Of whichever database: a channel belongs to the whole server.
    client.publish(TOPIC, message.data)


async def _due(client: Client) -> Mapping[str, object]:
    """The frame that preflightd's client has to have, as the hash is now."""
    with _redis_errors():
        content = packaged().evaluate(await trio.to_thread.run_sync(_read, client)).content()
    return {"type": "preflight"} | {key: value for key, value in content.items() if value is not None}


def _read(client: Client) -> Mapping[bytes, bytes]:
    fields = client.hgetall(RUN_ID).items()
    return {field: value for field, value in fields if isinstance(field, bytes) and isinstance(value, bytes)}


@contextmanager
def _open_directory() -> Iterator[Path]:
    """For logs and sockets: in the usual place, elsewhere when paths there are too long for sockets.

    Raises ChildError when this machine has no place for it.
    """
    for parent in (None, SHORT_PARENT):
        try:
            holder = tempfile.TemporaryDirectory(prefix="daemons-demo-", dir=parent)
        except OSError as error:
            raise ChildError(f"no temporary directory can be made: {error}") from None
        with holder as name:
            directory = Path(name)
            if all(len(os.fsencode(_socket(known, directory))) <= LONGEST_PATH for known in (STATUS, PREFLIGHT)):
                yield directory
                return


@contextmanager
def _open_client(backend: Backend) -> Iterator[Client]:
    client = backend.open_client(PREFLIGHT.database)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _redis_errors() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise ChildError(f"the private redis-server ended unexpectedly: {error}") from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError as error:
        raise OutputClosedError(str(error)) from error
