"""Starting a worker's process (common/workers/spawn.py): what it is given, and what is left when it can't start."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Final

import pytest
import trio

from common.workers.questions import BEAT
from common.workers.spawn import Spawner
from tests.support.logbook import Logbook
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real_time

WORKER: Final = """
import json, os, socket, sys
given = dict(argument.removeprefix("--").partition("=")[::2] for argument in sys.argv[1:])
channel = socket.socket(fileno=int(given["channel"]))
listener = socket.socket(fileno=int(given["listeners"]))
with open(os.environ["TELL"], "w") as told:
    json.dump([given["worker"], "kept" in given, listener.getsockname()[1], sys.stdin.read()], told)
question = json.loads(channel.makefile("r").readline())
channel.sendall(json.dumps({"answer": question["ask"], "value": None}).encode() + b"\\n")
sys.exit(3)
"""


@pytest.mark.parametrize("kept", [False, True])
async def test_a_worker_has_the_sockets_its_number_and_a_way_to_its_parent(kept: bool, tmp_path: Path) -> None:
    tell = tmp_path / "told"
    log = Logbook().log
    with socket.create_server(("127.0.0.1", 0)) as listener, trio.fail_after(PATIENCE):
        port = listener.getsockname()[1]
        spawn = Spawner([sys.executable, "-I", "-S", "-c", WORKER], {"TELL": str(tell)}, [listener], log, kept)
        process, channel = await spawn(4)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.run, {})
            await channel.ask(BEAT)
            assert await process.wait() == 3
            nursery.cancel_scope.cancel()
        await channel.aclose()
    assert tell.read_text() == f'["4", {"true" if kept else "false"}, {port}, ""]'


async def test_what_can_not_be_started_leaves_no_socket_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list[socket.socket] = []

    def pair() -> tuple[socket.socket, socket.socket]:
        pairs.extend(made := make_pair())
        return made

    make_pair = socket.socketpair
    monkeypatch.setattr("common.workers.spawn.socket.socketpair", pair)
    with pytest.raises(FileNotFoundError):
        await Spawner([str(tmp_path / "none")], {}, [], Logbook().log)(1)
    assert [end.fileno() for end in pairs[:2]] == [-1, -1]
