"""The demo as a user runs it: it ends by itself, ends on Ctrl-C, says what went wrong, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import httpx
import pytest
import trio

from deploy.demo.stage import TOPIC
from preflightd.checklist import packaged
from tests.support.demo import DEADLINE, PAGE, SUMMARY, open_demo

pytestmark = [
    pytest.mark.integration,
    pytest.mark.usefixtures("redis_program"),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to find the demo's processes"),
]

POLL = 0.02
HALT = 4.0
"""Seconds: longer than any time-out that a daemon has by default for what this process does for it."""


async def test_it_ends_by_itself_with_everything_received_and_the_checklist_true(tmp_path: Path) -> None:
    async with open_demo(tmp_path, "--seconds", "5") as running:
        code, errors = await running.wait_end()
        assert code == 0, errors
        assert "Traceback" not in errors
        summary = SUMMARY.search(running.output)
        assert summary is not None
        published, received, writes, frames = map(int, summary.groups())
        assert received == published > 0
        # The first frame, that of a run without a hash, comes before any write.
        assert 2 <= frames <= writes + 1
        running.check_nothing_left()


@pytest.mark.parametrize("topology", ["cluster", "sentinel"])
async def test_a_failover_happens_while_one_looks_and_nothing_is_lost(tmp_path: Path, topology: str) -> None:
    async with open_demo(tmp_path, f"--{topology}", "--seconds", "15") as running:
        code, errors = await running.wait_end()
        assert code == 0, errors
        summary = SUMMARY.search(running.output)
        assert summary is not None
        assert summary[1] == summary[2]
        # Those two lines came on the run's own channel, as the page has them; the run goes on.
        told = [line for line in running.output.decode().splitlines() if line.startswith("-- failover: ")]
        assert [re.sub(r"[\d.]+(?= s)|:\d+", "", line) for line in told] == [
            "-- failover: 127.0.0.1 hands over to a replica --",
            "-- failover: 127.0.0.1 is the primary,  s later --",
        ]
        old, new = (re.findall(r":(\d+) ", line)[0] for line in told)
        assert old != new
        running.check_nothing_left()


async def test_both_clients_print_and_its_page_is_named_first_and_after_each_run(tmp_path: Path) -> None:
    async with open_demo(tmp_path) as running:
        await running.wait_for(b"STARTED run_project(demo run 2)")
        running.interrupt()
        code, errors = await running.wait_end()
    assert code == 0, errors
    page = PAGE.match(running.output)
    assert page is not None
    assert page[3] == TOPIC.encode()
    lines = running.output.decode().splitlines()
    assert lines.count(f"-- this run on a page: {page[1].decode()} --") == 1
    checklist = [line for line in lines if line.startswith("[checklist] ")]
    known = len(packaged().evaluate({}).checklist)
    assert f"[checklist] 0 of {known} done" in checklist
    steps = [line.removeprefix("[checklist] + ") for line in checklist if " + " in line]
    assert steps[:9] == [
        "sbs_map", "channels", "outlet", "subcatchments", "landuse", "soils", "climate", "wepp", "dss_export",
    ]  # fmt: skip
    assert "[checklist] locked watershed.nodb" in checklist
    assert "[checklist] unlocked watershed.nodb" in checklist
    assert any(re.fullmatch(r"rq:\S+ STATUS run 1: build_channels started \(1 of 9\)", line) for line in lines)
    for daemon in ("statusd", "preflightd"):
        assert any(f"-m {daemon} watch ws://" in line for line in lines)


async def test_the_page_that_it_names_is_there_and_its_figures_are_those_of_the_demo(tmp_path: Path) -> None:
    async with open_demo(tmp_path) as running, httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
        await running.wait_for(b"build_channels started")
        _, root = running.page()
        assert "<run-viewer" in (await client.get(root)).text
        config = (await client.get(f"{root}api/dev/config")).json()
        with trio.fail_after(DEADLINE):
            sessions: dict[str, int] = {}
            while sessions.get("websocketConnections") != 2 or sessions["activeWorkers"] != 2:
                await trio.sleep(POLL)
                sessions = (await client.get(f"{root}api/dev/status")).json()["vector"]["sessions"]
        for daemon in ("status", "preflight"):
            assert f"  {config[daemon + 'WsUrl']}/".encode() in running.output


async def test_ctrl_c_ends_all_of_it_quietly_with_0(tmp_path: Path) -> None:
    async with open_demo(tmp_path) as running:
        await running.wait_for(b"build_channels started")
        # opsd asks tmux now and then: that is one more.
        assert len(running.commands()) >= 5
        running.interrupt()
        code, errors = await running.wait_end()
        assert code == 0, errors
        assert re.fullmatch(r"(-- (\[checklist\] )?connected to ws://\S+ --\n){2}", errors)
        assert SUMMARY.search(running.output)
        running.check_nothing_left()


@pytest.mark.parametrize("count", [2, 3, 4, 5])
async def test_ctrl_c_while_it_starts_leaves_nothing_either(tmp_path: Path, count: int) -> None:
    async with open_demo(tmp_path) as running:
        await running.wait_processes(count)
        running.interrupt()
        code, errors = await running.wait_end()
        assert code == 0, errors
        assert "Traceback" not in errors
        running.check_nothing_left()


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("-m statusd", "demo: statusd ended unexpectedly, with status -9"),
        ("-m preflightd", "demo: preflightd ended unexpectedly, with status -9"),
        ("-m opsd", "demo: opsd ended unexpectedly, with status -9"),
        ("-server ", "demo: the private redis"),
    ],
)
async def test_a_part_that_dies_ends_it_with_1_and_a_clear_line(tmp_path: Path, name: str, complaint: str) -> None:
    async with open_demo(tmp_path) as running:
        await running.wait_for(b"build_channels started")
        os.kill(running.pid_of(name), signal.SIGKILL)
        code, errors = await running.wait_end()
        assert code == 1
        assert complaint in errors
        assert "Traceback" not in errors
        running.check_nothing_left()


@pytest.mark.parametrize("name", ["-m statusd", "-server ", "-m deploy.demo"])
async def test_a_part_that_gets_no_time_for_seconds_costs_no_message(tmp_path: Path, name: str) -> None:
    async with open_demo(tmp_path, "--seconds", "6") as running:
        await running.wait_for(b"build_channels started")
        halted = running.pid_of(name)
        os.kill(halted, signal.SIGSTOP)
        await trio.sleep(HALT)
        os.kill(halted, signal.SIGCONT)
        code, errors = await running.wait_end()
        assert code == 0, errors
        assert "lines may be missing" not in running.output.decode()
        assert "connected again" not in errors
        summary = SUMMARY.search(running.output)
        assert summary is not None
        assert summary[1] == summary[2]
        running.check_nothing_left()


async def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path) -> None:
    async with open_demo(tmp_path) as running:
        await running.wait_for(b"build_channels started")
        assert running.process.stdout is not None
        await running.process.stdout.aclose()
        with trio.fail_after(DEADLINE):
            assert await running.process.wait() == 0
        running.check_nothing_left()


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon"])
async def test_seconds_that_are_none_are_refused(tmp_path: Path, seconds: str) -> None:
    async with open_demo(tmp_path, f"--seconds={seconds}") as running:
        code, errors = await running.wait_end()
        assert code == 2
        assert "--seconds" in errors
