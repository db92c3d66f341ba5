"""The parent of several workers, with processes that do what the test says (SPEC 2, WORKERS; SPEC 6)."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable

import pytest
import trio

from common.workers.supervisor import Supervisor
from tests.support.logbook import Logbook

pytestmark = pytest.mark.integration

Spawn = Callable[..., Awaitable[trio.Process]]
STILL = "import time; time.sleep(60)"
READY = (
    "import socket, sys; s = socket.socket(fileno=int(sys.argv[2].split('=')[1])); s.sendall(b'{\"ready\":true}\\n'); "
)


def supervisor(program: str, logbook: Logbook, *, count: int = 2) -> Supervisor:
    """A supervisor whose workers run this program."""
    return Supervisor([sys.executable, "-c", program], dict(os.environ), [], count, 5.0, logbook.log)


async def code_of(run: Callable[[trio.Event], Awaitable[int]], stop: trio.Event) -> int:
    """Run the supervisor to its end."""
    with trio.fail_after(20):
        return await run(stop)


async def test_a_stop_while_the_workers_are_still_starting_is_a_clean_end() -> None:
    stop = trio.Event()
    stop.set()
    assert await code_of(supervisor(STILL, Logbook()).run, stop) == 0


async def test_a_worker_that_is_on_its_way_when_the_stop_comes_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = trio.Event()
    spawn: Spawn = trio.lowlevel.open_process

    async def slowly(*args: object, **options: object) -> trio.Process:
        stop.set()
        await trio.sleep(0.3)
        return await spawn(*args, **options)

    monkeypatch.setattr(trio.lowlevel, "open_process", slowly)
    started = trio.current_time()
    assert await code_of(supervisor(STILL, Logbook()).run, stop) == 0
    assert trio.current_time() - started < 4


async def test_a_successor_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, calls = trio.Event(), 0
    spawn: Spawn = trio.lowlevel.open_process

    async def failing_once(*args: object, **options: object) -> trio.Process:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise BlockingIOError("Resource temporarily unavailable")
        if calls == 3:
            stop.set()
        return await spawn(*args, **options)

    monkeypatch.setattr(trio.lowlevel, "open_process", failing_once)
    logbook = Logbook()
    program = READY + "import time; time.sleep(0.3); sys.exit(3)"
    await code_of(supervisor(program, logbook, count=1).run, stop)
    assert [line["msg"] for line in logbook.at_least("error")][:3] == [
        "worker died",
        "worker not started",
        "worker died",
    ]
    assert calls == 3
