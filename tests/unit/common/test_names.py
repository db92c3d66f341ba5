"""Looking names up: one lookup of a name at a time, which outlives those who gave up on it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import trio

from common.names import Names, connect
from opsd.sources.transport import STALE_AFTER, SourceTransport

if TYPE_CHECKING:
    from trio.testing import MockClock

SLOW: Final = 18.0
"""Seconds that a lookup takes: longer than anybody here waits three times."""


class Resolver:
    """The system's, on a virtual clock."""

    def __init__(self) -> None:
        self.takes = SLOW
        self.address = "192.0.2.1"
        self.error: Exception | None = None
        self.asked: list[str] = []

    async def getaddrinfo(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        self.asked.append(host)
        await trio.sleep(self.takes)
        if self.error is not None:
            raise self.error
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.address, port))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """A resolver in place of the system's."""
    resolver = Resolver()
    monkeypatch.setattr(trio.socket, "getaddrinfo", resolver.getaddrinfo)
    return resolver


async def resolved(names: Names, host: str = "a.test", *, within: float = 5.0) -> list[str] | None:
    with trio.move_on_after(within):
        return await names.resolve(host, 80)
    return None


async def test_who_comes_after_one_that_gave_up_waits_for_the_same_lookup(
    resolver: Resolver, autojump_clock: MockClock
) -> None:
    names = Names()
    assert [await resolved(names) for _ in range(4)] == [None, None, None, ["192.0.2.1"]]
    assert resolver.asked == ["a.test"]
    assert autojump_clock.current_time() == SLOW


async def test_what_was_found_while_nobody_waited_is_used_once(resolver: Resolver, autojump_clock: MockClock) -> None:
    names = Names()
    assert await resolved(names) is None
    await trio.sleep(SLOW)
    resolver.takes, resolver.address = 1.0, "192.0.2.2"
    before = autojump_clock.current_time()
    assert await resolved(names) == ["192.0.2.1"]
    assert autojump_clock.current_time() == before
    assert await resolved(names) == ["192.0.2.2"]
    assert resolver.asked == ["a.test"] * 2


async def test_an_answer_that_was_waited_for_is_asked_for_anew(resolver: Resolver, autojump_clock: MockClock) -> None:
    names = Names()
    for number in range(3):
        assert await resolved(names, within=60) == ["192.0.2.1"]
        assert autojump_clock.current_time() == SLOW * (number + 1)
    assert resolver.asked == ["a.test"] * 3


async def test_where_an_old_answer_will_do_a_slow_lookup_is_not_waited_for(
    resolver: Resolver, autojump_clock: MockClock
) -> None:
    names = Names(stale_after=0.5)
    assert await resolved(names, within=60) == ["192.0.2.1"]
    resolver.address = "192.0.2.2"
    for _ in range(3):
        before = autojump_clock.current_time()
        assert await resolved(names) == ["192.0.2.1"]
        assert autojump_clock.current_time() == before + 0.5
    await trio.sleep(SLOW)
    # What came to its end meanwhile is newer, and what answers in time is new.
    assert await resolved(names) == ["192.0.2.2"]
    resolver.takes, resolver.address = 0.25, "192.0.2.3"
    assert await resolved(names) == ["192.0.2.3"]
    assert resolver.asked == ["a.test"] * 3


async def test_all_who_wait_have_the_answer_and_other_names_their_own(
    resolver: Resolver, autojump_clock: MockClock
) -> None:
    names, found = Names(), []

    async def ask(host: str) -> None:
        found.append(await resolved(names, host, within=60))

    async with trio.open_nursery() as nursery:
        for host in ("a.test", "a.test", "b.test"):
            nursery.start_soon(ask, host)
    assert found == [["192.0.2.1"]] * 3
    assert sorted(resolver.asked) == ["a.test", "b.test"]
    assert autojump_clock.current_time() == SLOW


async def test_each_who_waits_has_an_error_of_his_own_and_none_is_kept(
    resolver: Resolver, autojump_clock: MockClock
) -> None:
    del autojump_clock
    names = Names()
    resolver.error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    caught: list[OSError] = []

    async def ask() -> None:
        with pytest.raises(socket.gaierror, match="Temporary failure") as error:
            await names.resolve("a.test", 80)
        caught.append(error.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
    assert len({id(error) for error in caught}) == 2
    # Also when nobody waited for it.
    assert await resolved(names) is None
    await trio.sleep(SLOW)
    resolver.error = None
    assert await resolved(names, within=60) == ["192.0.2.1"]


async def test_addresses_that_all_fail_are_one_error_with_their_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(host: str, port: int) -> trio.SocketStream:
        raise ConnectionRefusedError(111, "Connection refused", f"{host}:{port}")

    monkeypatch.setattr(trio, "open_tcp_stream", refuse)
    with pytest.raises(OSError, match=r"^Connection refused$"):
        await connect(["192.0.2.1", "2001:db8::1"], 80)


async def test_a_source_whose_name_is_slow_to_resolve_has_one_lookup_and_is_reached(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """It is asked twice at a time, by polls and for its events, and each gives up after five seconds."""
    reached: list[str] = []

    async def refuse(host: str, port: int) -> trio.SocketStream:
        reached.append(f"{host}:{port}")
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(trio, "open_tcp_stream", refuse)
    async with httpx.AsyncClient(transport=SourceTransport(), timeout=None) as client:  # noqa: S113 - bounded here
        for _ in range(3):
            with trio.move_on_after(5):
                await client.get("http://a.test:9102/events")
        assert reached == []
        with trio.move_on_after(6), pytest.raises(httpx.ConnectError):
            await client.get("http://a.test:9102/workers/status")
        # Once reached, it is reached by every poll.
        for _ in range(3):
            with trio.move_on_after(1), pytest.raises(httpx.ConnectError):
                await client.get("http://a.test:9102/workers/status")
    assert reached == ["192.0.2.1:9102"] * 4
    assert resolver.asked == ["a.test"] * 2
    assert autojump_clock.current_time() == SLOW + 3 * STALE_AFTER
