"""The demo as a process of its own: started as its user does, read, and ended with everything that it started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

ROOT: Final = Path(__file__).parents[2]

DEADLINE: Final = 100.0
"""Seconds that no step takes, on however slow a machine."""

SUMMARY: Final = re.compile(
    rb"statusd: published (\d+), received (\d+)\n"
    rb"preflightd: (\d+) writes of the hash, (\d+) frames of the checklist\n$"
)
PAGE: Final = re.compile(rb"^Open ((http://127\.0\.0\.1:\d+/)#run=(\S+))\n")
"""What the demo says first: its page on the run, the page, and the topic."""

_POLL: Final = 0.02


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
                # A Redis server writes its title over its environment.
                if self.mark.encode() in (entry / "environ").read_bytes() or self._is_inside(entry / "cwd"):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def _is_inside(self, link: Path) -> bool:
        return str(link.readlink()).startswith(str(self.directory))

    def owners(self) -> set[int]:
        """The users that its processes run as."""
        owners = set()
        for pid in self.commands():
            # opsd's questions to tmux are short-lived.
            with suppress(FileNotFoundError):
                owners.add(Path(f"/proc/{pid}").stat().st_uid)
        return owners

    async def wait_processes(self, count: int) -> None:
        """Wait until it has that many."""
        with trio.fail_after(DEADLINE):
            while True:
                if len(self.commands()) >= count:
                    return
                await trio.sleep(_POLL)

    def pid_of(self, name: str) -> int:
        """The one process whose command line has `name` in it."""
        found = [pid for pid, command in self.commands().items() if name in command]
        # One that it has just forked, for tmux, has its command line until it runs its own program.
        (pid,) = [pid for pid in found if _parent(pid) not in found]
        return pid

    async def wait_for(self, text: bytes, times: int = 1) -> None:
        """Wait until it has written `text` to its standard output, that often."""
        assert self.process.stdout is not None
        with trio.fail_after(DEADLINE):
            while self.output.count(text) < times:
                chunk = await self.process.stdout.receive_some()
                assert chunk, self.output
                self.output += chunk

    async def read_on(self) -> None:
        """Take what it writes until it ends: one that nobody reads stands still."""
        assert self.process.stdout is not None
        async for chunk in self.process.stdout:
            self.output += chunk

    def interrupt(self) -> None:
        """Ctrl-C, as the terminal sends it: to the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

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

    def page(self) -> tuple[str, str]:
        """The address that it begins with, which opens on its run, and the root of it."""
        said = PAGE.match(self.output)
        assert said is not None, self.output
        return said[1].decode(), said[2].decode()

    def check_nothing_left(self) -> None:
        """After its end: no process and no file. opsd's last question to tmux may outlive it by a moment."""
        deadline = time.monotonic() + DEADLINE
        while (left := self.commands()) and all("tmux" in command for command in left.values()):
            assert time.monotonic() < deadline, left
            time.sleep(_POLL)
        assert left == {}
        assert files_in(self.directory) == []


def _parent(pid: int) -> int | None:
    """The process that started it, None if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return None
    return int(stat.rpartition(")")[2].split()[1])


def files_in(directory: Path) -> list[Path]:
    """What is there."""
    return list(directory.iterdir())


@asynccontextmanager
async def open_demo(
    directory: Path, *arguments: str, within: Sequence[str] = (), without: Sequence[str] = ()
) -> AsyncIterator[Demo]:
    """A demo whose temporary files are in `directory`; what is left of it when the block ends is killed.

    `within` is a command that runs the command behind it, `without` are variables that it does not get.
    """
    mark = f"demo-{uuid4()}"
    environ = os.environ | {"DEMO_MARK": mark, "TMPDIR": str(directory), "PYTHONWARNINGS": "error"}
    process = await trio.lowlevel.open_process(
        [*within, sys.executable, "-m", "deploy.demo", *arguments],
        cwd=ROOT,
        env={name: value for name, value in environ.items() if name not in without},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    running = Demo(process, mark, directory)
    try:
        yield running
    finally:
        for pid in running.commands():
            # opsd's questions to tmux are short-lived, and some end with others.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with trio.move_on_after(DEADLINE, shield=True):
            await process.wait()
