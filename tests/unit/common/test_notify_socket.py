"""What the service manager is sent (common/notify), over a socket of its own."""

from __future__ import annotations

import os
import socket
import tempfile
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import pytest
import trio

from common.notify import SEND_TIMEOUT, Notifier
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


NAME: Final = f"\0run-status-{os.getpid()}"
"""An abstract name, which is gone with its socket."""


@asynccontextmanager
async def manager(path: str) -> AsyncIterator[socket.socket]:
    """Its end of the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(path)
        heard.setblocking(False)
        yield heard


def told(heard: socket.socket) -> list[str]:
    """What has come so far."""
    messages: list[str] = []
    while True:
        try:
            messages.append(heard.recv(100).decode())
        except BlockingIOError:
            return messages


async def accompanied(environ: dict[str, str], logbook: Logbook, *, beats: int = 0) -> int:
    """The code of a daemon that is ready at once, and told to end after so many beats of a second."""
    ready, stop = trio.Event(), trio.Event()

    async def run(stop: trio.Event) -> int:
        ready.set()
        await trio.sleep(beats + 0.5)
        stop.set()
        await trio.sleep(0.1)
        return 7

    return await Notifier.of_process(environ, 4711, logbook.log).accompany(run, ready, stop)


@pytest.fixture
def path() -> Iterator[str]:
    """Where a manager may listen: short, for the kernel takes 107 bytes, and the test's directory may be deep."""
    with tempfile.TemporaryDirectory() as directory:
        yield f"{directory}/notify"


@pytest.mark.parametrize("abstract", [False, True])
async def test_all_of_it_arrives(abstract: bool, path: str) -> None:
    logbook, name = Logbook(), NAME if abstract else path
    async with manager(name) as heard:
        environ = {"NOTIFY_SOCKET": name.replace("\0", "@"), "WATCHDOG_USEC": "2000000"}
        assert await accompanied(environ, logbook, beats=2) == 7
        messages = told(heard)
    assert sorted(messages[:2]) == ["READY=1", "WATCHDOG=1"]
    assert messages[2:] == ["WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]
    assert logbook.lines == []


async def test_without_a_manager_the_daemon_runs_as_ever() -> None:
    logbook = Logbook()
    assert await accompanied({}, logbook) == 7
    assert logbook.lines == []


async def test_a_manager_that_is_gone_is_said_once_and_costs_nothing_else() -> None:
    logbook = Logbook()
    environ = {"NOTIFY_SOCKET": "/nonexistent/notify", "WATCHDOG_USEC": "2000000"}
    assert await accompanied(environ, logbook, beats=5) == 7
    [line] = logbook.lines
    assert (line["level"], line["msg"]) == ("warn", "service manager not told")
    assert "No such file" in line["error"]


async def test_one_that_takes_nothing_is_waited_for_without_work_and_said_again_after_it_has_taken() -> None:
    logbook = Logbook()
    notifier = Notifier(NAME, None, logbook.log)
    async with manager(NAME) as heard:
        fill()
        begun = trio.current_time()
        # A wait that were a busy one would never end: while a task can run, no time passes.
        await notifier._say("READY=1")
        assert trio.current_time() - begun == pytest.approx(SEND_TIMEOUT)
        await notifier._say("WATCHDOG=1")
        assert len(logbook.lines) == 1
        told(heard)
        await notifier._say("WATCHDOG=1")
        assert told(heard) == ["WATCHDOG=1"]
        fill()
        await notifier._say("STOPPING=1")
    assert [(line["state"], line["error"]) for line in logbook.lines] == [
        ("READY=1", "it takes nothing"),
        ("STOPPING=1", "it takes nothing"),
    ]


async def test_a_manager_that_was_started_anew_is_told() -> None:
    logbook = Logbook()
    notifier = Notifier(NAME, None, logbook.log)
    for state in ("READY=1", "STOPPING=1"):
        async with manager(NAME) as heard:
            await notifier._say(state)
            assert told(heard) == [state]
    assert logbook.lines == []


def fill() -> None:
    """Send until the manager's queue is full."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
        flood.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                flood.sendto(b"x", NAME)
