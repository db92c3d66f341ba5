"""Each kind of rule by itself: what it says to a person, and of which hashes it holds."""

from __future__ import annotations

import pytest

from preflightd.evaluator import LARGEST, SMALLEST, compiled, digest, integer, values_of
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
)

A, B, C, D = (Field(f"timestamps:{name}") for name in "abcd")
NOTE = Field("attrs:note")


def holds(condition: Condition, **fields: str) -> bool:
    """Whether it does for a hash of these timestamps (and `note`, which is an attribute)."""
    names = {"note": "attrs:note"}
    given = {names.get(name, f"timestamps:{name}").encode(): value.encode() for name, value in fields.items()}
    ((key, answer),) = compiled({"key": condition})(given)
    assert key == "key"
    return answer


SENTENCES: list[tuple[object, str]] = [
    (A, "T(a)"),
    (NOTE, "attrs:note"),
    (Field("x:timestamps:a"), "x:timestamps:a"),
    (First((A, B)), "first(T(a), T(b))"),
    (Latest((A, NOTE)), "max(T(a), attrs:note)"),
    (Constant(-5), "-5"),
    (Each(A), "T(a)"),
    (EachPresent((A, B)), "each present of T(a), T(b)"),
    (Present(A), "T(a) is there, even empty"),
    (Filled(A), "T(a) is not empty"),
    (Filled(First((A, B))), "first(T(a), T(b)) is not empty"),
    (Filled(Latest((A, B))), "max(T(a), T(b)) is an integer"),
    (Is(NOTE, 'a "b"'), r'attrs:note is exactly "a \"b\""'),
    (Newer((Each(A),), (Each(B),)), "T(a) > T(b)"),
    (Newer((Each(A), Each(B)), (Each(C), Each(Constant(3)))), "each of T(a), T(b) > each of T(c), 3"),
    (All((Present(A), Filled(B))), "T(a) is there, even empty and T(b) is not empty"),
    (Any((Present(A), Filled(B))), "T(a) is there, even empty or T(b) is not empty"),
    (All((Any((Filled(A), Filled(B))), Filled(C))), "(T(a) is not empty or T(b) is not empty) and T(c) is not empty"),
    (
        If(Filled(A), Filled(B), All((Filled(C), Filled(D)))),
        "if T(a) is not empty then T(b) is not empty else (T(c) is not empty and T(d) is not empty)",
    ),
    (
        Any((If(Filled(A), Filled(B), Filled(C)), Filled(D))),
        "(if T(a) is not empty then T(b) is not empty else T(c) is not empty) or T(d) is not empty",
    ),
]


@pytest.mark.parametrize(("rule", "sentence"), SENTENCES, ids=[str(number) for number in range(len(SENTENCES))])
def test_a_rule_is_a_sentence(rule: object, sentence: str) -> None:
    assert str(rule) == sentence


def test_a_field_that_is_there_counts_even_empty_only_where_the_rule_says_so() -> None:
    assert [holds(Present(A)), holds(Present(A), a=""), holds(Present(A), a="x")] == [False, True, True]
    assert [holds(Filled(A)), holds(Filled(A), a=""), holds(Filled(A), a="x")] == [False, False, True]


def test_a_text_is_exactly_that() -> None:
    rule = Is(NOTE, "true")
    assert [holds(rule, note=text) for text in ("true", "True", "true ", "")] == [True, False, False, False]
    assert not holds(rule)
    assert not holds(Is(NOTE, "None"))
    assert holds(Is(NOTE, ""), note="")


def test_the_first_of_several_is_the_first_that_is_not_empty_integer_or_not() -> None:
    filled, newer = Filled(First((A, B))), Newer((Each(First((A, B))),), (Each(C),))
    assert [holds(filled), holds(filled, a="", b="")] == [False, False]
    assert [holds(filled, b="x"), holds(filled, a="x")] == [True, True]
    assert holds(newer, a="", b="5", c="4")
    assert holds(newer, a="5", b="1", c="4")
    assert not holds(newer, a="1", b="5", c="4")
    assert not holds(newer, a="x", b="5", c="4"), "what is no integer is not passed over"
    assert not holds(newer, c="4")


