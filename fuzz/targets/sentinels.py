"""Sentinels' answers: whatever they say is an answer or a refusal in words, and who is elected is somebody's choice."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

from common.redis.election import SentinelAnswer, elect, read_answer
from common.redis.errors import ProtocolError
from common.redis.resp import RespParser
from fuzz.pieces import damaged
from fuzz.target import FuzzTarget, holds_for


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _reply(kind: bytes, items: list[bytes]) -> bytes:
    return kind + b"%d\r\n" % (len(items) // (2 if kind == b"%" else 1)) + b"".join(map(_bulk, items))


_HOSTS: Final = st.sampled_from([b"10.0.0.1", b"10.0.0.2", b"::1", b"h.example", b"", b"?"]) | st.binary(max_size=8)
_NUMBERS: Final = st.integers(-1, 70000).map(lambda number: b"%d" % number) | st.binary(max_size=8)
_FLAGS: Final = st.sampled_from([b"master", b"s_down,o_down,master", b"master,failover_in_progress", b""])
_ADDRESSES: Final = st.tuples(_HOSTS, _NUMBERS).map(lambda parts: _reply(b"*", list(parts))) | st.sampled_from(
    [b"_\r\n", b"*-1\r\n", b"+OK\r\n", b"*0\r\n"]
)
_DETAILS: Final = st.builds(
    lambda kind, host, port, flags, epoch, down: _reply(
        kind,
        [
            *(b"ip", host, b"port", port, b"flags", flags),
            *(b"config-epoch", epoch, b"down-after-milliseconds", down),
        ],
    ),
    st.sampled_from([b"%", b"*"]),
    _HOSTS,
    _NUMBERS,
    _FLAGS,
    _NUMBERS,
    _NUMBERS,
)
_REPLIES: Final = _ADDRESSES | _DETAILS | damaged(_ADDRESSES) | damaged(_DETAILS)


def _value(raw: bytes) -> object:
    """The first value of these bytes, None where there is none."""
    parser = RespParser()
    parser.feed(raw)
    try:
        return next(parser.values(), None)
    except ProtocolError:
        return None


@holds_for(_REPLIES, _REPLIES)
def an_answer_is_one_to_use_or_refused_in_words(address: bytes, details: bytes) -> None:
    """No host is empty or breaks a line, no port is out of range."""
    try:
        answer = read_answer(_value(address), _value(details))
    except ValueError as reason:
        assert str(reason).startswith("it")
        assert str(reason).isprintable()
        return
    host, port = answer.address
    assert host.isascii()
    assert host.isprintable()
    assert 0 < len(host) <= 255
    assert 1 <= port <= 65535
    assert answer.epoch >= 0
    assert answer.down_after >= 0


_ANSWERS: Final = st.lists(
    st.builds(
        SentinelAnswer, st.tuples(st.sampled_from(["a", "b", "c"]), st.just(1)), st.integers(0, 3), st.booleans()
    ),
    max_size=5,
)


@holds_for(_ANSWERS, st.sampled_from([None, ("a", 1), ("d", 1)]), st.randoms(use_true_random=False))
def who_is_elected_has_the_highest_epoch_and_most_votes(
    answers: list[SentinelAnswer], current: tuple[str, int] | None, rng: object
) -> None:
    """In whatever order they came, where there is no tie."""
    elected = elect(answers, current)
    if elected is None:
        assert not answers
        return
    newest = [answer for answer in answers if answer.epoch == max(answer.epoch for answer in answers)]
    votes = [answer.address for answer in newest]
    assert elected in newest
    most = max(map(votes.count, votes))
    assert votes.count(elected.address) == most
    assert elected.troubled == any(answer.troubled for answer in newest if answer.address == elected.address)
    winners = {address for address in votes if votes.count(address) == most}
    if current in winners:
        assert elected.address == current
    elif len(winners) == 1:
        shuffled = list(answers)
        rng.shuffle(shuffled)  # type: ignore[attr-defined]
        assert elect(shuffled, current) == elected


TARGET: Final = FuzzTarget(
    "sentinels",
    (an_answer_is_one_to_use_or_refused_in_words, who_is_elected_has_the_highest_epoch_and_most_votes),
)
