"""opsd's process (opsd/process.py): what it serves, how it ends, and tasks of which none ends another by a bug."""

from __future__ import annotations

import argparse
import socket
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import pytest
import trio

import opsd.process
from common.config import ListenAddress, load
from common.exits import Exit
from common.start import Start
from opsd.process import RESTART_DELAY, _keep
from opsd.settings import OpsSettings
from tests.support.logbook import Logbook
from tests.support.raw import NO_TLS, PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trio.testing import MockClock

NOBODY: Mapping[str, str] = {"OPS_REDIS_URL": "unix:///nonexistent/redis.sock", "OPS_TARGETS": "none"}
"""Neither Redis nor a daemon."""


@pytest.mark.parametrize("webhook", [None, "http://127.0.0.1:1/alerts"])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
@pytest.mark.real_time
async def test_it_serves_without_anybody_to_ask_and_ends_when_it_is_told(
    family: socket.AddressFamily, webhook: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # the kernel takes 107 bytes of a path
    monkeypatch.setenv("PATH", str(tmp_path))  # no tmux
    environ = {**NOBODY, **({} if webhook is None else {"OPS_ALERT_WEBHOOK": webhook})}
    settings, logbook = load(OpsSettings, environ).settings, Logbook()
    ready, stop = trio.Event(), trio.Event()
    codes: list[int] = []

    async def serve(listeners: Sequence[socket.socket]) -> None:
        codes.append(await opsd.process._run(settings, environ, listeners, logbook.log, ready, stop))

    place: Any = ("127.0.0.1", 0) if family == socket.AF_INET else "opsd.sock"
    with socket.create_server(place, family=family) as listener:
        listener.setblocking(False)
        name = listener.getsockname()
        transport = httpx.AsyncHTTPTransport(verify=NO_TLS, uds=None if family == socket.AF_INET else name)
        url = f"http://127.0.0.1:{name[1]}" if family == socket.AF_INET else "http://localhost"
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery, httpx.AsyncClient(transport=transport, base_url=url) as client:
                nursery.start_soon(serve, [listener])
                await ready.wait()
                assert (await client.get("/health/live")).status_code == 200
                status = (await client.get("/api/dev/status")).json()
                assert status["vector"]["sessions"]["tmux"] == 0
                await wait_until(
                    lambda: bool(logbook.said("redis unavailable, retrying")), "the history has missed its Redis"
                )
                stop.set()
    assert codes == [Exit.OK]
    said = [line["msg"] for line in logbook.lines]
    assert (said[0], said[-1]) == ("starting", "stopped")
    [listening] = logbook.said("listening")
    assert listening["addresses"] == [url.removeprefix("http://") if family == socket.AF_INET else "unix:opsd.sock"]
    assert logbook.at_least("error") == []


def test_from_its_sockets_to_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    async def run(
        settings: OpsSettings,
        _environ: object,
        listeners: Sequence[socket.socket],
        _log: object,
        ready: trio.Event,
        stop: trio.Event,
    ) -> int:
        told["listeners"] = [listener.getsockname()[0] for listener in listeners]
        told["stopped"] = stop.is_set()
        ready.set()
        await trio.lowlevel.checkpoint()
        return Exit.FAILED

    monkeypatch.setattr(opsd.process, "_run", run)
    monkeypatch.setattr(opsd.process, "prepare", lambda start: told.update(warnings=start.warnings))
    settings = attrs.evolve(load(OpsSettings, NOBODY).settings, listen_addr=ListenAddress("127.0.0.1", 0))
    start = Start(settings=settings, warnings=["odd"], environ={}, options=argparse.Namespace(), log=Logbook().log)
    assert opsd.process.serve_process(start) == Exit.FAILED
    assert told == {"listeners": ["127.0.0.1"], "stopped": False, "warnings": ["odd"]}


async def test_a_task_that_fails_is_said_and_started_again_for_as_long_as_it_takes(autojump_clock: MockClock) -> None:
    logbook, begun = Logbook(), list[float]()

    async def fails() -> None:
        begun.append(trio.current_time())
        await trio.sleep(10)
        raise LookupError("a bug")

    start = trio.current_time()
    with trio.move_on_after(3 * (10 + RESTART_DELAY) - 0.5):
        await _keep("history", fails, logbook.log)
    assert [at - start for at in begun] == pytest.approx([0, 10 + RESTART_DELAY, 2 * (10 + RESTART_DELAY)])
    assert [(line["level"], line["msg"], line["task"]) for line in logbook.lines] == [
        ("error", "task failed", "history")
    ] * 3
    assert all("LookupError: a bug" in line["traceback"] for line in logbook.lines)


async def test_a_task_that_is_done_is_started_again_without_a_word(autojump_clock: MockClock) -> None:
    logbook, begun = Logbook(), list[float]()

    async def returns() -> None:
        begun.append(trio.current_time())
        await trio.lowlevel.checkpoint()

    with trio.move_on_after(RESTART_DELAY * 1.5):
        await _keep("tmux", returns, logbook.log)
    assert len(begun) == 2
    assert logbook.lines == []


async def test_the_end_of_the_process_is_no_bug(autojump_clock: MockClock) -> None:
    logbook = Logbook()
    with trio.move_on_after(1) as scope:
        await _keep("board", trio.sleep_forever, logbook.log)
    assert scope.cancelled_caught
    assert logbook.lines == []
