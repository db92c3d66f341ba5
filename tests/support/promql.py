"""Which series an expression of PromQL names, with the labels that it asks for: no parser, enough for what is here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SELECTOR: Final = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)\s*(?P<call>\()?(?:\{(?P<matchers>[^}]*)\})?")
_MATCHER: Final = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_RANGE: Final = re.compile(r"\[[^]]*\]|\boffset\s+\w+")
_WORDS: Final = frozenset({"and", "or", "unless", "bool", "inf", "nan"})


@attrs.frozen
class Selector:
    """A series that is asked for: its name, and the label values of `=` and `=~`, alternatives taken apart."""

    name: str
    labels: Mapping[str, tuple[str, ...]]


def selectors(expression: str) -> Iterator[Selector]:
    """Every series that the expression names."""
    bare = _RANGE.sub(" ", _GROUPING.sub(" ", expression))
    # A number's exponent or suffix is no name.
    for found in _SELECTOR.finditer(_numberless(bare)):
        if found["call"] or found["name"].lower() in _WORDS:
            continue
        matchers = _MATCHER.findall(found["matchers"] or "")
        yield Selector(
            found["name"], {label: tuple(value.split("|")) for label, sign, value in matchers if sign in {"=", "=~"}}
        )


def _numberless(expression: str) -> str:
    """Without the numbers that stand outside of braces."""
    parts = re.split(r"(\{[^}]*\})", expression)
    return "".join(part if part.startswith("{") else re.sub(r"(?<![\w.])\d[\w.]*", " ", part) for part in parts)
