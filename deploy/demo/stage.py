"""The demo's play: everything started in order, watched while it runs, and ended in order.

redis-server, then statusd, then the client, then the simulated run; the other way round at the end. Nothing of it
outlives `play`, however that ends.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import redis
import trio
from redis.backoff import NoBackoff
from redis.retry import Retry

from common.embedded import open_embedded_redis
from common.watch.client import Note, OutputClosedError, watch
from common.watch.words import socket_url
from deploy.demo.simulated_run import simulated_runs
from deploy.demo.statusd_process import HOST, USUAL_PORT, ChildError, StatusdProcess, choose_port, open_statusd
from statusd.view import open_status_view

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from common.watch.client import Show
    from deploy.demo.ledger import Ledger
    from deploy.demo.simulated_run import Published

TOPIC: Final = "demo-run;;disturbed;;_base:wepp"
DATABASE: Final = 2
SEED: Final = 9002

CONNECT_TIMEOUT: Final = 10.0
"""Seconds until our client's socket is open."""

ARRIVAL_TIMEOUT: Final = 3.0
"""Seconds that the last messages may take to arrive, once nothing is published any more."""

REDIS_TIMEOUT: Final = 2.0
"""Seconds for one publish."""


async def play(ledger: Ledger, seconds: float | None) -> None:
    """Run the demo for `seconds`, or until it is cancelled, counting in `ledger`.

    Raises ChildError or EmbeddedRedisError, with a line for the user, when a part of it fails; OutputClosedError when
    nobody reads what it prints.
    """
    port = choose_port()
    with tempfile.TemporaryDirectory(prefix="statusd-demo-") as directory:
        log = Path(directory) / "statusd.log"
        async with open_embedded_redis() as server, open_statusd(server.url(DATABASE), port, log) as statusd:
            _say("\n".join(programme(port, server.port, log)))
            with open_status_view(sys.stdout, sys.stderr) as show:
                await _perform(_Witness(show, ledger), statusd, server.url(DATABASE), seconds)


def programme(port: int, redis_port: int, log: Path) -> Iterable[str]:
    """What is said before the play starts."""
    url = f"ws://{HOST}:{port}"
    yield "A demo of statusd: a simulated hydrology run publishes to Redis, statusd forwards it, and the client below"
    yield "prints what arrives on a real WebSocket. Ctrl-C ends all of it."
    yield ""
    if port != USUAL_PORT:
        yield f"Port {USUAL_PORT} is taken by another process: statusd serves on port {port} instead."
    yield f"  socket   {socket_url(url, TOPIC)}"
    yield f"  log      {log} (until the demo ends)"
    yield ""
    yield "Try in a second terminal:"
    yield f"  {_publish_command(redis_port)}"
    yield f"  {_python()} -m statusd watch {url} '{TOPIC}'"
    yield ""


@attrs.define
class _Witness:
    """The client's show, with a count of what it was shown."""

    show: Show
    ledger: Ledger
    connected: trio.Event = attrs.field(factory=trio.Event, init=False)
    _arrival: trio.Event = attrs.field(factory=trio.Event, init=False)
    """Set by the next frame."""

    def frame(self, frame: Mapping[str, object]) -> None:
        if frame.get("type") == "status" and isinstance(data := frame.get("data"), str):
            self.ledger.receive(data)
        self.show.frame(frame)
        self._arrival.set()

    def notice(self, note: Note, text: str) -> None:
        if note is Note.CONNECTED:
            self.connected.set()
        self.show.notice(note, text)

    async def wait_all_received(self) -> None:
        while self.ledger.missing:
            self._arrival = trio.Event()
            await self._arrival.wait()


async def _perform(witness: _Witness, statusd: StatusdProcess, redis_url: str, seconds: float | None) -> None:
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(statusd.watch_over)
            nursery.start_soon(_watch, statusd.port, witness)
            with trio.move_on_after(CONNECT_TIMEOUT) as patience:
                await witness.connected.wait()
            if patience.cancelled_caught:
                raise ChildError(f"the client did not connect within {CONNECT_TIMEOUT:g} s")
            with trio.move_on_after(float("inf") if seconds is None else seconds):
                await _publish(redis_url, simulated_runs(random.Random(SEED)), witness.ledger)
            with trio.move_on_after(ARRIVAL_TIMEOUT):
                await witness.wait_all_received()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # One line for the user, as if there were no nursery: the first failure is the one that ended the others.
        raise _first(group) from None


async def _watch(port: int, witness: _Witness) -> None:
    await watch(f"ws://{HOST}:{port}", TOPIC, witness)
    raise ChildError("statusd refused our client")


async def _publish(redis_url: str, messages: Iterable[Published], ledger: Ledger) -> None:
    # No retries: this server is our own, and when it is gone the demo is over.
    client = redis.Redis.from_url(redis_url, socket_timeout=REDIS_TIMEOUT, retry=Retry(NoBackoff(), 0))
    try:
        for message in messages:
            await trio.sleep(message.delay)
            ledger.publish(message.data)
            await trio.to_thread.run_sync(client.publish, TOPIC, message.data)
    except redis.RedisError as error:
        raise ChildError(f"the private redis-server ended unexpectedly: {error}") from None
    finally:
        client.close()


def _publish_command(port: int) -> str:
    if shutil.which("redis-cli"):
        return f"redis-cli -p {port} -n {DATABASE} publish '{TOPIC}' 'hello'"
    code = f"import redis; redis.Redis(port={port}, db={DATABASE}).publish('{TOPIC}', 'hello')"
    return f'{_python()} -c "{code}"'


def _python() -> str:
    """This interpreter, as short as a shell in this directory understands it."""
    here = f"{Path.cwd()}{os.sep}"
    return shlex.quote(sys.executable.removeprefix(here))


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError as error:
        raise OutputClosedError(str(error)) from error
