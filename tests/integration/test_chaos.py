"""A short run of the chaos tool, with acts that are always the same: real processes and sockets, and balanced books."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import pytest
import trio

from bench.chaos.faults import CLIENT_WAY, PROCESS, REDIS, REDIS_WAY, Fault
from bench.chaos.play import Play
from bench.chaos.programme import Size
from bench.chaos.schedule import Act, draw
from bench.verdicts import render
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.integration,
    pytest.mark.sensitive,
    pytest.mark.skipif(sys.platform != "linux", reason="limits of other processes, and /proc: Linux"),
]

ACTS: Final = (
    Act((Fault(REDIS, "killed", "", 0.0, 0.3, 1), Fault(CLIENT_WAY, "cut in mid-frame", "statusd", 0.1, 0.0, 2))),
    Act((Fault(REDIS_WAY, "reset", "preflightd", 0.0, 0.0, 3),)),
    Act((Fault(REDIS, "FLUSHALL", "", 0.0, 0.0, 4),)),
    Act((Fault(PROCESS, "worker killed", "statusd", 0.0, 0.0, 5),)),
)


async def test_the_books_balance_after_a_few_faults(redis_program: Path) -> None:
    play = Play(
        ACTS, seed=1, size=Size(status=12, preflight=8, pong_timeout=PATIENCE, margin=PATIENCE), say=lambda _: None
    )
    verdicts = await play.run()
    assert all(verdict.kept for verdict in verdicts), render(verdicts)
    assert len(play.recoveries) == len(ACTS)


async def test_the_command_says_what_it_would_do() -> None:
    command = [sys.executable, "-m", "bench.chaos", "--seconds", "30", "--seed", "7", "--list"]
    ended = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert ended.returncode == 0, ended.stderr
    first, *acts = ended.stdout.decode().splitlines()
    assert first == "python -m bench.chaos --seconds 30 --seed 7"
    assert [act.split(maxsplit=1)[1] for act in acts] == [str(act) for act in draw(7, 30.0)]
