"""The language of the rules from JSON, which can say more than TOML: every refusal whole, and rules written back."""

from __future__ import annotations

from datetime import date
from typing import Any as Anything

import pytest

from preflightd.evaluator import LARGEST, SMALLEST
from preflightd.language import DEEPEST, MOST_KEYS, RulesError, document, parse_rules, read_rules
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

ONE, TWO = Field("timestamps:one"), Field("timestamps:two")
VALUES: dict[str, object] = {
    "one": "timestamps:one",
    "two": "timestamps:two",
    "first of": {"first": ["one", "two"]},
    "latest of": {"latest": ["two", "one"]},
    "both": {"each": ["one", "latest of", 5]},
    "there": {"each_present": ["one", "two"]},
}


def read(condition: object, **values: object) -> Condition:
    """The condition of one key."""
    return read_rules({"values": VALUES | values, "checklist": {"key": condition}})["key"]


def refusal(given: dict[str, object]) -> str:
    with pytest.raises(RulesError) as refused:
        read_rules(given)
    return str(refused.value)


def refused(condition: object, **values: object) -> str:
    """Why the condition is, or the values before it."""
    return refusal({"values": VALUES | values, "checklist": {"key": condition}})


READ: list[tuple[dict[str, Anything], Condition]] = [
    ({"present": "one"}, Present(ONE)),
    ({"filled": "two"}, Filled(TWO)),
    ({"filled": "first of"}, Filled(First((ONE, TWO)))),
    ({"filled": "latest of"}, Filled(Latest((TWO, ONE)))),
    ({"text": "one", "is": ""}, Is(ONE, "")),
    ({"newer": "one", "than": "two"}, Newer((Each(ONE),), (Each(TWO),))),
    ({"newer": ["one", "there"], "than": 0}, Newer((Each(ONE), EachPresent((ONE, TWO))), (Each(Constant(0)),))),
    (
        {"newer": "both", "than": [LARGEST, SMALLEST]},
        Newer(
            (Each(ONE), Each(Latest((TWO, ONE))), Each(Constant(5))),
            (Each(Constant(LARGEST)), Each(Constant(SMALLEST))),
        ),
    ),
    ({"all": [{"present": "one"}]}, All((Present(ONE),))),
    ({"any": [{"present": "one"}, {"filled": "one"}]}, Any((Present(ONE), Filled(ONE)))),
    (
        {"if": {"present": "one"}, "then": {"present": "two"}, "else": {"filled": "one"}},
        If(Present(ONE), Present(TWO), Filled(ONE)),
    ),
]


@pytest.mark.parametrize(("given", "condition"), READ, ids=[str(number) for number in range(len(READ))])
def test_each_word_is_a_condition(given: dict[str, Anything], condition: Condition) -> None:
    assert read(given) == condition


ONE_OF = "one of present, filled, text, newer, all, any, if is wanted"

