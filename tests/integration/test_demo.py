"""The demo as a user runs it: it ends by itself, ends on Ctrl-C, says what went wrong, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import attrs
import httpx
import pytest
import trio

from deploy.demo.daemon_process import HOST, OPSD, PREFLIGHTD, STATUSD
from deploy.demo.stage import TOPIC

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from deploy.demo.daemon_process import Kind

pytestmark = [
    pytest.mark.integration,
    pytest.mark.usefixtures("redis_program"),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to find the demo's processes"),
]

ROOT = Path(__file__).parents[2]
DEADLINE = 60.0
POLL = 0.02


@attrs.define
class Demo:
    """A running demo. Its processes carry `mark` in their environment, or work in `directory`."""

    process: trio.Process
    mark: str
    directory: Path
    output: bytes = b""

    def commands(self) -> dict[int, str]:
        """The demo's processes that live: process id -> command line."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                # redis-server writes its title over its environment.
                if self.mark.encode() in (entry / "environ").read_bytes() or self._is_inside(entry / "cwd"):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def _is_inside(self, link: Path) -> bool:
        return str(link.readlink()).startswith(str(self.directory))

    async def wait_processes(self, count: int) -> None:
        with trio.fail_after(DEADLINE):
            while True:
                if len(self.commands()) >= count:
                    return
                await trio.sleep(POLL)

    def pid_of(self, name: str) -> int:
        """The one process whose command line has `name` in it."""
        (pid,) = [pid for pid, command in self.commands().items() if name in command]
        return pid

    async def wait_for(self, text: bytes) -> None:
        assert self.process.stdout is not None
        with trio.fail_after(DEADLINE):
            while text not in self.output:
                chunk = await self.process.stdout.receive_some()
                assert chunk, self.output
                self.output += chunk

    async def wait_end(self) -> tuple[int, str]:
        """The exit code and what was written to stderr; the rest of stdout is in `output`."""
        assert self.process.stderr is not None
        errors = b""

        async def collect() -> None:
            nonlocal errors
            assert self.process.stderr is not None
            async for chunk in self.process.stderr:
                errors += chunk

        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(collect)
                assert self.process.stdout is not None
                async for chunk in self.process.stdout:
                    self.output += chunk
            return await self.process.wait(), errors.decode()


@asynccontextmanager
async def demo(directory: Path, *arguments: str) -> AsyncIterator[Demo]:
    mark = f"demo-{uuid4()}"
    environ = os.environ | {"DEMO_MARK": mark, "TMPDIR": str(directory), "PYTHONWARNINGS": "error"}
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "deploy.demo", *arguments],
        cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    running = Demo(process, mark, directory)
    try:
        yield running
    finally:
        for pid in running.commands():
            os.kill(pid, signal.SIGKILL)
        with trio.move_on_after(DEADLINE, shield=True):
            await process.wait()


def assert_nothing_left(ended: Demo) -> None:
    assert ended.commands() == {}
    assert list(ended.directory.iterdir()) == []


SUMMARY = re.compile(
    rb"statusd: published (\d+), received (\d+)\n"
    rb"preflightd: (\d+) writes of the hash, (\d+) frames of the checklist\n$"
)


async def test_it_ends_by_itself_with_everything_received_and_the_checklist_true(tmp_path: Path) -> None:
    async with demo(tmp_path, "--seconds", "5") as running:
        code, errors = await running.wait_end()
        assert code == 0, errors
        assert "Traceback" not in errors
        summary = SUMMARY.search(running.output)
        assert summary is not None
        published, received, writes, frames = map(int, summary.groups())
        assert received == published > 10
        # The first frame, that of a run without a hash, comes before any write.
        assert 2 <= frames <= writes + 1
        assert_nothing_left(running)


