"""What sentinels answer, and whom to believe (common/redis/election.py)."""

from __future__ import annotations

from itertools import permutations

import pytest

from common.redis.election import SentinelAnswer, elect, read_answer

A, B, C = ((f"10.0.0.{number}", 6379) for number in (1, 2, 3))
DETAILS = {b"ip": b"10.0.0.1", b"port": b"6379", b"config-epoch": b"7", b"down-after-milliseconds": b"1500"}
NAMED = [b"10.0.0.1", b"6379"]


def test_nobody_is_elected_by_nobody() -> None:
    assert elect([]) is None


def test_the_highest_epoch_counts_whoever_says_it() -> None:
    answers = [SentinelAnswer(A, 3), SentinelAnswer(A, 3), SentinelAnswer(B, 4)]
    for order in permutations(answers):
        assert elect(order, A) == SentinelAnswer(B, 4)


def test_among_equals_the_most_votes_count_then_who_is_followed_then_the_first() -> None:
    answers = [SentinelAnswer(B, 3), SentinelAnswer(A, 3), SentinelAnswer(A, 3), SentinelAnswer(C, 2)]
    for order in permutations(answers):
        assert elect(order, B) == SentinelAnswer(A, 3)
    split = [SentinelAnswer(B, 3), SentinelAnswer(A, 3)]
    assert elect(split, A) == SentinelAnswer(A, 3)
    assert elect(split, C) == elect(split) == SentinelAnswer(B, 3)


def test_a_failover_that_one_of_them_sees_is_under_way() -> None:
    calm, troubled = SentinelAnswer(A, 3), SentinelAnswer(A, 3, troubled=True)
    for order in permutations([calm, troubled, calm]):
        assert elect(order) == troubled


@pytest.mark.parametrize(
    "details", [DETAILS, [part for pair in DETAILS.items() for part in pair]], ids=["map", "array"]
)
def test_an_answer_is_read(details: object) -> None:
    assert read_answer(NAMED, details) == SentinelAnswer(A, 7, down_after=1.5)


@pytest.mark.parametrize(
    ("flags", "troubled"),
    [
        (b"master", False),
        (b"s_down,master", False),
        (b"s_down,o_down,master", True),
        (b"master,failover_in_progress,force_failover", True),
        (b"", False),
    ],
)
def test_it_is_in_trouble_when_they_agree_that_it_is(flags: bytes, troubled: bool) -> None:
    assert read_answer(NAMED, DETAILS | {b"flags": flags}).troubled is troubled
    # Another one has taken over already: the flags are not about it.
    assert not read_answer([b"10.0.0.2", b"6379"], DETAILS | {b"flags": flags}).troubled


def test_what_is_not_said_has_the_value_that_means_least() -> None:
    assert read_answer([b"h.example", b"1"], {}) == SentinelAnswer(("h.example", 1), 0, down_after=30.0)


@pytest.mark.parametrize(
    ("address", "details", "words"),
    [
        (None, DETAILS, "it knows no master of that name"),
        ([], DETAILS, "it names no address"),
        ([b"a"], DETAILS, "it names no address"),
        ([b"a", 6379], DETAILS, "it names no address"),
        ([b"a", b"1", b"2"], DETAILS, "it names no address"),
        ([b"", b"1"], DETAILS, "no usable host"),
        ([b"?", b"1"], DETAILS, "no usable host"),
        ([b"a b", b"1"], DETAILS, "no usable host"),
        ([b"\xff", b"1"], DETAILS, "no usable host"),
        ([b"a" * 256, b"1"], DETAILS, "no usable host"),
        ([b"a", b"0"], DETAILS, "its port is no number from 1 to 65535"),
        ([b"a", b"+1"], DETAILS, "its port"),
        ([b"a", b""], DETAILS, "its port"),
        ([b"a", b"1" * 5000], DETAILS, "its port"),
        (NAMED, {b"config-epoch": b"-1"}, "its config-epoch"),
        (NAMED, {b"down-after-milliseconds": b"soon"}, "its down-after"),
        (NAMED, b"OK", "it says nothing about the master"),
    ],
)
def test_what_says_nothing_is_refused_in_words(address: object, details: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_answer(address, details)
