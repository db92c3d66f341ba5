"""What the surroundings do to a start: signals before anything is imported, standard streams that are closed, a working
directory full of traps. All three daemons, as processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.daemon import ROOT, Finished, environment, open_daemon
from tests.support.ports import free_port
from tests.support.raw import HOST, PATIENCE, fetch, open_stream, read_to_end, request_head, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from common.embedded import EmbeddedRedis
    from tests.support.daemon import DaemonProcess

pytestmark = pytest.mark.integration

DAEMONS = ("statusd", "preflightd", "opsd")
PYTHON = (sys.executable, "-W", "default", "-P")
SHELL = shutil.which("sh") or "/bin/sh"
SCRIPTS = Path(sys.executable).parent
NOWHERE = "redis://127.0.0.1:1/3"
DOWN = ("source unavailable", "workers changed", "telemetry status changed", "redis unavailable, retrying")
"""What opsd says where nothing is."""

SIGNALLED = """
import os, signal, sys
moment, number, module, *sys.argv[1:] = sys.argv[1:]

class Trap:
    def find_spec(self, name, path=None, target=None):
        if name == moment:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(number))
            assert os.environ.get("FIRST") is None or os.getpid() == 1

sys.meta_path.insert(0, Trap())
sys.exit(__import__(f"{module}.__main__").__main__.main())
"""
"""Signals itself when the daemon comes to import something."""


def own(module: str) -> dict[str, str]:
    """Settings with which it needs nobody else."""
    return {"targets": f"statusd=http://{HOST}:1"} if module == "opsd" else {"workers": "2"}


async def finished(*command: str, environ: Mapping[str, str], cwd: Path = ROOT) -> Finished:
    """Run a command to its end."""
    with trio.fail_after(PATIENCE):
        ended = await trio.run_process(
            command, env=environ, cwd=cwd, capture_stdout=True, capture_stderr=True, check=False
        )
    return Finished(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


# -- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", DAEMONS)
@pytest.mark.parametrize(
    ("moment", "number"),
    [("argparse", signal.SIGTERM), ("trio", signal.SIGTERM), ("trio", signal.SIGINT), ("trio", signal.SIGHUP)],
)
async def test_a_signal_during_the_imports_is_a_clean_end(module: str, moment: str, number: signal.Signals) -> None:
    ended = await finished(
        *PYTHON,
        "-c",
        SIGNALLED,
        moment,
        str(int(number)),
        module,
        environ=environment(NOWHERE, own(module), module=module),
    )
    assert (ended.code, ended.stderr) == (0, "")
    assert (ended.lines[-1]["msg"], ended.lines[-1]["code"]) == ("stopped", 0)
    assert not ended.said("error")


@pytest.fixture(scope="module")
def first_process() -> list[str]:
    """A command that makes the one behind it number 1 of a process namespace."""
    alone = [shutil.which("unshare") or "unshare", "--pid", "--fork", "--kill-child"]
    try:
        subprocess.run([*alone, "true"], check=True, capture_output=True, timeout=PATIENCE)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no process namespace of one's own is permitted here (unshare --pid)")
    return alone


@pytest.mark.parametrize("module", DAEMONS)
async def test_a_signal_during_the_imports_of_number_1_is_a_clean_end(first_process: list[str], module: str) -> None:
    """The kernel gives the first process of a container no signal that it has no handler for."""
    environ = environment(NOWHERE, own(module), module=module) | {"FIRST": "1"}
    ended = await finished(
        *first_process, *PYTHON, "-c", SIGNALLED, "trio", str(int(signal.SIGTERM)), module, environ=environ
    )
    assert (ended.code, ended.stderr) == (0, "")
    assert (ended.lines[-1]["msg"], ended.lines[-1]["code"]) == ("stopped", 0)


@pytest.mark.parametrize("module", DAEMONS)
async def test_a_command_with_nothing_to_drain_ends_as_usual(module: str) -> None:
    environ = environment(NOWHERE, own(module), module=module)
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        ended = await finished(*PYTHON, "-c", SIGNALLED, "trio", str(int(number)), module, "check", environ=environ)
        assert (ended.code, ended.stdout, ended.stderr) == (code, "", "")


@pytest.mark.parametrize("module", DAEMONS)
async def test_many_signals_at_once_are_one_order(redis_server: EmbeddedRedis, module: str) -> None:
    async with open_daemon(redis_server, own(module), module=module, expect=DOWN, healthy=module != "opsd") as daemon:
        # While it stands still it gets all of them, and has not ended by the second.
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCONT):
            daemon.signal_group(number)
        assert await daemon.wait_exit() == 0


async def test_what_nohup_ignores_stays_ignored(redis_server: EmbeddedRedis) -> None:
    nohup = (SHELL, "-c", 'trap "" HUP; exec "$@"', "sh", *PYTHON, "-m", "statusd")
    async with open_daemon(redis_server, {"workers": "2"}, command=nohup) as daemon:
        for pid in processes(daemon):
            assert ignores(pid, signal.SIGHUP)
            assert not ignores(pid, signal.SIGTERM)
    async with open_daemon(redis_server, {"workers": "2"}) as daemon:
        for pid in processes(daemon):
            assert not ignores(pid, signal.SIGHUP)


def ignores(pid: int, number: signal.Signals) -> bool:
    """Whether a process ignores a signal."""
    (mask,) = re.findall(r"^SigIgn:\s+([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(mask, 16) >> (number - 1) & 1)


# -- streams ----------------------------------------------------------------------------------------------------------


def closing(streams: str, *command: str) -> tuple[str, ...]:
    """The command, started with these closed."""
    return (SHELL, "-c", f'exec "$@" {streams}', "sh", *command)


def open_files(pid: int) -> list[str]:
    """What its descriptors 0, 1 and 2 are."""
    return [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)]  # noqa: PTH115 - a Path would normalise it


def processes(daemon: DaemonProcess) -> list[int]:
    """The daemon and its workers."""
    return [daemon.pid, *daemon.workers()]


@pytest.mark.parametrize("module", DAEMONS)
@pytest.mark.parametrize(
    ("streams", "missing"), [("<&-", {0}), (">&-", {1}), ("2>&-", {2}), ("<&- >&- 2>&-", {0, 1, 2})]
)
async def test_closed_streams_are_the_null_device(
    redis_server: EmbeddedRedis, module: str, streams: str, missing: set[int]
) -> None:
    silent = 1 in missing
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        port = free_port()  # its log can't always tell which one it got
        settings = own(module) | {"listen_addr": f"{HOST}:{port}"}
        command = closing(streams, *PYTHON, "-m", module)
        async with open_daemon(
            redis_server,
            settings,
            module=module,
            command=command,
            expect=DOWN,
            healthy=False,
            stdout=null if silent else None,
        ) as daemon:
            await wait_until(lambda: serves(port, module), "it serves")
            # opsd has no workers, but asks tmux now and then.
            found = [daemon.pid] if module == "opsd" else processes(daemon)
            assert len(found) == (1 if module == "opsd" else 3)
            for pid in found:
                files = open_files(pid)
                assert {files[number] for number in missing} == {"/dev/null"}
                assert not any(name.startswith(("socket:", "anon_inode:")) for name in files), files
    finally:
        os.close(null)


async def serves(port: int, module: str) -> bool:
    """Whether the daemon on that port answers."""
    page = "/health/live" if module == "opsd" else "/health"
    try:
        if module != "opsd":
            return (await fetch(port, page)).status == 200
        stream = await open_stream(port)
    except OSError:
        return False
    async with stream:
        await stream.send_all(request_head(page, headers={"Host": "localhost"}))
        with trio.fail_after(PATIENCE):
            return (await stream.receive_some()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("module", DAEMONS)
@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
async def test_check_with_closed_streams_prints_what_it_can(
    redis_server: EmbeddedRedis, module: str, streams: str
) -> None:
    environ = environment(redis_server, own(module), module=module)
    ended = await finished(*closing(streams, *PYTHON, "-m", module, "check"), environ=environ)
    assert (ended.code, ended.stderr) == (0, "")
    assert ("redis: OK" in ended.stdout) is (streams in {"<&-", "2>&-"})


@pytest.mark.parametrize("module", DAEMONS)
async def test_check_without_an_output_still_gives_its_code(module: str) -> None:
    environ = environment(NOWHERE, own(module), module=module)
    ended = await finished(*closing(">&-", *PYTHON, "-m", module, "check"), environ=environ)
    assert (ended.code, ended.stdout, ended.stderr) == (1, "", "")


@pytest.mark.parametrize("streams", ["2>&-", "<&- 2>&-"])
async def test_a_private_redis_needs_no_streams_either(streams: str) -> None:
    command = closing(streams, *PYTHON, "-m", "statusd", "--embedded-redis")
    async with open_daemon(NOWHERE, own("statusd"), command=command) as daemon:
        (line,) = await daemon.wait_said("private redis")
        assert line["publish_to"].startswith("redis://")


@pytest.mark.parametrize(
    ("module", "command"), [*((module, "check") for module in DAEMONS), ("preflightd", "evaluate")]
)
async def test_a_reader_that_is_gone_ends_a_command_without_a_traceback(
    redis_server: EmbeddedRedis, module: str, command: str
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with trio.fail_after(PATIENCE):
            ended = await trio.run_process(
                [*PYTHON, "-m", module, command],
                stdin=b"{}",
                env=environment(redis_server, own(module), module=module),
                cwd=ROOT,
                stdout=writing,
                capture_stderr=True,
                check=False,
            )
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, b"")


# -- the working directory --------------------------------------------------------------------------------------------

TRAPS = (
    *("statusd", "preflightd", "opsd", "common", "redis", "structlog", "trio", "attr", "attrs", "h11", "wsproto"),
    *("hiredis", "hypercorn", "starlette", "prometheus_client", "psutil", "json", "argparse", "signal"),
    *("sitecustomize", "usercustomize"),
)


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A directory in which whatever is imported leaves a note, and fails."""
    directory = tmp_path / "trapped"
    for name in TRAPS:
        (directory / name).mkdir(parents=True)
        note = f"open({str(tmp_path / 'sprung')!r}, 'a').write({name!r} + chr(10))\nraise ImportError('a trap')\n"
        (directory / name / "__init__.py").write_text(note)
    return directory