async def test_both_clients_print_and_the_checklist_is_marked(tmp_path: Path) -> None:
    async with demo(tmp_path, "--seconds", "6") as running:
        await running.wait_for(b"[checklist] unlocked watershed.nodb\n")
        code, errors = await running.wait_end()
    assert code == 0, errors
    lines = running.output.decode().splitlines()
    checklist = [line for line in lines if line.startswith("[checklist] ")]
    assert checklist[0] == "[checklist] 0 of 18 done"
    steps = [line.removeprefix("[checklist] + ") for line in checklist if " + " in line]
    assert steps[:4] == ["sbs_map", "channels", "outlet", "subcatchments"]
    assert "[checklist] locked watershed.nodb" in checklist
    assert any(line.startswith("run 1: build_channels started") for line in lines)
    for daemon in ("statusd", "preflightd"):
        assert any(f"-m {daemon} watch ws://" in line for line in lines)


async def test_the_page_that_it_names_is_there_and_its_figures_are_those_of_the_demo(tmp_path: Path) -> None:
    async with demo(tmp_path) as running, httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
        await running.wait_for(b"build_channels started")
        page = re.search(rb"  (http://127\.0\.0\.1:\d+/)#run=(\S+)\n", running.output)
        assert page is not None
        assert page[2] == TOPIC.encode()
        root = page[1].decode()
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
    async with demo(tmp_path) as running:
        await running.wait_for(b"build_channels started")
        assert len(running.commands()) == 5
        os.killpg(running.process.pid, signal.SIGINT)
        code, errors = await running.wait_end()
        assert code == 0, errors
        assert re.fullmatch(r"(-- (\[checklist\] )?connected to ws://\S+ --\n){2}", errors)
        assert SUMMARY.search(running.output)
        assert_nothing_left(running)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
async def test_ctrl_c_while_it_starts_leaves_nothing_either(tmp_path: Path, count: int) -> None:
    async with demo(tmp_path) as running:
        await running.wait_processes(count)
        os.killpg(running.process.pid, signal.SIGINT)
        code, errors = await running.wait_end()
        assert code == 0, errors
        assert "Traceback" not in errors
        assert_nothing_left(running)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("-m statusd", "demo: statusd ended unexpectedly, with status -9"),
        ("-m preflightd", "demo: preflightd ended unexpectedly, with status -9"),
        ("-m opsd", "demo: opsd ended unexpectedly, with status -9"),
        ("redis-server", "demo: the private redis"),
    ],
)
async def test_a_part_that_dies_ends_it_with_1_and_a_clear_line(tmp_path: Path, name: str, complaint: str) -> None:
    async with demo(tmp_path) as running:
        await running.wait_for(b"build_channels started")
        os.kill(running.pid_of(name), signal.SIGKILL)
        code, errors = await running.wait_end()
        assert code == 1
        assert complaint in errors
        assert "Traceback" not in errors
        assert_nothing_left(running)


async def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path) -> None:
    async with demo(tmp_path) as running:
        await running.wait_for(b"build_channels started")
        assert running.process.stdout is not None
        await running.process.stdout.aclose()
        with trio.fail_after(DEADLINE):
            assert await running.process.wait() == 0
        assert_nothing_left(running)


@pytest.mark.parametrize("kind", [STATUSD, PREFLIGHTD, OPSD], ids=lambda kind: kind.name)
async def test_when_the_usual_port_is_taken_it_says_so_and_takes_another(tmp_path: Path, kind: Kind) -> None:
    async with trio.open_nursery() as nursery:
        try:
            taker = partial(trio.serve_tcp, trio.aclose_forcefully, kind.usual_port, host=HOST)
            await nursery.start(taker)
        except OSError:
            # Somebody else has it already: as good.
            nursery.cancel_scope.cancel()
        async with demo(tmp_path, "--seconds", "0.5") as running:
            code, errors = await running.wait_end()
        nursery.cancel_scope.cancel()
    assert code == 0, errors
    said = re.search(
        rf"Port {kind.usual_port} is taken by another process: {kind.name} serves on port (\d+) instead\.",
        running.output.decode(),
    )
    assert said is not None
    assert f"://127.0.0.1:{said[1]}/" in running.output.decode()


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon"])
async def test_seconds_that_are_none_are_refused(tmp_path: Path, seconds: str) -> None:
    async with demo(tmp_path, f"--seconds={seconds}") as running:
        code, errors = await running.wait_end()
        assert code == 2
        assert "--seconds" in errors
