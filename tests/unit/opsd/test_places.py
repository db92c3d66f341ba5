"""Places and tries: what one address can hold or waste, and that it takes nothing from the others."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import trio
from hypothesis import given
from hypothesis import strategies as st

from opsd.places import FEW, Place, Places, RunningRequests
from opsd.tally import WHILE, Tally
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    from trio.testing import MockClock

PROXY = ip_address("127.0.0.1")
STRANGER = ip_address("192.0.2.1")
OPERATOR = ip_address("192.0.2.2")


class Hall:
    """Places, and who had to go."""

    def __init__(self, most: int, most_of_one: int, reserved: int = 0) -> None:
        self.places = Places(most, most_of_one, reserved)
        self.gone: list[str] = []

    def enter(self, address: object, name: str = "", *, busy: bool = False, proxy: bool = False) -> Place | None:
        place = self.places.enter(
            None if address is None else ip_address(str(address)), lambda: self.gone.append(name), proxy=proxy
        )
        if place is not None:
            place.running = int(busy)
        return place


def test_who_has_its_share_gets_a_place_of_its_own_idle_ones_or_none() -> None:
    hall = Hall(10, 2)
    first = hall.enter(STRANGER, "first", busy=True)
    hall.enter(STRANGER, "second")
    third = hall.enter(STRANGER, "third", busy=True)
    assert first is not None
    assert third is not None
    assert hall.gone == ["second"]
    assert hall.enter(STRANGER) is None
    assert hall.enter(OPERATOR) is not None
    first.release()
    first.release()
    assert hall.places.open == 2
    assert hall.enter(STRANGER) is not None


def test_when_all_are_taken_the_oldest_idle_one_of_whoever_holds_the_most_gives_way() -> None:
    hall = Hall(6, 6)
    hall.enter(OPERATOR, "operator's")
    hall.enter(STRANGER, "busy", busy=True)
    for number in range(4):
        hall.enter(STRANGER, f"idle {number}")
    for _ in range(2):
        assert hall.enter(OPERATOR, busy=True) is not None
    assert hall.gone == ["idle 0", "idle 1"]
    assert hall.places.open == 6


def test_when_all_are_busy_nobody_gives_way() -> None:
    hall = Hall(3, 2)
    for address in (STRANGER, STRANGER, PROXY):
        hall.enter(address, busy=True)
    assert hall.enter(OPERATOR) is None
    assert hall.gone == []


def test_the_last_places_are_for_those_who_hold_next_to_none() -> None:
    hall = Hall(20, 20, reserved=5)
    for _ in range(20):
        hall.enter(STRANGER, busy=True)
    assert hall.places.open == 15
    assert all(hall.enter(OPERATOR, busy=True) for _ in range(FEW))
    assert hall.enter(OPERATOR, busy=True) is None


def test_a_proxys_sockets_are_bounded_by_the_whole_only() -> None:
    hall = Hall(20, 2, reserved=5)
    assert all(hall.enter(PROXY, busy=True, proxy=True) for _ in range(15))
    assert hall.enter(PROXY, busy=True, proxy=True) is None
    assert hall.enter(OPERATOR) is not None


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=60))
def test_whatever_happens_the_count_is_right(visits: list[tuple[int, bool, bool]]) -> None:
    hall = Hall(8, 3, reserved=2)
    held: list[Place] = []
    for address, busy, leaves in visits:
        place = hall.enter(None if address == 3 else f"192.0.2.{address}", busy=busy)
        if place is not None:
            held.append(place)
        if leaves and held:
            held.pop(0).release()
        assert 0 <= hall.places.open <= 8
    for place in held:
        place.release()
    assert hall.places.open == 0
    assert hall.places._held == {}


def test_what_runs_is_counted_by_address() -> None:
    running = RunningRequests(2)
    assert [running.enter(STRANGER) for _ in range(3)] == [True, True, False]
    assert running.enter(OPERATOR)
    running.leave(STRANGER)
    assert running.enter(STRANGER)
    assert all(running.enter(None) for _ in range(10))
    for address in (STRANGER, STRANGER, OPERATOR, None):
        running.leave(address)
    assert not running._by_share


async def test_a_tally_says_the_first_at_once_and_then_how_many(autojump_clock: MockClock) -> None:
    logbook = Logbook()
    tally = Tally(logbook.log, "wrong tokens")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tally.run)
        tally.note(STRANGER)
        await trio.sleep(0.1)
        assert [(line["count"], line["remote"]) for line in logbook.lines] == [(1, "192.0.2.1")]
        for _ in range(1800):
            tally.note(STRANGER)
        tally.note(OPERATOR)
        await trio.sleep(10 * WHILE)
        assert [(line["count"], line["remote"]) for line in logbook.lines[1:]] == [(1801, "192.0.2.2")]
        nursery.cancel_scope.cancel()
