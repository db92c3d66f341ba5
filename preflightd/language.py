"""The language that a checklist's rules are written in: TOML text to `Rules`, and rules to a document and back. Pure.

The language is closed and total: there is no way to loop, to call or to name anything outside, and every text gives
either rules or one `RulesError`. `preflightd/checklist.toml` describes it for its authors.
"""

from __future__ import annotations

import difflib
import tomllib
from typing import TYPE_CHECKING, Final

from common.quote import quote
from preflightd.evaluator import LARGEST, SMALLEST
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
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_BYTES: Final = 256 << 10
"""Of a file: many times what a checklist needs, and still read at once."""

MOST_KEYS: Final = 500
DEEPEST: Final = 20
"""Rules within rules."""

_LONGEST: Final = 80
"""Characters of a word that a nearest one is looked for."""

_GROUPS: Final = ("first", "latest", "each", "each_present")
_RULES: Final = ("present", "filled", "text", "newer", "all", "any", "if")
_WORDS: Final = {
    "present": ("present",),
    "filled": ("filled",),
    "text": ("text", "is"),
    "newer": ("newer", "than"),
    "all": ("all",),
    "any": ("any",),
    "if": ("if", "then", "else"),
}

_Named = Field | First | Latest | Side
"""What a name of `[values]` stands for; a side where it stands for several."""


class RulesError(ValueError):
    """The text holds no rules. The message is one line: the place in it, what is wrong, and the nearest right word."""