def sprung(trapped: Path) -> str:
    """What was imported from there."""
    note = trapped.parent / "sprung"
    return note.read_text() if note.exists() else ""


def script(name: str) -> str:
    """The installed command."""
    path = SCRIPTS / name
    if not path.exists():
        pytest.skip(f"{name} is not installed beside this Python")
    return str(path)


async def test_the_trap_is_one(trapped: Path) -> None:
    ended = await finished(sys.executable, "-m", "statusd", environ=environment(), cwd=trapped)
    assert ended.code != 0
    assert sprung(trapped)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("module", ["statusd", "preflightd"])
async def test_nothing_is_imported_from_the_working_directory(
    redis_server: EmbeddedRedis, module: str, workers: str, trapped: Path
) -> None:
    settings = {"workers": workers}
    command = [script(module)]
    async with open_daemon(redis_server, settings, module=module, command=command, cwd=trapped) as daemon:
        assert await daemon.health() == 200
    assert sprung(trapped) == ""
    ended = await finished(*command, "check", environ=environment(redis_server, settings, module=module), cwd=trapped)
    assert (ended.code, sprung(trapped)) == (0, "")


async def test_a_private_redis_imports_nothing_from_there_either(trapped: Path) -> None:
    command = closing("2>/dev/null", script("statusd"), "--embedded-redis")
    async with open_daemon(NOWHERE, command=command, cwd=trapped):
        pass
    assert sprung(trapped) == ""


