"""Slot maps and redirections: what a node says of the others, in every form that servers use."""

from __future__ import annotations

import pytest

from common.redis.errors import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    ProtocolError,
    ReadOnlyError,
    RedirectionError,
    ResponseError,
    TryAgainError,
    from_reply,
)
from common.redis.slots import SLOTS, SlotMap, parse_slots, slot_of, target_of

ASKED = ("10.0.0.9", 7009)
A, B, C = ("10.0.0.1", 7001), ("10.0.0.2", 7002), ("10.0.0.3", 7003)


def node(address: tuple[str, int]) -> list[object]:
    """A node as Redis 7 writes it in RESP3."""
    return [address[0].encode(), address[1], b"0123456789abcdef", {}]


# The keys and slots of the cluster specification and of `CLUSTER KEYSLOT`.
@pytest.mark.parametrize(
    ("name", "slot"),
    [
        ("123456789", 12739),
        ("foo", 12182),
        ("{foo}.bar", 12182),
        ("x{foo}{bar}", 12182),
        ("", 0),
        ("__keyspace@0__:{foo}", 12182),
        (b"__keyspace@0__:{foo}", 12182),
    ],
)
def test_the_slot_is_that_of_what_is_between_the_first_braces(name: bytes | str, slot: int) -> None:
    assert slot_of(name) == slot


@pytest.mark.parametrize("name", ["{}foo", "foo{", "}{foo", "a{}{foo}"])
def test_without_something_between_them_the_whole_name_counts(name: str) -> None:
    assert slot_of(name) != slot_of("foo")
    assert 0 <= slot_of(name) < SLOTS


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("MOVED 3999 127.0.0.1:6381", ("127.0.0.1", 6381)),
        ("MOVED 3999 :6381", ("10.0.0.9", 6381)),
        ("MOVED 3999 ?:6381", None),
        ("MOVED 3999 ::1:6381", ("::1", 6381)),
        ("MOVED 3999 2001:db8::7:6381", ("2001:db8::7", 6381)),
        ("MOVED 3999 [2001:db8::7]:6381", ("2001:db8::7", 6381)),
        ("MOVED 3999 node-7.example.org:6381", ("node-7.example.org", 6381)),
    ],
)
def test_a_redirection_says_where_to(text: str, where: tuple[str, int] | None) -> None:
    error = from_reply(text)
    assert isinstance(error, MovedError)
    assert error.slot == 3999
    assert target_of(error, ASKED) == where
    assert str(error) == text
    # Waiters get one each, of the same arguments.
    assert type(error)(*error.args).port == error.port


def test_asking_once_is_another_redirection() -> None:
    error = from_reply("ASK 0 10.0.0.2:7002")
    assert type(error) is AskError
    assert target_of(error, ASKED) == B


@pytest.mark.parametrize(
    "text",
    [
        "MOVED",
        "MOVED 1",
        "MOVED x 1:1",
        "MOVED 16384 h:1",
        "MOVED 1 h:0",
        "MOVED 1 h:65536",
        "MOVED 1 h",
        "ASK 1 h:1 x",
    ],
)
def test_what_is_no_redirection_is_a_refusal_like_any_other(text: str) -> None:
    error = from_reply(text)
    assert type(error) is ResponseError
    with pytest.raises(ValueError, match="not a redirection"):
        RedirectionError(text)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("TRYAGAIN Multiple keys request during rehashing of slot", TryAgainError),
        ("CLUSTERDOWN The cluster is down", ClusterDownError),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", MasterDownError),
        ("READONLY You can't write against a read only replica.", ReadOnlyError),
    ],
)
def test_what_a_node_can_not_do_now_has_a_class(text: str, kind: type[ResponseError]) -> None:
    error = from_reply(text)
    assert type(error) is kind
    assert str(error) == text


def test_a_map_says_who_owns_what_and_who_stands_by() -> None:
    slots = parse_slots([[0, 5460, node(A), node(C)], [5461, 16382, node(B)]], ASKED)
    assert [slots.owner(slot) for slot in (0, 5460, 5461, 16383)] == [A, A, B, None]
    assert slots.primaries == (A, B)
    assert slots.nodes == (A, B, C)
    assert slots.roles() == {A: "master", B: "master", C: "replica"}
    assert slots.unserved == 1


def test_slots_are_written_as_ranges() -> None:
    slots = parse_slots([[0, 99, node(A)], [100, 100, node(B)], [101, 200, node(A)], [16383, 16383, node(A)]], ASKED)
    assert slots.ranges() == {A: "0-99,101-200,16383", B: "100"}


@pytest.mark.parametrize("host", [b"", None])
def test_a_node_without_a_name_is_where_it_was_reached(host: bytes | None) -> None:
    slots = parse_slots([[0, 1, [host, 7001, b"id"], [host, 7002, b"id"]]], ("::1", 7009))
    assert slots.owner(0) == ("::1", 7001)
    assert slots.replicas == {("::1", 7001): (("::1", 7002),)}


def test_an_unknown_node_owns_its_slots_for_nobody() -> None:
    slots = parse_slots([[0, 99, [b"?", 7001, b"id"], node(B)], [100, 199, node(A), [b"?", 7002, b"id"]]], ASKED)
    assert slots.owner(0) is None
    assert slots.owner(100) == A
    assert slots.nodes == (A,)


def test_ipv6_is_an_address_without_brackets() -> None:
    slots = parse_slots([[0, 1, [b"2001:db8::7", 7001, b"id"]]], ASKED)
    assert slots.owner(0) == ("2001:db8::7", 7001)


def test_moved_changes_one_slot_and_says_whether_it_is_news() -> None:
    slots = parse_slots([[0, 10, node(A), node(C)]], ASKED)
    before = parse_slots([[0, 10, node(A), node(C)]], ASKED)
    assert slots.move(3, C)
    assert not slots.move(3, C)
    assert before.changes(slots) == [3]
    assert slots.roles() == {A: "master", C: "master"}
    assert slots.ranges() == {A: "0-2,4-10", C: "3"}
    assert SlotMap().changes(before) == list(range(11))


@pytest.mark.parametrize(
    "reply",
    [
        None,
        b"OK",
        {},
        [[0, 1]],
        [[1, 0, node(A)]],
        [[0, 16384, node(A)]],
        [[-1, 2, node(A)]],
        [[0, b"1", node(A)]],
        [[0, 1, [b"h", 0]]],
        [[0, 1, [b"h", 65536]]],
        [[0, 1, [7, 7]]],
        [[0, 1, b"h:1"]],
        [[0, 1, node(A), []]],
        [7],
    ],
)
def test_what_is_no_map_is_told(reply: object) -> None:
    with pytest.raises(ProtocolError):
        parse_slots(reply, ASKED)


def test_a_cluster_without_slots_has_an_empty_map() -> None:
    slots = parse_slots([], ASKED)
    assert slots == SlotMap()
    assert slots.nodes == ()
