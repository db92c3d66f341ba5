"""`--healthcheck`, as a container runs it."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from common.healthcheck import ADDRESSES, healthcheck, names
from tests.support.daemon import ROOT, open_daemon
from tests.support.raw import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

NOBODY = "127.0.0.1:1"
LIVES = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers shares this process: on a busy machine it may take its time."""
    monkeypatch.setattr("common.healthcheck.TIMEOUT", PATIENCE)


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """The address of a server that answers whatever is asked."""

    async def handle(stream: trio.SocketStream) -> None:
        # Who asks leaves as soon as the first line has told it enough.
        async with stream:
            with suppress(trio.BrokenResourceError):
                await stream.receive_some()
                for number in range(len(answer)):
                    await stream.send_all(answer[number : number + 1])

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        yield f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def asked(name: str, address: str) -> int:
    return await trio.to_thread.run_sync(healthcheck, [name], {ADDRESSES[name][0]: address})


@pytest.mark.parametrize("module", ["statusd", "opsd"])
async def test_a_daemon_that_lives_is_healthy(redis_server: EmbeddedRedis, module: str) -> None:
    settings = {"targets": "none"} if module == "opsd" else {}
    async with open_daemon(redis_server, settings, module=module, healthy=False) as daemon:
        here = f"127.0.0.1:{daemon.port}"
        # The second is no question alone: the command line answers it.
        for arguments, address, code in (
            (["--healthcheck"], here, 0),
            (["--healthcheck=own", "serve"], here, 0),
            (["--healthcheck"], NOBODY, 1),
        ):
            await wait_until(partial(says, code, module, arguments, address), f"{arguments} says {code}")


async def says(code: int, module: str, arguments: list[str], address: str) -> bool:
    """Whether it does, and no word. A daemon that gets no time for as long as it waits is dead to it, that once."""
    ended = await trio.run_process(
        [sys.executable, "-W", "error", "-P", "-m", module, *arguments],
        env=os.environ | {ADDRESSES[module][0]: address},
        cwd=ROOT, check=False, capture_stdout=True, capture_stderr=True,
    )  # fmt: skip
    assert (ended.stdout, ended.stderr) == (b"", b""), arguments
    return ended.returncode == code


@pytest.mark.parametrize("name", ADDRESSES)
async def test_each_daemon_is_asked_where_its_own_variable_says(name: str) -> None:
    async with answering(LIVES) as address:
        assert await asked(name, address) == 0


@pytest.mark.parametrize("name", ADDRESSES)
async def test_in_an_image_of_all_the_one_that_answers_is_the_one(name: str) -> None:
    nowhere = dict.fromkeys((variable for variable, _ in ADDRESSES.values()), NOBODY)
    async with answering(LIVES) as address:
        environ = nowhere | {ADDRESSES[name][0]: address}
        assert await trio.to_thread.run_sync(healthcheck, names("statusd", "any"), environ) == 0
    assert healthcheck(names("statusd", "any"), nowhere) == 1


@pytest.mark.parametrize("answer", [b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", b"-ERR\r\n", b""])
async def test_any_other_answer_is_none(answer: bytes) -> None:
    async with answering(answer) as address:
        assert await asked("statusd", address) == 1


@pytest.mark.parametrize("address", [NOBODY, "nonsense", "127.0.0.1:port", "127.0.0.1:99999999"])
async def test_nobody_there_and_an_address_that_is_none_are_unhealthy(address: str) -> None:
    assert await asked("statusd", address) == 1
