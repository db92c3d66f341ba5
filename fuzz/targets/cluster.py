"""What nodes of a cluster say of each other: maps and redirections, whole and made up."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

from common.redis.errors import AskError, MovedError, ProtocolError, RedirectionError, ResponseError, from_reply
from common.redis.health import parse_health
from common.redis.slots import SLOTS, Address, SlotMap, parse_slots, slot_of, target_of
from fuzz.target import FuzzTarget, holds_for

_ASKED: Final[Address] = ("asked.test", 6379)
_PORTS: Final = st.integers(1, 65535)
_HOSTS: Final = st.sampled_from(["10.0.0.1", "node-7.test", "::1", "2001:db8::7", "", "?"])
_NODES: Final = st.tuples(_HOSTS, _PORTS)
_SLOTS: Final = st.integers(0, SLOTS - 1)
_RANGES: Final = st.lists(
    st.tuples(_SLOTS, _SLOTS, _NODES, st.lists(_NODES, max_size=3)).map(
        lambda entry: (min(entry[:2]), max(entry[:2]), *entry[2:])
    ),
    max_size=6,
)

# Anything that a parser of RESP may yield, in the shape of a map and out of it.
_LEAVES: Final = st.one_of(
    st.none(), st.booleans(), st.integers(-5, SLOTS + 5), st.binary(max_size=8), st.floats(allow_nan=False)
)
_ANYTHING: Final = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.binary(max_size=4), inner, max_size=2)
)
_WORDS: Final = st.lists(
    st.sampled_from(
        ["MOVED", "ASK", "TRYAGAIN", " ", ":", "[", "]", "::1", "?", "h.test", "7", "16383", "65535", "99999"]
    )
    | st.text(max_size=3),
    max_size=8,
).map("".join)


def _named(node: Address) -> Address | None:
    """The address that a node's own words mean."""
    host, port = node
    return None if host == "?" else (host or _ASKED[0], port)


def _said(node: Address) -> list[object]:
    return [node[0].encode() or None, node[1], b"id", {}]


@holds_for(_RANGES)
def a_map_says_of_each_slot_what_was_said_last(ranges: list[tuple[int, int, Address, list[Address]]]) -> None:
    """The owner of every slot is that of the last range with it; who is unknown owns it for nobody."""
    slots = parse_slots([[first, last, *map(_said, [node, *others])] for first, last, node, others in ranges], _ASKED)
    naive: list[Address | None] = [None] * SLOTS
    for first, last, node, _ in ranges:
        for slot in range(first, last + 1):
            naive[slot] = _named(node)
    assert slots.owners == naive
    assert SlotMap().changes(slots) == [slot for slot in range(SLOTS) if naive[slot] is not None]
    written = slots.ranges()
    assert set(written) == set(slots.primaries) == {owner for owner in naive if owner is not None}
    for owner, text in written.items():
        read = [part.partition("-") for part in text.split(",")]
        mine = [slot for first, _, last in read for slot in range(int(first), int(last or first) + 1)]
        assert mine == [slot for slot in range(SLOTS) if naive[slot] == owner]
    assert all(slots.roles()[node] in ("master", "replica") for node in slots.nodes)


@holds_for(_ANYTHING)
def whatever_is_answered_is_a_map_or_refused(reply: object) -> None:
    """Nothing but a ProtocolError comes of it; likewise of a node's health."""
    try:
        slots = parse_slots(reply, _ASKED)
    except ProtocolError:
        pass
    else:
        assert len(slots.owners) == SLOTS
        assert all(0 < port < 65536 for _, port in slots.nodes)
    try:
        health = parse_health(reply)
    except ProtocolError:
        return
    assert not (health.ok and health.cut_off)


@holds_for(st.sampled_from(["MOVED", "ASK"]), _SLOTS, _NODES, st.booleans())
def a_redirection_is_read_as_it_was_written(word: str, slot: int, node: Address, brackets: bool) -> None:
    """Slot and address, IPv6 with brackets or without."""
    host = f"[{node[0]}]" if brackets and ":" in node[0] else node[0]
    error = from_reply(f"{word} {slot} {host}:{node[1]}")
    assert type(error) is {"MOVED": MovedError, "ASK": AskError}[word]
    assert isinstance(error, RedirectionError)
    assert (error.slot, target_of(error, _ASKED)) == (slot, _named(node))


@holds_for(_WORDS)
def any_error_is_an_exception_with_its_text(text: str) -> None:
    """A redirection has a slot and a port that there are; what is none is a refusal like any other."""
    error = from_reply(text)
    assert str(error) == text
    if isinstance(error, RedirectionError):
        assert 0 <= error.slot < SLOTS
        assert 0 < error.port < 65536
    elif text.startswith(("MOVED", "ASK")):
        assert type(error) is ResponseError


@holds_for(st.binary(max_size=12), st.binary(min_size=1, max_size=12), st.binary(max_size=12))
def a_tag_decides_on_the_slot(before: bytes, tag: bytes, after: bytes) -> None:
    """Names with the same tag are in one slot, whatever is around it: a canary is where its key is."""
    tag = tag.translate(None, b"{}") or b"x"
    assert slot_of(before.translate(None, b"{") + b"{" + tag + b"}" + after) == slot_of(tag) < SLOTS


TARGET: Final = FuzzTarget(
    "cluster",
    (
        a_map_says_of_each_slot_what_was_said_last,
        whatever_is_answered_is_a_map_or_refused,
        a_redirection_is_read_as_it_was_written,
        any_error_is_an_exception_with_its_text,
        a_tag_decides_on_the_slot,
    ),
)
