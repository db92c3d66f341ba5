"""Messages that two connections bring are told once (common/redis/repeats.py)."""

from __future__ import annotations

import random

from common.redis.repeats import Repeats

SEEDS = range(50)


def test_what_either_side_has_told_first_is_told_once() -> None:
    repeats = Repeats()
    assert repeats.untold(0, {b"c": [b"1", b"2"]}) == {b"c": [b"1", b"2"]}
    assert repeats.untold(1, {b"c": [b"1", b"2", b"3"]}) == {b"c": [b"3"]}
    assert repeats.untold(0, {b"c": [b"3"], b"d": [b"3"]}) == {b"d": [b"3"]}
    assert repeats.untold(1, {b"d": [b"3"]}) == {}


def test_the_same_text_is_told_as_often_as_it_was_published() -> None:
    repeats = Repeats()
    assert repeats.untold(1, {b"c": [b"tick", b"tick"]}) == {b"c": [b"tick", b"tick"]}
    assert repeats.untold(0, {b"c": [b"tick", b"tick", b"tick"]}) == {b"c": [b"tick"]}


def test_two_sides_that_lag_differently_tell_everything_once_and_each_in_its_order() -> None:
    for seed in SEEDS:
        rng = random.Random(seed)
        repeats = Repeats()
        shared = [b"%d" % rng.randrange(40) for _ in range(200)]
        own = [b"own %d" % number for number in range(50)]
        sides = [list(shared), list(shared)]
        for text in own:
            # Said by the first side alone, anywhere between.
            sides[0].insert(rng.randrange(len(sides[0]) + 1), text)
        told: list[bytes] = []
        positions = [0, 0]
        while positions != [len(side) for side in sides]:
            side = rng.randrange(2)
            batch = sides[side][positions[side] : positions[side] + rng.randrange(1, 9)]
            positions[side] += len(batch)
            if batch:
                told += repeats.untold(side, {b"c": batch}).get(b"c", [])
        assert sorted(told) == sorted([*shared, *own]), f"seed {seed}"


def test_what_is_never_repeated_is_forgotten_in_the_end() -> None:
    repeats = Repeats(limit=3)
    for number in range(10):
        assert repeats.untold(1, {b"c": [b"%d" % number]}) == {b"c": [b"%d" % number]}
    assert repeats.untold(0, {b"c": [b"0", b"8", b"9"]}) == {b"c": [b"0"]}