def test_the_latest_of_several_is_the_largest_integer() -> None:
    filled, newer = Filled(Latest((A, B))), Newer((Each(Latest((A, B))),), (Each(C),))
    assert [holds(filled), holds(filled, a="x", b=""), holds(filled, a="x", b="0")] == [False, False, True]
    for a, b in (("5", "1"), ("1", "5"), ("x", "5"), ("5", "")):
        assert holds(newer, a=a, b=b, c="4")
        assert not holds(newer, a=a, b=b, c="5")
    assert not holds(newer, a="x", b="y", c="4")


@pytest.mark.parametrize(("left", "right"), [("5", "5"), ("4", "5"), ("x", "1"), ("5", "x"), ("", "1"), ("5", "")])
def test_newer_is_larger_and_both_are_integers(left: str, right: str) -> None:
    rule = Newer((Each(A),), (Each(B),))
    assert holds(rule, a="6", b="5")
    assert holds(rule, a="-5", b="-6")
    assert not holds(rule, a=left, b=right)
    assert not holds(rule, a="5")
    assert not holds(rule, b="5")


def test_each_of_one_side_is_larger_than_each_of_the_other() -> None:
    one = Newer((Each(A),), (Each(B), Each(C)))
    assert holds(one, a="9", b="1", c="8")
    assert not holds(one, a="9", b="9", c="1")
    assert not holds(one, a="9", b="1", c="9")
    assert not holds(one, a="9", b="1")
    two = Newer((Each(A), Each(B)), (Each(C), Each(D)))
    assert holds(two, a="9", b="8", c="7", d="6")
    for name, value in (("a", "7"), ("b", "7"), ("c", "8"), ("d", "8"), ("a", "x"), ("d", "x")):
        assert not holds(two, **{"a": "9", "b": "8", "c": "7", "d": "6", name: value})


def test_a_number_may_be_compared_with() -> None:
    rule = Newer((Each(A),), (Each(Constant(0)),))
    assert [holds(rule, a="1"), holds(rule, a="0"), holds(rule)] == [True, False, False]
    assert holds(Newer((Each(Constant(5)),), (Each(A),)), a="4")


def test_of_those_that_may_be_missing_the_others_count() -> None:
    right = Newer((Each(A),), (EachPresent((B, C)),))
    assert holds(right, a="5")
    assert holds(right, a=str(SMALLEST)), "nothing is as small as that there is nothing"
    assert holds(right, a="5", b="4")
    assert not holds(right, a="5", b="4", c="5")
    assert not holds(right, a="5", c=""), "it is there, and no integer"
    assert not holds(right, b="4")
    left = Newer((EachPresent((B, C)),), (Each(A),))
    assert holds(left, a=str(LARGEST)), "nothing is as large as that there is nothing"
    assert holds(left, a="5", b="6")
    assert not holds(left, a="5", b="6", c="5")
    assert not holds(left, a="5", b="x")
    assert holds(Newer((EachPresent((A,)),), (EachPresent((B,)),)))
    ours = Newer((Each(A), EachPresent((B,))), (Each(C),))
    assert [holds(ours, a="5", c="4"), holds(ours, a="5", b="3", c="4")] == [True, False]
    theirs = Newer((Each(A),), (Each(C), EachPresent((D,))))
    assert [holds(theirs, a="5", c="4"), holds(theirs, a="5", c="4", d="6")] == [True, False]
    mixed = Newer((Each(A), EachPresent((B,))), (Each(C), EachPresent((D,))))
    assert holds(mixed, a="5", c="4")
    assert holds(mixed, a="5", b="6", c="4", d="3")
    assert not holds(mixed, a="5", b="4", c="4")
    assert not holds(mixed, a="5", c="4", d="5")
    assert not holds(mixed, b="5", c="4")


