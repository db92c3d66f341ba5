"""The kinds of figures: each function makes one attribute of a `Figures` class, and knows how it is read and added up.

Whatever is read comes from another process. What is not as it should be is a GarbageError: who says nonsense about one
figure is not believed about the others. Pure.
"""

from __future__ import annotations

import operator
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Self

T = TypeVar("T")
F = TypeVar("F", bound="Figures")

LARGEST: Final = 1 << 53
"""The largest number that is believed: above it, browsers can't tell one from the next."""

LONGEST_TEXT: Final = 256
LONGEST_LIST: Final = 1024
MOST_REASONS: Final = 100


class GarbageError(ValueError):
    """What was said can't be used; the message says where it is wrong."""


@attrs.frozen
class _Kind:
    """How a figure is read (value, where it stands), added to another of its kind, and made fit for JSON."""

    read: Callable[[object, str], object]
    add: Callable[[Any, Any], object] | None = None
    """None for what ends with its process."""
    written: Callable[[Any], object] | None = None
    """None for what is JSON as it is."""


class Figures:
    """The base of attrs classes whose attributes this module makes."""

    __slots__ = ()

    def document(self) -> dict[str, object]:
        """As a JSON object."""
        # Rendered up to twenty times a second: to let attrs look into every value would take ten times as long.
        return {
            name: getattr(self, name) if kind.written is None else kind.written(getattr(self, name))
            for name, kind in _kinds(type(self))
        }

    def plus(self, other: Figures) -> Self:
        """With what `other`, which has these figures too, has counted; the rest is as if it were missing."""
        return type(self)(
            **{
                name: kind.add(getattr(self, name), getattr(other, name))
                for name, kind in _kinds(type(self))
                if kind.add is not None
            }
        )

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """What `document` made, maybe of another version. Raises GarbageError."""
        fields = as_object(value, where)
        return cls(**{name: kind.read(fields[name], f"{where}.{name}") for name, kind in _kinds(cls) if name in fields})


# -- attributes --------------------------------------------------------------------------------------------------------


def count() -> int:
    """How often something has happened so far, or how much of something there has been."""
    return _field(0, _Kind(as_count, operator.add))


def level() -> int:
    """How much of something there is now."""
    return _field(0, _Kind(as_count))


def seconds() -> float:
    """A time that adds up."""
    return _field(0.0, _Kind(as_number, operator.add))


def number() -> float:
    """A number that is the process's own."""
    return _field(0.0, _Kind(as_number))


def flag() -> bool:
    """Yes or no; no where it is missing."""
    return _field(False, _Kind(as_flag))


def text() -> str:
    """A short word."""
    return _field("", _Kind(as_text))


def counts() -> Mapping[str, int]:
    """Counts by reason."""
    return cast("Mapping[str, int]", attrs.field(factory=dict, metadata={_Kind: _Kind(as_counts, _add_counts)}))


def figures(kind: type[F]) -> F:
    """Figures of their own."""
    return _field(kind(), _Kind(kind.read, kind.plus, kind.document))


def _field(default: T, kind: _Kind) -> T:
    return attrs.field(default=default, metadata={_Kind: kind})


def _kinds(figures: type) -> Iterator[tuple[str, _Kind]]:
    for field in attrs.fields(figures):
        yield field.name, field.metadata[_Kind]


def _add_counts(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(one) + Counter(other))


# -- what is read ------------------------------------------------------------------------------------------------------


def as_object(value: object, where: str) -> Mapping[str, object]:
    """`value`, which is a JSON object. Like all of these, raises GarbageError that says `where`."""
    if not isinstance(value, dict):
        raise GarbageError(f"{where} is no object")
    return value


def as_count(value: object, where: str) -> int:
    """A whole number that is not negative."""
    # It may have been written as a float by whatever made the JSON.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
        raise GarbageError(f"{where} is no count")
    return value


def as_number(value: object, where: str) -> float:
    """A number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        raise GarbageError(f"{where} is not a number from 0 to {LARGEST}")
    return float(value)


def as_flag(value: object, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise GarbageError(f"{where} is neither true nor false")
    return value


def as_text(value: object, where: str) -> str:
    """A short text of printable characters."""
    # A lone surrogate, which JSON can write, can't be sent on; neither print nor page has a use for the rest.
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or not value.isprintable():
        raise GarbageError(f"{where} is not a printable text of at most {LONGEST_TEXT} characters")
    return value


def as_texts(value: object, where: str) -> tuple[str, ...]:
    """A list of such texts."""
    if not isinstance(value, list) or len(value) > LONGEST_LIST:
        raise GarbageError(f"{where} is not a list of at most {LONGEST_LIST} texts")
    return tuple(as_text(item, where) for item in value)


def as_counts(value: object, where: str) -> dict[str, int]:
    """Counts by short texts."""
    found = as_object(value, where)
    if len(found) > MOST_REASONS:
        raise GarbageError(f"{where} has too many entries")
    return {as_text(name, where): as_count(number, where) for name, number in found.items()}
