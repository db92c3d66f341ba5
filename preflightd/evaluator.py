"""Rules compiled to functions, once: each field that they name is looked up and parsed once for an evaluation. Pure.

A compiled condition is a function of two lists that an evaluation fills: the raw values, and the integers. The first
entries of both are the fields'; in the second, what is found among several (`First`, `Latest`) and constants follow,
each once, however many rules name it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from preflightd.rules import (
    All,
    Any,
    Condition,
    Constant,
    Each,
    EachPresent,
    Field,
    Filled,
    First,
    If,
    Is,
    Latest,
    Newer,
    Present,
    Rules,
    Side,
    Value,
)

Hash = Mapping[bytes, bytes]
"""A run hash, as Redis gives it."""

LARGEST: Final = (1 << 63) - 1
SMALLEST: Final = -(1 << 63)

_INTEGER: Final = re.compile(rb"([+-]?)(?=[0-9])0*+([0-9]*)")
_DIGITS: Final = 19
"""Digits of the largest signed 64-bit integer; a longer number is out of range, and slow to convert."""

_Raw = list[bytes | None]
_Integers = list[int | None]
_Test = Callable[[_Raw, _Integers], bool]
_Find = Callable[[_Raw, _Integers], int | None]


def integer(value: bytes | None) -> int | None:
    """The integer that a value is: ASCII digits with an optional sign, within signed 64 bits; else None (SPEC 1)."""
    if value is None:
        return None
    if len(value) < _DIGITS and value.isdigit():
        return int(value)
    match = _INTEGER.fullmatch(value)
    if match is None or len(match[2]) > _DIGITS:
        return None
    number = int(match[1] + (match[2] or b"0"))
    return number if SMALLEST <= number <= LARGEST else None


def digest(fields: Hash) -> bytes:
    """What is equal for equal hashes, in whatever order their fields come, and different for others."""
    state = hashlib.blake2b(digest_size=16)
    for field, value in sorted(fields.items()):
        state.update(b"%d:%d:" % (len(field), len(value)))
        state.update(field)
        state.update(value)
    return state.digest()


def compiled(rules: Rules) -> Callable[[Hash], tuple[tuple[str, bool], ...]]:
    """The function that says of a hash which keys are true, in the order of `rules`."""
    places = _Places(rules)
    tests = tuple((key, _test(condition, places)) for key, condition in rules.items())
    names, found = places.names, tuple(_find(value, places) for value in places.found)

    def evaluate(fields: Hash) -> tuple[tuple[str, bool], ...]:
        raw: _Raw = [fields.get(name) for name in names]
        integers: _Integers = [integer(value) if value else None for value in raw]
        for find in found:
            integers.append(find(raw, integers))
        return tuple([(key, test(raw, integers)) for key, test in tests])

    return evaluate


class _Places:
    """Where each value of the rules stands in the lists."""

    def __init__(self, rules: Rules) -> None:
        values = dict.fromkeys(value for rule in rules.values() for value in values_of(rule))
        among = (value.fields for value in values if isinstance(value, First | Latest))
        fields = dict.fromkeys(value for value in values if isinstance(value, Field))
        fields.update(dict.fromkeys(field for several in among for field in several))
        self.names = [field.name.encode() for field in fields]
        self.found = [value for value in values if not isinstance(value, Field)]
        self._places: dict[Value, int] = {value: place for place, value in enumerate([*fields, *self.found])}

    def __getitem__(self, value: Value) -> int:
        return self._places[value]

    def of(self, values: Sequence[Value]) -> tuple[int, ...]:
        """The places of several."""
        return tuple(self._places[value] for value in values)


def values_of(condition: Condition) -> Iterator[Value]:
    """The values that a condition names, in order, some of them more than once."""
    match condition:
        case Present(field) | Is(field):
            yield field
        case Filled(value):
            yield value
        case Newer(left, right):
            for part in (*left, *right):
                yield from part.fields if isinstance(part, EachPresent) else (part.value,)
        case All(conditions) | Any(conditions):
            for one in conditions:
                yield from values_of(one)
        case If(test, then, otherwise):
            for one in (test, then, otherwise):
                yield from values_of(one)


def _find(value: First | Latest | Constant, places: _Places) -> _Find:
    match value:
        case Constant(number):
            return lambda _raw, _integers: number
        case First(fields):
            of = places.of(fields)
            return lambda raw, integers: next((integers[place] for place in of if raw[place]), None)
        case Latest(fields):
            of = places.of(fields)
            return lambda _raw, integers: max(
                (number for place in of if (number := integers[place]) is not None), default=None
            )


def _test(condition: Condition, places: _Places) -> _Test:
    match condition:
        case Present(field):
            place = places[field]
            return lambda raw, _integers: raw[place] is not None
        case Filled(value):
            return _filled(value, places)
        case Is(field, text):
            place, expected = places[field], text.encode()
            return lambda raw, _integers: raw[place] == expected
        case Newer(left, right):
            return _newer(left, right, places)
        case All(conditions):
            tests = tuple(_test(one, places) for one in conditions)
            return lambda raw, integers: all(test(raw, integers) for test in tests)
        case Any(conditions):
            tests = tuple(_test(one, places) for one in conditions)
            return lambda raw, integers: any(test(raw, integers) for test in tests)
        case If(condition, then, otherwise):
            test, first, second = _test(condition, places), _test(then, places), _test(otherwise, places)
            return lambda raw, integers: first(raw, integers) if test(raw, integers) else second(raw, integers)


def _filled(value: Field | First | Latest, places: _Places) -> _Test:
    match value:
        case Field():
            place = places[value]
            return lambda raw, _integers: bool(raw[place])
        case First(fields):
            of = places.of(fields)
            return lambda raw, _integers: any(raw[place] for place in of)
        case Latest():
            place = places[value]
            return lambda _raw, integers: integers[place] is not None


def _newer(left: Side, right: Side, places: _Places) -> _Test:
    ours, ours_present = _side(left, places)
    theirs, theirs_present = _side(right, places)
    if len(ours) == 1 and not ours_present and not theirs_present:
        return _one_newer(ours[0], theirs)

    def test(raw: _Raw, integers: _Integers) -> bool:
        larger = [integers[place] for place in (*ours, *(place for place in ours_present if raw[place] is not None))]
        smaller = [
            integers[place] for place in (*theirs, *(place for place in theirs_present if raw[place] is not None))
        ]
        return all(
            one is not None and other is not None and one > other
            for one in larger or [LARGEST + 1]
            for other in smaller or [SMALLEST - 1]
        )

    return test


def _one_newer(ours: int, theirs: tuple[int, ...]) -> _Test:
    """The usual comparison, and so the quick one: one value, with one or more that are not optional."""

    def test(_raw: _Raw, integers: _Integers) -> bool:
        value = integers[ours]
        if value is None:
            return False
        for place in theirs:
            other = integers[place]
            if other is None or other >= value:
                return False
        return True

    return test


def _side(side: Side, places: _Places) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The places of those values that count always, and of those that count when they are there."""
    always = places.of([part.value for part in side if isinstance(part, Each)])
    present = [field for part in side if isinstance(part, EachPresent) for field in part.fields]
    return always, places.of(present)
