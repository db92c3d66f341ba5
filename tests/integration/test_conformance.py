"""RFC 6455, case by case (`tests.conformance`), over real sockets: all at once against one daemon's process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio

from tests.conformance import CASES
from tests.conformance.case import LIVES, pong
from tests.conformance.handshake import OPENINGS
from tests.support.client import PING, handshake
from tests.support.daemon import DaemonProcess, open_daemon
from tests.support.raw import PATIENCE, RawClient, ask, start_client, wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from common.embedded import EmbeddedRedis
    from tests.conformance.case import Case
    from tests.conformance.handshake import Opening

pytestmark = pytest.mark.integration

QUIET: Final = {"ping_interval": "1h", "pong_timeout": "3h"}
AT_ONCE: Final = 24
"""Cases that are played at the same time."""
TWINS: Final = ("9.4.", "9.6.", "9.8.")
"""The large texts' binary twins: what large messages wait for is the others' turns, and they cost the test its time."""
PLAYED: Final = [case for case in CASES.values() if not case.id.startswith(TWINS)]


@attrs.frozen
class Subject:
    """A daemon's module, the path of its conversations, and how many messages it greets with."""

    module: str
    path: str
    greeting: int


SUBJECTS: Final = [Subject("statusd", "/run:log", 0), Subject("preflightd", "/run", 1)]

both = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.module)


async def play(daemon: DaemonProcess, subject: Subject, case: Case) -> bytes:
    """What the daemon said behind its greeting until it ended or, where it lives, until the answer to our ping."""
    async with trio.open_nursery() as nursery:
        client = await start_client(nursery, daemon.port, handshake(subject.path, case.headers))
        await client.wait(
            lambda client: len(client.messages) == subject.greeting and bool(client.head), within=PATIENCE
        )
        assert client.status == 101
        client.body.clear()
        await _say(client, case)
        if case.end == LIVES:
            await client.send(PING, b"alive?")
            await client.wait(lambda client: bytes(client.body).endswith(pong(b"alive?")), within=PATIENCE)
            said = bytes(client.body).removesuffix(pong(b"alive?"))
            await client.leave()
            return said
        await client.wait_ended(within=PATIENCE)
        return bytes(client.body)


async def _say(client: RawClient, case: Case) -> None:
    for data in case.sends:
        await client.send_raw(data)
    if case.leaves:
        await client.send_eof()


async def _all(cases: Iterable[Case | Opening], check: Callable[..., Awaitable[str]]) -> None:
    """Play the cases, many at a time; fail with a line for each that went wrong."""
    faults: list[str] = []
    places = trio.CapacityLimiter(AT_ONCE)

    async def one(case: Case | Opening) -> None:
        async with places:
            if fault := await check(case):
                faults.append(f"{case.id}: {case.what}: {fault}")

    async with trio.open_nursery() as nursery:
        for case in cases:
            nursery.start_soon(one, case)
    assert not faults, "\n".join(faults)


@both
async def test_conversations(redis_server: EmbeddedRedis, subject: Subject) -> None:
    async with open_daemon(
        redis_server, QUIET, module=subject.module, expect=["connection ended with error"]
    ) as daemon:

        async def check(case: Case) -> str:
            said, expected = await play(daemon, subject, case), case.answers + case.end.close
            return "" if said == expected else f"{said!r}, not {expected!r}"

        await _all(PLAYED, check)
        await wait_until(lambda: daemon.clients() == 0, "every socket is closed")

        def ended() -> list[str]:
            return [line["reason"] for line in daemon.lines if "frames" in line]

        await wait_until(lambda: len(ended()) == len(PLAYED), "each conversation has its last line")
        assert sorted(ended()) == sorted(case.end.reason or "client_closed" for case in PLAYED)


@both
async def test_openings(redis_server: EmbeddedRedis, subject: Subject) -> None:
    async with open_daemon(redis_server, QUIET, module=subject.module) as daemon:

        async def check(opening: Opening) -> str:
            request = opening.request_for(subject.path)
            if opening.status != 101:
                answer = await ask(daemon.port, request)
                found: dict[str, str | None] = {name: answer.headers.get(name.lower()) for name in opening.headers}
                status: int | None = answer.status
            else:
                async with trio.open_nursery() as nursery:
                    client = await start_client(nursery, daemon.port, request)
                    await client.wait(lambda client: bool(client.head), within=PATIENCE)
                    found, status = {name: client.header(name) for name in opening.headers}, client.status
                    await client.leave()
            return "" if (status, found) == (opening.status, opening.headers) else f"{status} {found}"

        await _all(OPENINGS.values(), check)
        await wait_until(lambda: daemon.clients() == 0, "every socket is closed")
