"""Places counted in and out: in all, and by address."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from common.web.admission import Admission, Ticket
from common.web.forwarded import parse_address

A: Final = ip_address("192.0.2.1")
B: Final = ip_address("2001:db8::1")


def enter(admission: Admission) -> Ticket:
    """A place that must be there."""
    ticket = admission.enter()
    assert ticket is not None
    return ticket


def test_without_limits_everyone_enters() -> None:
    admission = Admission(limit=0, limit_per_address=0)
    tickets = [enter(admission) for _ in range(1000)]
    assert all(ticket.claim(A) for ticket in tickets)
    assert admission.open == 1000


@pytest.mark.parametrize("limit", [1, 2, 50])
def test_the_limit_is_the_number_of_open_sockets(limit: int) -> None:
    admission = Admission(limit=limit, limit_per_address=0)
    tickets = [enter(admission) for _ in range(limit)]
    assert admission.enter() is None
    assert admission.open == limit
    tickets.pop().release()
    assert admission.open == limit - 1
    enter(admission)
    assert admission.enter() is None


@pytest.mark.parametrize("limit", [1, 2, 50])
def test_an_address_has_its_share_and_leaves_the_others_theirs(limit: int) -> None:
    admission = Admission(limit=0, limit_per_address=limit)
    held = [enter(admission) for _ in range(limit)]
    assert all(ticket.claim(A) for ticket in held)
    assert not enter(admission).claim(A)
    assert enter(admission).claim(B)
    held.pop().release()
    assert enter(admission).claim(A)
    assert not enter(admission).claim(A)


def test_a_half_open_request_is_a_place_of_nobody() -> None:
    admission = Admission(limit=2, limit_per_address=1)
    first, second = enter(admission), enter(admission)
    assert admission.enter() is None
    assert first.claim(A)
    second.release()
    assert not enter(admission).claim(A)


def test_a_refused_claim_gives_nothing_back_that_it_did_not_take() -> None:
    admission = Admission(limit=0, limit_per_address=1)
    assert enter(admission).claim(A)
    refused = enter(admission)
    assert not refused.claim(A)
    refused.release()
    assert admission.open == 1
    assert not enter(admission).claim(A)


def test_a_socket_without_an_address_has_no_share_to_use_up() -> None:
    admission = Admission(limit=0, limit_per_address=1)
    assert all(enter(admission).claim(None) for _ in range(10))


@pytest.mark.parametrize(
    ("first", "second", "one"),
    [
        # A host of IPv6 chooses its own address within a /64.
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("2001:db8:0:0:8000::", "2001:db8::", True),
        ("fe80::1", "fe80::2", True),
        ("::1", "2001:db8::1", False),
        # IPv4 is counted by the address, also where IPv6 only carries it.
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        # Whom a Teredo or 6to4 address stands for is not looked into.
        ("2001:0:1::1", "2001:0:1::2", True),
        ("2002:c000:201::1", "192.0.2.1", False),
    ],
)
def test_who_counts_as_one_address(first: str, second: str, one: bool) -> None:
    admission = Admission(limit=0, limit_per_address=1)
    assert enter(admission).claim(parse_address(first))
    assert enter(admission).claim(parse_address(second)) is not one


def test_a_place_can_change_hands_and_is_counted_once() -> None:
    admission = Admission(limit=0, limit_per_address=1)
    ticket = enter(admission)
    assert ticket.claim(A)
    assert ticket.claim(A)
    assert ticket.claim(B)
    other = enter(admission)
    assert other.claim(A)
    assert not other.claim(B)
    assert not ticket.claim(A)
    ticket.release()
    assert other.claim(B)
    assert enter(admission).claim(A)
    other.release()
    assert enter(admission).claim(B)
    # Who gives a place back twice gives back nobody else's.
    other.release()
    assert admission.open == 2
    assert not enter(admission).claim(B)


class Places(RuleBasedStateMachine):
    """Against a list of who is in."""

    LIMIT: Final = 4
    SHARE: Final = 2

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission(limit=self.LIMIT, limit_per_address=self.SHARE)
        self.inside: list[tuple[Ticket, object]] = []

    @rule(address=st.sampled_from([A, B, None]))
    def come(self, address: object) -> None:
        ticket = self.admission.enter()
        assert (ticket is None) == (len(self.inside) == self.LIMIT)
        if ticket is None:
            return
        share = sum(address == other for _, other in self.inside)
        claimed = ticket.claim(ip_address(str(address)) if address else None)
        assert claimed == (address is None or share < self.SHARE)
        if claimed:
            self.inside.append((ticket, address))
        else:
            ticket.release()

    @rule(index=st.integers(0, LIMIT - 1))
    def go(self, index: int) -> None:
        if index < len(self.inside):
            self.inside.pop(index)[0].release()

    @invariant()
    def counted(self) -> None:
        assert self.admission.open == len(self.inside)


TestPlaces = Places.TestCase
TestPlaces.settings = settings(max_examples=30)