def parse_rules(text: str) -> Rules:
    """The rules of a TOML text. Raises `RulesError`."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RulesError(f"not TOML: {quote(str(error))}") from None
    return read_rules(document)


def read_rules(document: Mapping[str, object]) -> Rules:
    """The rules of a document, as TOML or JSON give it. Raises `RulesError`."""
    _only(document, ("values", "checklist"), "")
    values = _table(document.get("values", {}), "values")
    checklist = _table(document.get("checklist"), "checklist")
    if not 0 < len(checklist) <= MOST_KEYS:
        raise RulesError(f"checklist: has {len(checklist)} keys, not 1 to {MOST_KEYS}")
    names = _Names(values)
    return {_key(key): _condition(rule, f"checklist.{key}", names, 1) for key, rule in checklist.items()}


def document(rules: Rules) -> dict[str, object]:
    """The document that `read_rules` reads the same rules from; fields are named by what follows their colon."""
    writer = _Writer()
    checklist = {key: writer.condition(condition) for key, condition in rules.items()}
    return {"values": writer.values, "checklist": checklist}


# -- reading -----------------------------------------------------------------------------------------------------------


class _Names:
    """`[values]`: each name may use those above it."""

    def __init__(self, table: Mapping[str, object]) -> None:
        self._named: dict[str, _Named] = {}
        for name, definition in table.items():
            where = f"values.{_shown(name)}"
            if not name:
                raise RulesError("values: a name is empty")
            self._named[name] = self._define(definition, where)

    def _define(self, definition: object, where: str) -> _Named:
        if isinstance(definition, str):
            return Field(_text(definition, where))
        table = _table(definition, where)
        match _one_of(table, _GROUPS, where):
            case "first" as word:
                return First(self._fields(table[word], where))
            case "latest" as word:
                return Latest(self._fields(table[word], where))
            case "each" as word:
                return self._parts(table[word], where)
            case word:
                return (EachPresent(self._fields(table[word], where)),)

    def field(self, name: object, where: str) -> Field:
        """The field that a name stands for."""
        named = self._get(name, where)
        if not isinstance(named, Field):
            raise RulesError(f"{where}: {_shown(str(name))} stands for several values, and one field is wanted")
        return named

    def value(self, name: object, where: str) -> Field | First | Latest:
        """The value that a name stands for."""
        named = self._get(name, where)
        if isinstance(named, tuple):
            raise RulesError(f"{where}: {_shown(str(name))} stands for several values, and one is wanted")
        return named

    def side(self, given: object, where: str) -> Side:
        """A name, a number, or a list of them."""
        if isinstance(given, list):
            return self._parts(given, where)
        if isinstance(given, int) and not isinstance(given, bool):
            if not SMALLEST <= given <= LARGEST:
                raise RulesError(f"{where}: a number must fit in signed 64 bits")
            return (Each(Constant(given)),)
        named = self._get(given, where)
        return named if isinstance(named, tuple) else (Each(named),)

    def _parts(self, given: object, where: str) -> Side:
        parts: list[Each | EachPresent] = []
        for item in _list(given, where):
            if isinstance(item, list):
                raise RulesError(f"{where}: a list in a list")
            parts += self.side(item, where)
        return tuple(parts)

    def _fields(self, given: object, where: str) -> tuple[Field, ...]:
        return tuple(self.field(name, where) for name in _list(given, where))

    def _get(self, name: object, where: str) -> _Named:
        if not isinstance(name, str):
            raise RulesError(f"{where}: {_kind(name)} where a name is wanted")
        if name not in self._named:
            raise RulesError(f"{where}: there is no value {_shown(name)} above it{_nearest(name, self._named)}")
        return self._named[name]


def _condition(given: object, where: str, names: _Names, depth: int) -> Condition:
    if depth > DEEPEST:
        raise RulesError(f"{where}: rules within rules, deeper than {DEEPEST}")
    table = _table(given, where)
    word = _one_of(table, _RULES, where, {other for words in _WORDS.values() for other in words})
    _only(table, _WORDS[word], where, missing=True)

    def inner(rule: object, place: str) -> Condition:
        return _condition(rule, f"{where}.{place}", names, depth + 1)

    def several() -> tuple[Condition, ...]:
        rules = _list(table[word], f"{where}.{word}")
        return tuple(inner(rule, f"{word}[{number}]") for number, rule in enumerate(rules, 1))

    match word:
        case "present":
            return Present(names.field(table[word], f"{where}.{word}"))
        case "filled":
            return Filled(names.value(table[word], f"{where}.{word}"))
        case "text":
            return Is(names.field(table[word], f"{where}.{word}"), _text(table["is"], f"{where}.is"))
        case "newer":
            return Newer(names.side(table[word], f"{where}.{word}"), names.side(table["than"], f"{where}.than"))
        case "all":
            return All(several())
        case "any":
            return Any(several())
        case _:
            return If(*(inner(table[part], part) for part in _WORDS["if"]))


def _key(key: str) -> str:
    if not key or not key.isprintable():
        raise RulesError(f"checklist.{_shown(key)}: a key is one or more printable characters")
    return key


def _table(given: object, where: str) -> Mapping[str, object]:
    if given is None:
        raise RulesError(f"{where}: is missing")
    if not isinstance(given, dict):
        raise RulesError(f"{where}: {_kind(given)} where a table is wanted")
    return given


def _list(given: object, where: str) -> Sequence[object]:
    if not isinstance(given, list) or not given:
        what = "an empty list" if given == [] else _kind(given)
        raise RulesError(f"{where}: {what} where a list of one or more is wanted")
    return given


def _text(given: object, where: str) -> str:
    if not isinstance(given, str):
        raise RulesError(f"{where}: {_kind(given)} where a text is wanted")
    try:
        given.encode()
    except UnicodeEncodeError:
        raise RulesError(f"{where}: a text that has no UTF-8") from None
    return given


def _one_of(table: Mapping[str, object], words: Sequence[str], where: str, known: set[str] | None = None) -> str:
    """The one of `words` that the table has; words outside `known` are taken for misspelt."""
    for word in table:
        if word not in (known or words):
            raise RulesError(f"{where}: there is no word {_shown(word)}{_nearest(word, known or words)}")
    found = [word for word in words if word in table]
    if len(found) != 1:
        had = f"{' and '.join(found)} together" if found else "none of them"
        raise RulesError(f"{where}: has {had}; one of {', '.join(words)} is wanted")
    return found[0]


def _only(table: Mapping[str, object], words: Sequence[str], where: str, *, missing: bool = False) -> None:
    for word in table:
        if word not in words:
            at = f"{where}: " if where else ""
            raise RulesError(f"{at}{_shown(word)} does not belong here{_nearest(word, words)}")
    for word in words:
        if missing and word not in table:
            raise RulesError(f"{where}: {word} is missing")


def _nearest(word: str, words: Sequence[str] | Mapping[str, object] | set[str]) -> str:
    close = difflib.get_close_matches(word[:_LONGEST], sorted(words), n=1)
    return f", did you mean {_shown(close[0])}?" if close else ""


def _shown(text: str) -> str:
    return f'"{quote(text)}"'


def _kind(given: object) -> str:
    match given:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case dict():
            return "a table"
        case None:
            return "nothing"
        case _:
            return "a date"


# -- writing -----------------------------------------------------------------------------------------------------------


class _Writer:
    """Gives names to what conditions use, in `values`, each above its use."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self._names: dict[Field | First | Latest | EachPresent, str] = {}

    def condition(self, condition: Condition) -> dict[str, object]:
        match condition:
            case Present(field):
                return {"present": self._name(field)}
            case Filled(value):
                return {"filled": self._name(value)}
            case Is(field, text):
                return {"text": self._name(field), "is": text}
            case Newer(left, right):
                return {"newer": self._side(left), "than": self._side(right)}
            case All(conditions):
                return {"all": [self.condition(one) for one in conditions]}
            case Any(conditions):
                return {"any": [self.condition(one) for one in conditions]}
            case If(test, then, otherwise):
                return {"if": self.condition(test), "then": self.condition(then), "else": self.condition(otherwise)}

    def _side(self, side: Side) -> list[str | int]:
        parts: list[str | int] = []
        for part in side:
            if isinstance(part, EachPresent):
                parts.append(self._name(part))
            else:
                parts.append(part.value.number if isinstance(part.value, Constant) else self._name(part.value))
        return parts

    def _name(self, value: Field | First | Latest | EachPresent) -> str:
        if value not in self._names:
            definition: object
            match value:
                case Field(name):
                    definition, wish = name, name.rpartition(":")[2]
                case First(fields):
                    definition, wish = {"first": [self._name(field) for field in fields]}, "first"
                case Latest(fields):
                    definition, wish = {"latest": [self._name(field) for field in fields]}, "latest"
                case EachPresent(fields):
                    definition, wish = {"each_present": [self._name(field) for field in fields]}, "each_present"
            self._names[value] = name = self._free(wish)
            self.values[name] = definition
        return self._names[value]

    def _free(self, wish: str) -> str:
        if wish and wish not in self.values:
            return wish
        number = 2
        while f"{wish}_{number}" in self.values:
            number += 1
        return f"{wish}_{number}"