async def test_nor_does_what_opsd_starts_in_tmux(
    redis_server: EmbeddedRedis, trapped: Path, tmux_directory: Path
) -> None:
    names = ("statusd", "preflightd")
    settings = {"targets": ",".join(f"{name}=unix:{tmux_directory}/{name}.sock" for name in names)}
    command = [
        shutil.which("env") or "env",
        *(f"STATUS_REDIS_URL={redis_server.url(2)}", f"PREFLIGHT_REDIS_URL={redis_server.url(0)}"),
        *(f"STATUS_LISTEN_ADDR={HOST}:0", f"PREFLIGHT_LISTEN_ADDR={HOST}:0"),
        *("STATUS_WORKERS=2", "PREFLIGHT_WORKERS=2"),
        script("opsd"),
    ]
    async with open_daemon(
        redis_server, settings, module="opsd", expect=DOWN, healthy=False, command=command, cwd=trapped
    ) as opsd:
        started = await ask_opsd(opsd.port, "/api/dev/tmux/start", "POST")
        assert started.startswith("HTTP/1.1 200"), started

        async def both_are_ready() -> bool:
            answer = await ask_opsd(opsd.port, "/api/dev/tmux/status")
            panes = json.loads(answer.partition("\r\n\r\n")[2])["panes"]
            # The window `logs` says it again.
            return {pane["window"] for pane in panes if "all workers ready" in str(pane["lines"])} >= set(names)

        await wait_until(both_are_ready, "both daemons and their workers are ready")
    assert sprung(trapped) == ""


async def ask_opsd(port: int, path: str, method: str = "GET") -> str:
    """Its whole answer."""
    async with await open_stream(port) as stream:
        await stream.send_all(
            request_head(path, method, {"Host": "localhost", "X-Ops-Request": "1", "Connection": "close"})
        )
        with trio.fail_after(PATIENCE):
            return (await read_to_end(stream)).decode()
