"""The rules of a checklist as values: what `preflightd.language` reads and `preflightd.evaluator` compiles. Pure.

    Value      = Field | First | Latest | Constant          one value found in a hash, or a number
    Side       = a tuple of Each | EachPresent              what is compared
    Condition  = Present | Filled | Is | Newer | All | Any | If

`str()` of each is what a person checks against the specification's table (SPEC 1): `T(x)` is the field `timestamps:x`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import attrs

_TIMESTAMPS: Final = "timestamps:"


@attrs.frozen
class Field:
    """A field of the hash: its integer where one is compared."""

    name: str

    def __str__(self) -> str:
        return f"T({self.name.removeprefix(_TIMESTAMPS)})" if self.name.startswith(_TIMESTAMPS) else self.name


@attrs.frozen
class First:
    """The first of several fields that is not empty, integer or not; filled if there is one."""

    fields: tuple[Field, ...]

    def __str__(self) -> str:
        return f"first({_listed(self.fields)})"


@attrs.frozen
class Latest:
    """The largest integer among several fields; filled if there is one."""

    fields: tuple[Field, ...]

    def __str__(self) -> str:
        return f"max({_listed(self.fields)})"


@attrs.frozen
class Constant:
    """A number, within signed 64 bits."""

    number: int

    def __str__(self) -> str:
        return str(self.number)


Value = Field | First | Latest | Constant


@attrs.frozen
class Each:
    """One value of a side, which must be an integer."""

    value: Value

    def __str__(self) -> str:
        return str(self.value)


@attrs.frozen
class EachPresent:
    """Those fields of a side that are there, even empty; each of them must be an integer."""

    fields: tuple[Field, ...]

    def __str__(self) -> str:
        return f"each present of {_listed(self.fields)}"


Side = tuple[Each | EachPresent, ...]


@attrs.frozen
class Present:
    """The field is there, even empty."""

    field: Field

    def __str__(self) -> str:
        return f"{self.field} is there, even empty"


@attrs.frozen
class Filled:
    """The field, or what is found among several, is not empty."""

    value: Field | First | Latest

    def __str__(self) -> str:
        return f"{self.value} {'is an integer' if isinstance(self.value, Latest) else 'is not empty'}"


@attrs.frozen
class Is:
    """The field is exactly this text."""

    field: Field
    text: str

    def __str__(self) -> str:
        return f"{self.field} is exactly {json.dumps(self.text)}"


@attrs.frozen
class Newer:
    """Each value of one side is larger than each of the other's: integers, all of them."""

    left: Side
    right: Side

    def __str__(self) -> str:
        return f"{_side(self.left)} > {_side(self.right)}"


@attrs.frozen
class All:
    """Every one of several holds."""

    conditions: tuple[Condition, ...]

    def __str__(self) -> str:
        return " and ".join(_nested(condition) for condition in self.conditions)


@attrs.frozen
class Any:
    """At least one of several holds."""

    conditions: tuple[Condition, ...]

    def __str__(self) -> str:
        return " or ".join(_nested(condition) for condition in self.conditions)


@attrs.frozen
class If:
    """One of two holds, by a third."""

    condition: Condition
    then: Condition
    otherwise: Condition

    def __str__(self) -> str:
        return f"if {_nested(self.condition)} then {_nested(self.then)} else {_nested(self.otherwise)}"


Condition = Present | Filled | Is | Newer | All | Any | If

Rules = Mapping[str, Condition]
"""The keys of a checklist, in the order in which clients get them, and when each is true."""


def _listed(fields: tuple[Field, ...]) -> str:
    return ", ".join(map(str, fields))


def _side(side: Side) -> str:
    if len(side) == 1:
        return str(side[0])
    return f"each of {', '.join(map(str, side))}"


def _nested(condition: Condition) -> str:
    return f"({condition})" if isinstance(condition, All | Any | If) else str(condition)