REFUSED: list[tuple[object, str]] = [
    (None, "checklist.key: is missing"),
    ([], "checklist.key: a list where a table is wanted"),
    ("one", "checklist.key: a text where a table is wanted"),
    (True, "checklist.key: true or false where a table is wanted"),
    (1.5, "checklist.key: a number where a table is wanted"),
    (date(2026, 1, 1), "checklist.key: a date where a table is wanted"),
    ({}, f"checklist.key: has none of them; {ONE_OF}"),
    ({"than": "one"}, f"checklist.key: has none of them; {ONE_OF}"),
    (
        {"any": [], "present": "one", "filled": "one"},
        f"checklist.key: has present and filled and any together; {ONE_OF}",
    ),
    ({"presnt": "one"}, 'checklist.key: there is no word "presnt", did you mean "present"?'),
    ({"xyzzy\n": "one"}, r'checklist.key: there is no word "xyzzy\u000a"'),
    ({"elze": "one"}, 'checklist.key: there is no word "elze", did you mean "else"?'),
    ({"newer": "one"}, "checklist.key: than is missing"),
    ({"text": "one"}, "checklist.key: is is missing"),
    ({"if": {}, "else": {}}, "checklist.key: then is missing"),
    ({"present": "one", "is": "x"}, 'checklist.key: "is" does not belong here'),
    ({"newer": "one", "than": "two", "then": "x"}, 'checklist.key: "then" does not belong here, did you mean "than"?'),
    ({"present": None}, "checklist.key.present: nothing where a name is wanted"),
    ({"present": {}}, "checklist.key.present: a table where a name is wanted"),
    ({"present": ["one"]}, "checklist.key.present: a list where a name is wanted"),
    ({"present": False}, "checklist.key.present: true or false where a name is wanted"),
    ({"present": "tow"}, 'checklist.key.present: there is no value "tow" above it, did you mean "two"?'),
    ({"filled": "xyzzy"}, 'checklist.key.filled: there is no value "xyzzy" above it'),
    ({"present": "there"}, 'checklist.key.present: "there" stands for several values, and one field is wanted'),
    (
        {"text": "first of", "is": ""},
        'checklist.key.text: "first of" stands for several values, and one field is wanted',
    ),
    ({"filled": "both"}, 'checklist.key.filled: "both" stands for several values, and one is wanted'),
    ({"text": "one", "is": None}, "checklist.key.is: nothing where a text is wanted"),
    ({"text": "one", "is": "\ud800"}, "checklist.key.is: a text that has no UTF-8"),
    ({"newer": [], "than": 1}, "checklist.key.newer: an empty list where a list of one or more is wanted"),
    ({"newer": [["one"]], "than": 1}, "checklist.key.newer: a list in a list"),
    ({"newer": "one", "than": [True]}, "checklist.key.than: true or false where a name is wanted"),
    ({"newer": "one", "than": LARGEST + 1}, "checklist.key.than: a number must fit in signed 64 bits"),
    ({"newer": [SMALLEST - 1], "than": 1}, "checklist.key.newer: a number must fit in signed 64 bits"),
    ({"all": {}}, "checklist.key.all: a table where a list of one or more is wanted"),
    ({"any": []}, "checklist.key.any: an empty list where a list of one or more is wanted"),
    ({"any": [{"present": "one"}, 5]}, "checklist.key.any[2]: a number where a table is wanted"),
    ({"all": [{"any": [{"filled": 1}]}]}, "checklist.key.all[1].any[1].filled: a number where a name is wanted"),
    ({"if": {}, "then": 1, "else": 2}, f"checklist.key.if: has none of them; {ONE_OF}"),
    (
        {"if": {"present": "one"}, "then": {"present": "one"}, "else": 2},
        "checklist.key.else: a number where a table is wanted",
    ),
]


@pytest.mark.parametrize(("given", "reason"), REFUSED, ids=[str(number) for number in range(len(REFUSED))])
def test_what_is_wrong_with_a_rule_is_said(given: object, reason: str) -> None:
    assert refused(given) == reason


GROUP = "one of first, latest, each, each_present is wanted"

BAD_VALUES: list[tuple[str, object, str]] = [
    ("", "x", "values: a name is empty"),
    ("a", 5, 'values."a": a number where a table is wanted'),
    ("a", None, 'values."a": is missing'),
    ("a\n", {}, rf'values."a\u000a": has none of them; {GROUP}'),
    ("a", {"first": ["one"], "each": ["one"]}, f'values."a": has first and each together; {GROUP}'),
    ("a", {"frist": ["one"]}, 'values."a": there is no word "frist", did you mean "first"?'),
    ("a", {"first": []}, 'values."a": an empty list where a list of one or more is wanted'),
    ("a", {"first": ["first of"]}, 'values."a": "first of" stands for several values, and one field is wanted'),
    ("a", {"latest": ["b"]}, 'values."a": there is no value "b" above it'),
    ("a", {"latest": 1}, 'values."a": a number where a list of one or more is wanted'),
    ("a", {"each": [["one"]]}, 'values."a": a list in a list'),
    ("a", {"each": "one"}, 'values."a": a text where a list of one or more is wanted'),
    ("a", {"each_present": [1]}, 'values."a": a number where a name is wanted'),
    ("a", "\ud800", 'values."a": a text that has no UTF-8'),
]