def test_conditions_are_joined() -> None:
    both, either = All((Filled(A), Filled(B))), Any((Filled(A), Filled(B)))
    assert [holds(both, a="1", b="1"), holds(both, a="1"), holds(both, b="1"), holds(both)] == [True, *[False] * 3]
    assert [holds(either, a="1", b="1"), holds(either, a="1"), holds(either, b="1"), holds(either)] == [
        *[True] * 3,
        False,
    ]
    choice = If(Filled(A), Filled(B), Filled(C))
    assert [holds(choice, a="1", b="1"), holds(choice, a="1", c="1")] == [True, False]
    assert [holds(choice, c="1"), holds(choice, b="1")] == [True, False]


def test_rules_that_share_values_are_told_apart_and_in_order() -> None:
    rules: dict[str, Condition] = {
        "z": Newer((Each(Latest((A, B))),), (Each(Constant(3)),)),
        "a": Filled(First((B, A))),
        "m": Newer((Each(Latest((A, B))),), (Each(C),)),
    }
    evaluate = compiled(rules)
    assert evaluate({}) == (("z", False), ("a", False), ("m", False))
    assert evaluate({b"timestamps:a": b"4", b"timestamps:c": b"5"}) == (("z", True), ("a", True), ("m", False))


def test_the_values_of_a_condition_are_all_that_it_names() -> None:
    rule = If(
        Any((Present(A), Is(NOTE, "x"))),
        All((Filled(Latest((B, C))), Newer((Each(A), EachPresent((B, C))), (Each(Constant(1)),)))),
        Filled(D),
    )
    assert list(values_of(rule)) == [A, NOTE, Latest((B, C)), A, B, C, Constant(1), D]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"0", 0),
        (b"-0", 0),
        (b"+7", 7),
        (b"007", 7),
        (b"9223372036854775807", LARGEST),
        (b"+0009223372036854775807", LARGEST),
        (b"9223372036854775808", None),
        (b"-9223372036854775808", SMALLEST),
        (b"-9223372036854775809", None),
        (b"999999999999999999", 999999999999999999),
        (b"99999999999999999999", None),
        (b"0" * 50 + b"12", 12),
        (b"", None),
        (b"+", None),
        (b"1 ", None),
        (b"1_0", None),
        (b"\xd9\xa3", None),
        (None, None),
    ],
    ids=str,
)
def test_an_integer_is_digits_within_64_bits(text: bytes | None, number: int | None) -> None:
    assert integer(text) == number


NEWER = Newer((Each(A),), (Each(B),))


@pytest.mark.parametrize(
    "rule",
    [
        All((Filled(A), NEWER)),
        Any((Filled(C), NEWER)),
        If(NEWER, Filled(A), Filled(C)),
        If(Filled(A), NEWER, Filled(A)),
        If(Filled(C), Filled(C), NEWER),
    ],
    ids=str,
)
def test_a_comparison_counts_wherever_it_stands(rule: Condition) -> None:
    assert [holds(rule, a="2", b="1"), holds(rule, a="1", b="2")] == [True, False]


def test_a_digest_is_of_the_fields_and_not_of_their_order() -> None:
    hashes: list[dict[bytes, bytes]] = [
        {},
        {b"a": b"b"},
        {b"b": b"a"},
        {b"a": b"", b"b": b""},
        {b"ab": b""},
        {b"": b"ab"},
        {b"a": b"1:1:b"},
        {b"a": b"b", b"c": b"d"},
        {b"a": b"d", b"c": b"b"},
    ]
    assert len({digest(fields) for fields in hashes}) == len(hashes)
    assert digest({b"a": b"b", b"c": b"d"}) == digest({b"c": b"d", b"a": b"b"})
    assert len(digest({})) == 16
