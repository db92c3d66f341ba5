"""RFC 6455, case by case (`tests.conformance`), against both daemons in memory: the bytes, and when TCP ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import trio
import trio.testing

from tests.conformance import CASES, SECTIONS
from tests.conformance.case import BREACH_TIMEOUT, LIVES, Case, chops, pong
from tests.conformance.handshake import LINGER, OPENINGS
from tests.support.client import PING, close_frame
from tests.support.service import Running, open_service
from tests.support.subjects import SUBJECTS, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

    from tests.support.client import Client


SHORT: Final = 400
"""Bytes of a case that is played octet by octet, too."""
LONG: Final = 5.0
"""Seconds, more than any time-out of a goodbye: after them nothing more happens by itself."""

GROUPS: Final[dict[str, list[Case]]] = {}
for _case in CASES.values():
    GROUPS.setdefault(".".join(_case.id.split(".")[:2]).rstrip("b"), []).append(_case)

both = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


def ways(case: Case) -> Iterator[tuple[bytes, ...]]:
    """As the case says, and in the smallest pieces."""
    yield case.sends
    if case.size <= SHORT:
        yield chops(b"".join(case.sends))


async def greeted(running: Running, subject: Subject, case: Case) -> Client:
    client = await running.open(subject.path, case.headers, answers=False)
    assert client.header("Sec-WebSocket-Extensions") is None, case.id
    await client.wait(lambda client: len(client.messages) == subject.greeting)
    client.body.clear()
    return client


async def play(running: Running, subject: Subject, case: Case, sends: tuple[bytes, ...]) -> None:
    client = await greeted(running, subject, case)
    sock = running.sockets[client]
    running.logbook.lines.clear()
    start = trio.current_time()
    for data in sends:
        await client.send_raw(data)
        await settle()
    if case.leaves:
        await client.stream.send_stream.aclose()  # type: ignore[attr-defined]
    await settle()
    about = f"{case.id}: {case.what}"
    assert (about, bytes(client.body)) == (about, case.answers + case.end.close)
    # The client ends nothing, unless the case says so: whatever happens now the server does.
    await trio.sleep(LONG)
    assert (about, bytes(client.body)) == (about, case.answers + case.end.close)
    times = client.ended_at - start, sock.released_at - start
    assert times == pytest.approx((case.end.eof_after, case.end.gone_after)), about
    ends = [line["reason"] for line in running.logbook.lines if "frames" in line]
    assert (about, ends) == (about, [case.end.reason] * (case.end != LIVES))
    if case.end == LIVES:
        client.body.clear()
        await client.send(PING, b"alive?")
        await settle()
        assert (about, bytes(client.body)) == (about, pong(b"alive?"))
        await client.send_raw(close_frame(1000))
        await client.wait_ended()


@both
@pytest.mark.parametrize("group", GROUPS)
async def test_conversations(group: str, subject: Subject, autojump_clock: MockClock) -> None:
    async with open_service(of=subject.daemon, ping_interval="1000h", pong_timeout="3000h") as running:
        for case in GROUPS[group]:
            for sends in ways(case):
                await play(running, subject, case, sends)


@both
async def test_a_breach_ends_as_soon_as_the_client_does(subject: Subject, autojump_clock: MockClock) -> None:
    breaches = [case for case in CASES.values() if case.end.gone_after == BREACH_TIMEOUT and case.size <= SHORT]
    async with open_service(of=subject.daemon, ping_interval="1000h", pong_timeout="3000h") as running:
        for case in breaches:
            client = await greeted(running, subject, case)
            start = trio.current_time()
            for data in case.sends:
                await client.send_raw(data)
            await client.wait_ended()
            await client.stream.send_stream.aclose()  # type: ignore[attr-defined]
            await settle()
            assert (case.id, running.sockets[client].released_at) == (case.id, start)


@both
async def test_openings(subject: Subject, autojump_clock: MockClock) -> None:
    async with open_service(of=subject.daemon, ping_interval="1000h", pong_timeout="3000h") as running:
        for opening in OPENINGS.values():
            about = f"{opening.id}: {opening.what}"
            client = running.arrive(answers=False)
            start = trio.current_time()
            await client.send_raw(opening.request_for(subject.path))
            await client.wait(lambda client: client.status is not None)
            assert (about, client.status) == (about, opening.status)
            headers = {name: client.header(name) for name in opening.headers}
            assert (about, headers) == (about, opening.headers)
            await trio.sleep(LONG)
            if opening.status == 101:
                assert not client.ended, about
                await client.send_raw(close_frame(1000))
                await client.wait_ended()
            else:
                times = client.ended_at - start, running.sockets[client].released_at - start
                assert times == pytest.approx((0.0, LINGER)), about
                assert (about, len(client.body.splitlines())) == (about, "HEAD" not in opening.request)


def test_every_case_is_there_once() -> None:
    tables = [case for module in SECTIONS for case in module.CASES]
    assert len({case.id for case in tables}) == len({case.what for case in OPENINGS.values()}) + len(tables) - len(
        OPENINGS
    )
    assert len(tables) == len(CASES) >= 250