@pytest.mark.parametrize(
    ("name", "given", "reason"), BAD_VALUES, ids=[str(number) for number in range(len(BAD_VALUES))]
)
def test_what_is_wrong_with_a_value_is_said(name: str, given: object, reason: str) -> None:
    assert refused({"present": "one"}, **{name: given}) == reason


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "checklist: is missing"),
        ({"checklist": []}, "checklist: a list where a table is wanted"),
        ({"checklist": {}}, f"checklist: has 0 keys, not 1 to {MOST_KEYS}"),
        ({"values": 1, "checklist": {}}, "values: a number where a table is wanted"),
        ({"value": {}, "checklist": {}}, '"value" does not belong here, did you mean "values"?'),
        ({"xyzzy": {}}, '"xyzzy" does not belong here'),
    ],
    ids=["nothing", "list", "empty", "values", "near", "far"],
)
def test_what_is_wrong_with_the_document_is_said(given: dict[str, object], reason: str) -> None:
    assert refusal(given) == reason


@pytest.mark.parametrize("key", ["", "a\tb"])
def test_a_key_can_be_printed(key: str) -> None:
    shown = key.replace("\t", r"\u0009")
    assert refusal({"values": VALUES, "checklist": {key: {"present": "one"}}}) == (
        f'checklist."{shown}": a key is one or more printable characters'
    )


def test_there_are_so_many_keys_at_most() -> None:
    many: dict[str, object] = {f"k{number}": {"present": "one"} for number in range(MOST_KEYS)}
    assert len(read_rules({"values": VALUES, "checklist": many})) == MOST_KEYS
    assert refusal({"values": VALUES, "checklist": many | {"more": {"present": "one"}}}) == (
        f"checklist: has {MOST_KEYS + 1} keys, not 1 to {MOST_KEYS}"
    )


@pytest.mark.parametrize("word", ["all", "if"])
def test_the_depth_is_counted_whatever_the_words_are(word: str) -> None:
    def wrapped(rule: object) -> dict[str, object]:
        return (
            {"all": [rule]} if word == "all" else {"if": rule, "then": {"present": "one"}, "else": {"present": "one"}}
        )

    rule: dict[str, object] = {"present": "one"}
    for _ in range(DEEPEST - 1):
        rule = wrapped(rule)
    read(rule)
    reason = refused(wrapped(rule))
    assert reason.startswith("checklist.key." + word)
    assert reason.endswith(f": rules within rules, deeper than {DEEPEST}")


def test_a_long_word_is_compared_by_its_beginning() -> None:
    assert refused({"present": "one" + "e" * 5}).endswith("above it")
    assert refused({"present": "a" * 90}, **{"a" * 80: "x"}).endswith(f', did you mean "{"a" * 80}"?')


def test_what_is_no_toml_is_said_in_one_line() -> None:
    with pytest.raises(RulesError, match=r"^not TOML: \S.*$"):
        parse_rules("a = \n")


WRITTEN: dict[str, Condition] = {
    "a": Present(Field("attrs:one")),
    "b": Is(Field("attrs:one"), "x"),
    "c": Filled(ONE),
    "d": Filled(First((ONE, TWO))),
    "e": Newer((Each(Latest((ONE, TWO))), Each(Constant(7))), (EachPresent((TWO,)), Each(First((TWO, ONE))))),
    "f": All((Present(Field("")), Any((Present(Field("a:")), Present(Field("one")))))),
    "g": If(Filled(Latest((TWO,))), Filled(ONE), Filled(TWO)),
}


def test_rules_are_written_with_each_name_above_its_use() -> None:
    assert document(WRITTEN) == {
        "values": {
            "one": "attrs:one",
            "one_2": "timestamps:one",
            "two": "timestamps:two",
            "first": {"first": ["one_2", "two"]},
            "latest": {"latest": ["one_2", "two"]},
            "each_present": {"each_present": ["two"]},
            "first_2": {"first": ["two", "one_2"]},
            "_2": "",
            "_3": "a:",
            "one_3": "one",
            "latest_2": {"latest": ["two"]},
        },
        "checklist": {
            "a": {"present": "one"},
            "b": {"text": "one", "is": "x"},
            "c": {"filled": "one_2"},
            "d": {"filled": "first"},
            "e": {"newer": ["latest", 7], "than": ["each_present", "first_2"]},
            "f": {"all": [{"present": "_2"}, {"any": [{"present": "_3"}, {"present": "one_3"}]}]},
            "g": {"if": {"filled": "latest_2"}, "then": {"filled": "one_2"}, "else": {"filled": "two"}},
        },
    }


def test_what_was_written_is_read_to_the_same_rules() -> None:
    assert read_rules(document(WRITTEN)) == WRITTEN
