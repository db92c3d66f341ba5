"""Wrong tokens: how often an address may be wrong, how long it waits, what the operator is told, what is remembered."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

import pytest
import trio
import trio.testing

from common.guesses import BURST, MAX_ADDRESSES, Guesses, GuessTally

if TYPE_CHECKING:
    from trio.testing import MockClock

    from common.web.forwarded import IPAddress

A: Final = ip_address("192.0.2.1")
EVERY: Final = 5.0
B: Final = ip_address("192.0.2.2")


def guess(guesses: Guesses, address: IPAddress = A) -> bool:
    """One wrong token; return whether it was looked at."""
    if guesses.wait(address):
        return False
    guesses.wrong(address)
    return True


async def test_some_at_once_and_then_one_at_a_time(autojump_clock: MockClock) -> None:
    guesses = Guesses(EVERY)
    assert [guess(guesses) for _ in range(BURST + 5)] == [True] * BURST + [False] * 5
    assert guesses.wait(A) == pytest.approx(EVERY)
    await trio.sleep(EVERY - 0.01)
    assert guesses.wait(A) == pytest.approx(0.01)
    await trio.sleep(0.01)
    assert [guess(guesses), guess(guesses)] == [True, False]
    await trio.sleep(EVERY * BURST)
    assert [guess(guesses) for _ in range(BURST + 1)] == [True] * BURST + [False]


async def test_however_often_it_is_tried_few_are_looked_at(autojump_clock: MockClock) -> None:
    guesses = Guesses(EVERY)
    looked_at = 0
    for _ in range(3600):
        looked_at += sum(guess(guesses) for _ in range(10))
        await trio.sleep(1)
    assert looked_at == BURST + 3599 // EVERY


async def test_others_do_not_wait_and_a_64_is_one(autojump_clock: MockClock) -> None:
    guesses = Guesses(EVERY)
    while guess(guesses, ip_address("2001:db8::1")):
        pass
    assert guesses.wait(ip_address("2001:db8::ffff:1"))
    assert not guesses.wait(ip_address("2001:db8:0:1::1"))
    assert not guesses.wait(A)


async def test_the_tally_counts_what_was_tried_since_the_last(autojump_clock: MockClock) -> None:
    guesses = Guesses(EVERY)
    for _ in range(BURST - 1):
        guess(guesses, B)
    with trio.move_on_after(1) as waited:
        await guesses.wait_limited()
    assert waited.cancelled_caught, "a person who mistypes is nobody to be told of"

    for _ in range(BURST + 7):
        guess(guesses)
    assert await guesses.wait_limited() == GuessTally(BURST + 7, 1, str(A))
    with trio.move_on_after(1) as waited:
        await guesses.wait_limited()
    assert waited.cancelled_caught

    for _ in range(5):
        guess(guesses)
    for _ in range(3):
        guess(guesses, B)
    assert await guesses.wait_limited() == GuessTally(5 + (BURST - 1) + 3, 2, str(B))


async def test_a_wait_for_the_tally_is_woken(autojump_clock: MockClock) -> None:
    guesses = Guesses(EVERY)
    tallies: list[GuessTally] = []

    async def wait() -> None:
        tallies.append(await guesses.wait_limited())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(BURST):
            guess(guesses)
    assert tallies == [GuessTally(BURST, 1, str(A))]


async def test_the_memory_is_bounded_and_the_quietest_is_forgotten(autojump_clock: MockClock) -> None:
    guesses = Guesses(EVERY)
    while guess(guesses):
        pass
    base = int(IPv6Address("2001:db8::"))
    for number in range(MAX_ADDRESSES - 1):
        guess(guesses, IPv6Address(base + (number << 64)))
    assert guesses.wait(A)
    for number in range(2 * MAX_ADDRESSES):
        guess(guesses, IPv6Address(base + (1 << 90) + (number << 64)))
    assert not guesses.wait(A)
    assert len(guesses._records) == MAX_ADDRESSES
    assert len(guesses._limited) <= MAX_ADDRESSES
    with trio.move_on_after(1) as waited:
        await guesses.wait_limited()
    assert waited.cancelled_caught


def test_several_at_once_count_each_and_who_has_no_address_is_one() -> None:
    now = 100.0
    guesses = Guesses(2.0, lambda: now)
    for address in (A, None):
        guesses.wrong(address, BURST - 1)
        assert guesses.wait(address) == 0
        guesses.wrong(address, 3)
        assert guesses.wait(address) == 6.0
    now += 6.0
    assert guesses.wait(A) == guesses.wait(None) == 0
