"""The demo where it is not expected: on taken ports, twice, without a terminal, a home or a right to write."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import trio

from common.daemons import DAEMONS
from deploy.demo.daemon_process import HOST
from tests.support.demo import DEADLINE, ROOT, SUMMARY, files_in, open_demo
from tests.support.raw import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.demo import Demo

pytestmark = [
    pytest.mark.integration,
    pytest.mark.usefixtures("redis_program"),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to find the demo's processes"),
]


MEASURED: Final = "COVERAGE_PROCESS_CONFIG"
"""With it a process writes into the tree what was run of it (`make coverage`): not where the tree can't be written."""

STRANGER: Final = 54321
"""A user who has no name, no home, and no file of ours."""

# Binds the tree over itself, read-only; a probe shows that it is.
_READ_ONLY: Final = """
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && cd "$1" || exit 77
if touch .probe 2>/dev/null; then exit 78; fi
shift
exec "$@"
"""


@asynccontextmanager
async def taken(*ports: int) -> AsyncIterator[None]:
    """All of these are somebody else's for the block: of this test, once no other demo of this machine has them."""
    with ExitStack() as stack:
        for port in ports:
            await wait_until(partial(_listens, stack, port), f"port {port} is free", within=DEADLINE)
        yield


def _listens(stack: ExitStack, port: int) -> bool:
    """Take the port, until `stack` ends, unless somebody has it: also one who was quicker between bind and listen."""
    with ExitStack() as failed:
        listener = failed.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen()
        except OSError:
            return False
        stack.push(failed.pop_all())
    return True


def ports_of(ended: Demo) -> list[int]:
    """Where its daemons were, in the order of DAEMONS.values()."""
    said = re.findall(rb"^  \w+ +(?:ws|http)://127\.0\.0\.1:(\d+)/", ended.output, re.MULTILINE)
    assert len(said) == len(DAEMONS.values())
    return [int(port) for port in said]


async def check_it_plays(running: Demo) -> None:
    """It ends well by itself, and leaves nothing."""
    code, errors = await running.wait_end()
    assert code == 0, errors
    assert "Traceback" not in errors
    assert SUMMARY.search(running.output)
    running.check_nothing_left()


async def test_when_the_ports_are_taken_it_says_so_and_takes_others(tmp_path: Path) -> None:
    async with taken(*(known.port for known in DAEMONS.values())), open_demo(tmp_path, "--seconds", "0.5") as running:
        await check_it_plays(running)
    lines = running.output.decode().splitlines()
    for known, port in zip(DAEMONS.values(), ports_of(running), strict=True):
        assert port != known.port
        said = f"Port {known.port} is taken by another process: {known.name} serves on port {port} instead."
        assert said in lines


async def test_two_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    async with (
        open_demo(one, "--seconds", "2") as first,
        open_demo(other, "--seconds", "2") as second,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(check_it_plays, first)
        nursery.start_soon(check_it_plays, second)
    for running in (first, second):
        summary = SUMMARY.search(running.output)
        assert summary is not None
        assert summary[1] == summary[2]


async def test_nobody_needs_a_home_or_a_name(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    program = shutil.which("setpriv")
    if program is None:
        pytest.skip("no setpriv on PATH: apt-get install util-linux")
    os.chown(tmp_path, STRANGER, STRANGER)
    # The interpreter and the tree may be below a directory that is root's alone: all can be read, and nothing written.
    may_read = ("--inh-caps", "-all,+dac_read_search", "--ambient-caps", "-all,+dac_read_search")
    become = (program, "--reuid", str(STRANGER), "--regid", str(STRANGER), "--clear-groups", *may_read)
    without = ("HOME", "USER", "LOGNAME", MEASURED)
    owners: set[int] = set()
    # Where we get no time for seconds, one is over before it was looked at.
    while not owners:
        async with open_demo(tmp_path, "--seconds", "2", within=become, without=without) as running:
            await running.wait_for(b"STARTED run_project(demo run 1)")
            owners = running.owners()
            await check_it_plays(running)
    assert owners == {STRANGER}


async def test_it_plays_from_a_tree_that_can_not_be_written(tmp_path: Path) -> None:
    program = shutil.which("unshare")
    if program is None:
        pytest.skip("no unshare on PATH: apt-get install util-linux")
    apart = [program, "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",))]
    shell = [*apart, "sh", "-c", _READ_ONLY, "sh", str(ROOT)]
    tried = await trio.run_process([*shell, "true"], check=False, capture_stderr=True)
    if tried.returncode != 0:
        pytest.skip(f"nothing can be mounted read-only here: {tried.stderr.decode().strip() or tried.returncode}")
    async with open_demo(
        tmp_path, "--seconds", "0.5", within=shell, without=("PYTHONDONTWRITEBYTECODE", MEASURED)
    ) as running:
        await check_it_plays(running)


async def test_without_a_standard_error_it_plays(tmp_path: Path) -> None:
    async with open_demo(tmp_path, "--seconds", "0.5", within=("sh", "-c", 'exec "$@" 2>&-', "sh")) as running:
        await check_it_plays(running)


async def test_without_a_standard_input_it_plays(tmp_path: Path) -> None:
    async with open_demo(tmp_path, "--seconds", "0.5", within=("sh", "-c", 'exec "$@" <&-', "sh")) as running:
        await check_it_plays(running)


async def test_without_a_standard_output_it_says_so(tmp_path: Path) -> None:
    async with open_demo(tmp_path, within=("sh", "-c", 'exec "$@" >&-', "sh")) as running:
        code, errors = await running.wait_end()
        assert (code, errors) == (1, "demo: there is no standard output to show anything on\n")
        running.check_nothing_left()


async def test_a_temporary_directory_that_no_socket_fits_into_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    async with open_demo(deep, "--seconds", "0.5") as running:
        await check_it_plays(running)


async def read_terminal(ours: int, until: bytes) -> bytes:
    """What a terminal shows until `until` is there."""
    shown = b""
    with trio.fail_after(DEADLINE):
        while until not in shown:
            await trio.lowlevel.wait_readable(ours)
            shown += os.read(ours, 65536)
    return shown


async def test_on_a_terminal_it_begins_with_the_page_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    environ = os.environ | {"TMPDIR": str(tmp_path), "TERM": "xterm-256color"}
    try:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "deploy.demo"],
            cwd=ROOT, env=environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        try:
            shown = await read_terminal(ours, b"build_channels started")
            assert re.match(rb"Open http://127\.0\.0\.1:\d+/#run=\S+\r\n", shown), shown
            process.send_signal(signal.SIGINT)
            await read_terminal(ours, b"frames of the checklist")
            with trio.fail_after(DEADLINE):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    finally:
        os.close(ours)
    assert files_in(tmp_path) == []
