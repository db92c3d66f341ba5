"""A daemon under a service manager: what it tells it, and sockets that stay when the daemon goes."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.client import handshake
from tests.support.daemon import ROOT, environment, open_daemon
from tests.support.manager import activated, open_kept_socket, open_manager
from tests.support.raw import PATIENCE, connect, connect_silent, fetch, start_client

if TYPE_CHECKING:
    from pathlib import Path

    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

OFTEN = 1_000_000
"""Microseconds that the manager waits for a sign of life. Several come in a moment; and so few that the kernel, which
keeps ten, has room for those of all the time in which this process, the manager, has no time to hear them."""


@pytest.mark.parametrize(
    ("module", "settings", "abstract"),
    [("statusd", {}, False), ("preflightd", {"workers": "2"}, True), ("opsd", {"targets": "none"}, False)],
)
async def test_the_manager_hears_of_the_start_of_life_and_of_the_end(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    redis_server: EmbeddedRedis,
    module: str,
    settings: dict[str, str],
    abstract: bool,
) -> None:
    async with open_manager(tmp_path, abstract=abstract) as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        monkeypatch.setenv("WATCHDOG_USEC", str(OFTEN))
        async with open_daemon(redis_server, settings, module=module, healthy=module != "opsd") as daemon:
            await manager.wait_heard("READY=1")
            await manager.wait_heard("WATCHDOG=1", manager.heard.count("WATCHDOG=1") + 2)
            daemon.signal()
            await manager.wait_heard("STOPPING=1")
            await daemon.wait_exit()
        said = [state for state in manager.hear_all() if state != "WATCHDOG=1"]
        assert said == ["READY=1", "STOPPING=1"]


async def test_it_is_not_ready_before_redis_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_server: EmbeddedRedis
) -> None:
    async with open_manager(tmp_path) as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        monkeypatch.setenv("WATCHDOG_USEC", str(OFTEN))
        settings = {"redis_max_retries": "0", "redis_retry_base": "10ms", "redis_retry_max": "10ms"}
        expect = {"redis unavailable, retrying"}
        async with open_daemon("redis://127.0.0.1:1/2", settings, expect=expect, healthy=False) as daemon:
            await daemon.wait_said("redis unavailable, retrying", 3)
            await manager.wait_heard("WATCHDOG=1", 3)
            assert set(manager.heard) == {"WATCHDOG=1"}


async def test_a_manager_that_is_gone_is_said_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_server: EmbeddedRedis
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    async with open_daemon(redis_server, expect={"service manager not told"}) as daemon:
        await daemon.wait_said("service manager not told")
        daemon.signal()
        await daemon.wait_exit()
        assert len(daemon.said("service manager not told")) == 1


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_restart_on_kept_sockets_refuses_nobody(redis_server: EmbeddedRedis, workers: str) -> None:
    with open_kept_socket() as kept:
        number, port = kept.fileno(), kept.getsockname()[1]
        command = activated(number, "statusd")
        settings = {"workers": workers, "drain_timeout": "1h", "write_timeout": "1h"}
        async with trio.open_nursery() as nursery:
            async with open_daemon(redis_server, settings, command=command, pass_fds=[number]) as daemon:
                assert daemon.port == port
                client = await connect(nursery, port, "/run:log")
                stubborn = await connect_silent(port, "/run:log")
                await daemon.wait_said("connection accepted", 2)
                daemon.signal()
                await client.wait_ended()
                assert client.close_code == 1001
                # Each worker has heard of it, and their parent.
                await daemon.wait_said("draining", 1 if workers == "1" else int(workers) + 1)
                # The old one is still there, for who does not answer: the newcomer is the next one's.
                newcomer = await start_client(nursery, port, handshake("/run:log"))
                await stubborn.aclose()
                await daemon.wait_exit()
            between = await start_client(nursery, port, handshake("/run:log"))
            # Not asked whether it is healthy, which would count for a client.
            async with open_daemon(redis_server, settings, command=command, pass_fds=[number], healthy=False):
                for waiting in (newcomer, between):
                    await waiting.wait(lambda client: client.status is not None)
                    assert waiting.status == 101
                    await waiting.leave()


async def test_opsd_serves_on_a_kept_socket_too(redis_server: EmbeddedRedis) -> None:
    with open_kept_socket() as kept:
        number = kept.fileno()
        command = activated(number, "opsd")
        settings = {"targets": "none"}
        async with open_daemon(
            redis_server, settings, module="opsd", command=command, pass_fds=[number], healthy=False
        ) as daemon:
            assert daemon.port == kept.getsockname()[1]
            assert (
                await fetch(daemon.port, "/health/live", headers={"Host": "localhost", "Connection": "close"})
            ).status == 200


async def test_opsd_serves_no_other_machine_without_a_token(redis_server: EmbeddedRedis) -> None:
    with socket.socket() as kept:
        kept.bind(("0.0.0.0", 0))
        kept.listen()
        number = kept.fileno()
        with trio.fail_after(PATIENCE):
            ended = await trio.run_process(
                activated(number, "opsd"),
                env=environment(redis_server, module="opsd"),
                pass_fds=[number],
                cwd=ROOT,
                capture_stdout=True,
                check=False,
            )
    assert ended.returncode == 2
    assert b"OPS_TOKEN" in ended.stdout


@pytest.mark.parametrize("module", ["statusd", "opsd"])
async def test_what_is_no_listening_socket_is_one_clear_line(
    redis_server: EmbeddedRedis, tmp_path: Path, module: str
) -> None:
    with (tmp_path / "file").open("w") as file, trio.fail_after(PATIENCE):
        ended = await trio.run_process(
            activated(file.fileno(), module),
            env=environment(redis_server, module=module),
            pass_fds=[file.fileno()],
            cwd=ROOT,
            capture_stdout=True,
            check=False,
        )
    assert ended.returncode == 2
    assert b"can't listen" in ended.stdout
