"""Bytes from Redis: the same values however they are cut, and nothing but a `ProtocolError` of bad ones."""

from __future__ import annotations

from typing import Final, TypeAlias

from hypothesis import strategies as st

from common.redis.errors import ProtocolError, RedisError
from common.redis.resp import RespParser, encode
from fuzz.pieces import CUTS, cut, damaged
from fuzz.target import FuzzTarget, holds_for

Reply: TypeAlias = tuple[bytes, object]
"""The bytes of a reply, and its value as `plain` shows it."""

_LINES: Final = st.binary(max_size=12).map(lambda text: text.translate(None, b"\r\n"))


def plain(value: object) -> object:
    """A parsed value in a form in which equal means equal: with its type, errors by their text, NaN by its name."""
    kind = type(value).__name__
    if isinstance(value, RedisError):
        return "error", str(value)
    if isinstance(value, list):
        return kind, [plain(item) for item in value]
    if isinstance(value, dict):
        return kind, [(plain(key), plain(item)) for key, item in value.items()]
    return kind, repr(value)


def outcome(chunks: list[bytes]) -> tuple[list[object], bool]:
    """The values of these chunks, in order, and whether the parser gave up. It gives up for good."""
    parser, values = RespParser(), []
    try:
        for chunk in chunks:
            parser.feed(chunk)
            for value in parser.values():
                values.append(plain(value))  # noqa: PERF401 - what came before an error counts
    except ProtocolError as error:
        for _ in range(2):
            parser.feed(b"+OK\r\n")
            assert not _more(parser, str(error))
        return values, True
    return values, False


def _more(parser: RespParser, failure: str) -> list[object]:
    """What a parser that has given up still yields, which is nothing."""
    try:
        return list(parser.values())
    except ProtocolError as error:
        assert str(error) == failure
        return []


def _bulk(data: bytes) -> Reply:
    return b"$%d\r\n%b\r\n" % (len(data), data), plain(data)


_KEYS: Final[st.SearchStrategy[Reply]] = st.one_of(
    st.binary(max_size=40).map(_bulk),
    _LINES.map(lambda text: (b"+%b\r\n" % text, plain(text))),
    st.integers(-(2**63), 2**63 - 1).map(lambda number: (b":%d\r\n" % number, plain(number))),
)
_LEAVES: Final[st.SearchStrategy[Reply]] = st.one_of(
    _KEYS,
    st.sampled_from(
        [
            (b"_\r\n", plain(None)),
            (b"$-1\r\n", plain(None)),
            (b"*-1\r\n", plain(None)),
            (b"#t\r\n", plain(True)),
            (b"#f\r\n", plain(False)),
            (b",inf\r\n", plain(float("inf"))),
            (b",nan\r\n", plain(float("nan"))),
        ]
    ),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda number: (b",%r\r\n" % number, plain(number))),
    st.binary(max_size=20).map(lambda data: (b"=%d\r\ntxt:%b\r\n" % (len(data) + 4, data), plain(data))),
    _LINES.map(lambda text: (b"-%b\r\n" % text, ("error", text.decode("utf-8", "replace")))),
)


def _array(items: list[Reply], mark: bytes, kind: str) -> Reply:
    return b"%b%d\r\n" % (mark, len(items)) + b"".join(item[0] for item in items), (kind, [item[1] for item in items])


def _map(pairs: list[tuple[Reply, Reply]]) -> Reply:
    data = b"".join(key[0] + value[0] for key, value in pairs)
    return b"%%%d\r\n" % len(pairs) + data, ("dict", [(key[1], value[1]) for key, value in pairs])


_NESTED: Final[st.SearchStrategy[Reply]] = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: _array(items, b"*", "list")),
        st.lists(inner, max_size=4).map(lambda items: _array(items, b"~", "list")),
        # Equal keys would be one: the bytes `+1` and the byte string `1` are the same key.
        st.lists(st.tuples(_KEYS, inner), max_size=4, unique_by=lambda pair: str(pair[0][1])).map(_map),
    ),
    max_leaves=12,
)
_PUSHES: Final = st.lists(_NESTED, min_size=1, max_size=4).map(lambda items: _array(items, b">", "PushNotification"))
REPLIES: Final[st.SearchStrategy[list[Reply]]] = st.lists(_NESTED | _PUSHES, max_size=6)

# Everything that begins a reply, and numbers that fit and that don't.
_JUNK: Final = st.lists(
    st.sampled_from([bytes([mark]) for mark in b"$*%~>|+-:,#_=(!@ \x00"])
    | st.sampled_from([b"\r\n", b"\r", b"\n", b"0", b"1", b"2", b"-1", b"30", b"?", b"inf", b"x", b"txt:"])
    | st.binary(max_size=3),
    max_size=24,
).map(b"".join)
_WHOLE: Final = REPLIES.map(lambda replies: b"".join(data for data, _ in replies))


@holds_for(REPLIES, CUTS)
def replies_are_read_as_they_were_written(replies: list[Reply], cuts: list[float] | None) -> None:
    """Every value, in order, wherever the stream was cut."""
    data = b"".join(reply for reply, _ in replies)
    assert outcome(cut(data, cuts)) == ([value for _, value in replies], False)


@holds_for(damaged(_WHOLE) | _JUNK, CUTS)
def the_outcome_does_not_depend_on_the_pieces(data: bytes, cuts: list[float] | None) -> None:
    """Bytes that are nearly or not at all RESP give the same values, and the same end, whole and in pieces."""
    assert outcome(cut(data, cuts)) == outcome([data])


@holds_for(
    st.lists(st.binary(max_size=300) | st.text(max_size=20) | st.integers(-(2**63), 2**63 - 1), min_size=1), CUTS
)
def commands_are_read_back(words: list[bytes | str | int], cuts: list[float] | None) -> None:
    """What we send is an array of byte strings."""
    sent = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    assert outcome(cut(encode(*words), cuts)) == ([plain(sent)], False)


TARGET: Final = FuzzTarget(
    "resp", (replies_are_read_as_they_were_written, the_outcome_does_not_depend_on_the_pieces, commands_are_read_back)
)
