"""The language of the checklist's rules: any text gives rules or one reason, rules survive printing, and compiled
rules say what a naive reading of them says."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from fuzz.pieces import damaged
from fuzz.target import FuzzTarget, holds_for
from preflightd.checklist_command import table
from preflightd.evaluator import compiled
from preflightd.language import RulesError, document, parse_rules, read_rules
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
    Side,
    Value,
)
from tests.support.checklist_oracle import highest, newer, number

if TYPE_CHECKING:
    from preflightd.evaluator import Hash

_FIELDS: Final = ["timestamps:a", "timestamps:b", "timestamps:c", "attrs:a", "a", ":", ""]
_VALUES: Final = st.sampled_from([b"", b"x", b"true", b"-1", b"0", b"1", b"2", b"10", b"+2", b" 1", b"9" * 20])
_HASHES: Final = st.fixed_dictionaries({}, optional=dict.fromkeys([name.encode() for name in _FIELDS], _VALUES))

_FIELD: Final = st.sampled_from(_FIELDS).map(Field)
_SEVERAL: Final = st.lists(_FIELD, min_size=1, max_size=3).map(tuple)
_FOUND: Final = _FIELD | _SEVERAL.map(First) | _SEVERAL.map(Latest)
_NUMBERS: Final = st.integers(-2, 3) | st.sampled_from([-(2**63), 2**63 - 1])
_SIDES: Final = st.lists(
    (_FOUND | _NUMBERS.map(Constant)).map(Each) | _SEVERAL.map(EachPresent), min_size=1, max_size=3
).map(tuple)
_CONDITIONS: Final[st.SearchStrategy[Condition]] = st.recursive(
    _FIELD.map(Present)
    | _FOUND.map(Filled)
    | st.builds(Is, _FIELD, st.sampled_from(["", "x", "true", "\N{GREEK SMALL LETTER PI}"]))
    | st.builds(Newer, _SIDES, _SIDES),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(tuple).map(All)
        | st.lists(inner, min_size=1, max_size=3).map(tuple).map(Any)
        | st.builds(If, inner, inner, inner)
    ),
    max_leaves=6,
)
RULES: Final = st.dictionaries(st.sampled_from("abcdef"), _CONDITIONS, min_size=1, max_size=4)
"""Checklists of a few keys over a few fields, so that every order and every absence comes up."""

_PACKAGED: Final = files("preflightd").joinpath("checklist.toml").read_bytes()
_TEXTS: Final = (
    st.text()
    | damaged(st.just(_PACKAGED)).map(lambda data: data.decode("utf-8", "replace"))
    | st.sampled_from(["", "checklist = 1", "[checklist]", "[values]\na = 1", "[checklist.a]\nall = []"])
)
_WORDS: Final = [
    *("values", "checklist", "a", "b", "present", "filled", "text", "is", "newer", "than", "all", "any", "if", "then"),
    *("else", "first", "latest", "each", "each_present"),
]
_DOCUMENTS: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["a", "b", "newer", "than", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "values",
                    "checklist",
                    "a",
                    "b",
                    "present",
                    "filled",
                    "text",
                    "is",
                    "newer",
                    "than",
                    "all",
                    "any",
                    "if",
                    "then",
                    "else",
                    "first",
                    "latest",
                    "each",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
)


# -- a naive reading ---------------------------------------------------------------------------------------------------


def _found(value: Value, fields: Hash) -> int | None:
    match value:
        case Constant(constant):
            return constant
        case Field(name):
            return number(fields.get(name.encode(), b""))
        case First(several):
            filled = [field for field in several if fields.get(field.name.encode(), b"") != b""]
            return _found(filled[0], fields) if filled else None
        case Latest(several):
            return highest(_found(field, fields) for field in several)


def _side(side: Side, fields: Hash) -> list[int | None]:
    found: list[int | None] = []
    for part in side:
        if isinstance(part, Each):
            found.append(_found(part.value, fields))
        else:
            found += [_found(field, fields) for field in part.fields if field.name.encode() in fields]
    return found


def naive(condition: Condition, fields: Hash) -> bool:
    """Whether a condition holds, read off its docstring and nothing else."""
    match condition:
        case Present(field):
            return field.name.encode() in fields
        case Filled(Latest() as latest):
            return _found(latest, fields) is not None
        case Filled(First(several)):
            return any(naive(Filled(field), fields) for field in several)
        case Filled(Field(name)):
            return fields.get(name.encode(), b"") != b""
        case Is(field, text):
            return fields.get(field.name.encode()) == text.encode()
        case Newer(left, right):
            larger, smaller = _side(left, fields), _side(right, fields)
            if None in larger or None in smaller:
                return False
            return all(newer(one, other) for one in larger for other in smaller)
        case All(conditions):
            return all(naive(one, fields) for one in conditions)
        case Any(conditions):
            return any(naive(one, fields) for one in conditions)
        case If(test, then, otherwise):
            return naive(then if naive(test, fields) else otherwise, fields)
    raise AssertionError(condition)


# -- what holds --------------------------------------------------------------------------------------------------------


@holds_for(_TEXTS)
def any_text_gives_rules_or_one_reason(text: str) -> None:
    """And what was read can be printed, for people and for programs, and is read again to the same."""
    try:
        rules = parse_rules(text)
    except RulesError as reason:
        assert str(reason).isprintable()
        assert 0 < len(str(reason)) < 600
    else:
        assert read_rules(json.loads(json.dumps(document(rules)))) == rules
        assert table(rules, 80)


@holds_for(_DOCUMENTS | st.fixed_dictionaries({"values": _DOCUMENTS, "checklist": _DOCUMENTS}))
def any_document_gives_rules_or_one_reason(given: object) -> None:
    """JSON of any shape, most of it made of the language's words."""
    try:
        rules = read_rules(given) if isinstance(given, dict) else {}
    except RulesError as reason:
        assert str(reason).isprintable()
        assert 0 < len(str(reason)) < 600
    else:
        assert not rules or read_rules(document(rules)) == rules


@holds_for(RULES)
def printed_rules_are_read_again_to_the_same(rules: dict[str, Condition]) -> None:
    """Through JSON, keys in order."""
    again = read_rules(json.loads(json.dumps(document(rules))))
    assert again == rules
    assert list(again) == list(rules)


@holds_for(RULES, _HASHES)
def compiled_rules_agree_with_a_naive_reading(rules: dict[str, Condition], fields: dict[bytes, bytes]) -> None:
    """Of any rules and any hash."""
    assert compiled(rules)(fields) == tuple((key, naive(rule, fields)) for key, rule in rules.items())


TARGET: Final = FuzzTarget(
    "rules",
    (
        any_text_gives_rules_or_one_reason,
        any_document_gives_rules_or_one_reason,
        printed_rules_are_read_again_to_the_same,
        compiled_rules_agree_with_a_naive_reading,
    ),
)
