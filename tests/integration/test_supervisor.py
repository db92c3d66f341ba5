"""The parent of several workers and real processes: how they are started, and what they inherit (SPEC 2, WORKERS)."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from common.workers.desk import Desk
from common.workers.spawn import Spawner
from common.workers.supervisor import Supervisor
from tests.support.logbook import Logbook
from tests.support.raw import HOST, PATIENCE, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

STILL = "import time; time.sleep(600)"
TELLS = """
import json, os, socket, sys
options = dict(word.removeprefix("--").split("=") for word in sys.argv[1:])
channel = socket.socket(fileno=int(options["channel"]))
listener = socket.socket(fileno=int(options["listeners"]))
open(os.environ["NOTE"], "a").write(f"{listener.getsockname()[1]} {os.fstat(0).st_rdev}\\n")
for line in channel.makefile("rb"):
    message = json.loads(line)
    if message.get("order") == "drain":
        break
    if message.get("what") != "ready" or message["of"] is None:
        answer = {"answer": message["ask"], "value": message["what"] == "ready"}
        channel.sendall(json.dumps(answer).encode() + b"\\n")
"""


def supervisor(program: str, logbook: Logbook, *listeners: socket.socket, note: str = "") -> Supervisor:
    """A supervisor whose two workers run this program."""
    spawn = Spawner([sys.executable, "-c", program], os.environ | {"NOTE": note}, listeners, logbook.log)
    return Supervisor(spawn, 2, PATIENCE, logbook.log, Desk())


async def test_a_stop_while_the_workers_are_still_starting_is_a_clean_end() -> None:
    stop, logbook = trio.Event(), Logbook()
    crew = supervisor(STILL, logbook)
    codes: list[int] = []

    async def run() -> None:
        codes.append(await crew.run(stop))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await wait_until(lambda: len(crew._workers) == 2, "both are on their way")
            stop.set()
    assert (codes, logbook.at_least("warn", "error")) == ([0], [])


async def test_workers_inherit_the_port_and_a_channel_and_no_standard_input(tmp_path: Path) -> None:
    stop, logbook, note = trio.Event(), Logbook(), tmp_path / "note"
    codes: list[int] = []
    with socket.create_server((HOST, 0)) as listener:
        crew = supervisor(TELLS, logbook, listener, note=str(note))

        async def run() -> None:
            codes.append(await crew.run(stop))

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
                await wait_until(lambda: bool(logbook.said("all workers ready")), "both are ready")
                await wait_until(lambda: note.exists() and note.read_text().count("\n") == 2, "both have looked")
                stop.set()
        expected = f"{listener.getsockname()[1]} {os.stat(os.devnull).st_rdev}"  # noqa: PTH116 - a device
    assert note.read_text().splitlines() == [expected, expected]
    assert (codes, logbook.at_least("warn", "error")) == ([0], [])
