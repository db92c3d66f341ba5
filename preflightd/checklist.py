"""What a run hash says about the project: the checklist (SPEC 1, preflightd payload). Pure.

`RULES` is the table of the specification, row by row, as data: a row is a rule, and a rule compares operands, each of
which finds one value in the hash. Nothing is newer or older than a value that is not an integer.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

import attrs

from common.web.frames import text_frame

Hash = Mapping[bytes, bytes]
"""A run hash, as Redis gives it."""

_TIMESTAMPS: Final = "timestamps:"
_LOCKED: Final = b"locked:"
_TRUE: Final = b"true"
_INTEGER: Final = re.compile(rb"([+-]?)(?=[0-9])0*+([0-9]*)")
_DIGITS: Final = 19
"""Digits of the largest signed 64-bit integer; a longer number is out of range, and slow to convert."""


@attrs.frozen
class Snapshot:
    """What clients are told of a run. Two snapshots are equal if their content is."""

    checklist: tuple[tuple[str, bool], ...]
    """In the order of the table."""
    lock_statuses: tuple[tuple[str, bool], ...]
    """In the order of the names."""
    last_modified: int | None

    def content(self) -> dict[str, object]:
        """The values by name; an unknown `last_modified` is None."""
        return {
            "checklist": dict(self.checklist),
            "lock_statuses": dict(self.lock_statuses),
            "last_modified": self.last_modified,
        }

    def frame(self) -> bytes:
        """The WebSocket frame that carries it; an unknown `last_modified` is left out."""
        content: dict[str, object] = {"type": "preflight", **self.content()}
        if self.last_modified is None:
            del content["last_modified"]
        return text_frame(to_json(content).encode())


def evaluate(fields: Hash) -> Snapshot:
    """The snapshot of a run hash; that of an empty one if there is no hash."""
    return Snapshot(
        tuple((key, rule.holds(fields)) for key, rule in RULES.items()), _locks(fields), _last_modified(fields)
    )


def to_json(value: object) -> str:
    """JSON as the daemons write it: no spaces, nothing escaped that JSON does not require to be."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def integer(value: bytes | None) -> int | None:
    """The integer that a value is: ASCII digits with an optional sign, within signed 64 bits; else None."""
    match = _INTEGER.fullmatch(value) if value is not None else None
    if match is None or len(match[2]) > _DIGITS:
        return None
    number = int(match[1] + (match[2] or b"0"))
    return number if -(1 << 63) <= number < 1 << 63 else None


def _locks(fields: Hash) -> tuple[tuple[str, bool], ...]:
    locks: dict[str, bool] = {}
    for field, value in fields.items():
        if field.startswith(_LOCKED) and field != _LOCKED:
            name = field.removeprefix(_LOCKED).decode("utf-8", "replace")
            # Names that differ only in bytes that are not UTF-8 are one name to a client: one lock that is held counts.
            locks[name] = locks.get(name, False) or value == _TRUE
    return tuple(sorted(locks.items()))


def _last_modified(fields: Hash) -> int | None:
    own = integer(fields.get(b"last_modified"))
    if own is not None:
        return own
    prefix = _TIMESTAMPS.encode()
    stamps = (integer(value) for field, value in fields.items() if field.startswith(prefix))
    return max((stamp for stamp in stamps if stamp is not None), default=None)


# -- operands: where a value comes from -------------------------------------------------------------------------------


class Operand(ABC):
    """Finds one value in the hash."""

    @abstractmethod
    def find(self, fields: Hash) -> int | None:
        """The integer, None if there is none."""


class T(Operand):
    """The field `timestamps:<name>`."""

    def __init__(self, name: str) -> None:
        self.field = f"{_TIMESTAMPS}{name}".encode()

    def find(self, fields: Hash) -> int | None:
        return integer(fields.get(self.field))


class Largest(Operand):
    """The largest of several that are integers."""

    def __init__(self, *stamps: T) -> None:
        self._stamps = stamps

    def find(self, fields: Hash) -> int | None:
        return max((value for stamp in self._stamps if (value := stamp.find(fields)) is not None), default=None)


class First(Operand):
    """The first of several that is not empty, integer or not."""

    def __init__(self, *stamps: T) -> None:
        self._stamps = stamps

    def find(self, fields: Hash) -> int | None:
        return next((stamp.find(fields) for stamp in self._stamps if fields.get(stamp.field)), None)


# -- rules: what must hold of them ------------------------------------------------------------------------------------


class Rule(ABC):
    """One row of the table, or a part of one."""

    @abstractmethod
    def holds(self, fields: Hash) -> bool:
        """Whether it is true of the hash."""


@attrs.frozen
class IsTrue(Rule):
    """The field's value is exactly `true`."""

    field: bytes

    def holds(self, fields: Hash) -> bool:
        return fields.get(self.field) == _TRUE


@attrs.frozen
class Exists(Rule):
    """The timestamp's field exists, even empty."""

    stamp: T

    def holds(self, fields: Hash) -> bool:
        return self.stamp.field in fields


@attrs.frozen
class NotEmpty(Rule):
    """The timestamp has a value, whatever it is."""

    stamp: T

    def holds(self, fields: Hash) -> bool:
        return bool(fields.get(self.stamp.field))


class Newer(Rule):
    """One value is larger than each of the others."""

    def __init__(self, operand: Operand, *others: Operand) -> None:
        self._operand = operand
        self._others = others

    def holds(self, fields: Hash) -> bool:
        value = self._operand.find(fields)
        if value is None:
            return False
        others = (other.find(fields) for other in self._others)
        return all(other is not None and value > other for other in others)


class All(Rule):
    """Every one of several rules holds."""

    def __init__(self, *rules: Rule) -> None:
        self._rules = rules

    def holds(self, fields: Hash) -> bool:
        return all(rule.holds(fields) for rule in self._rules)


class Any(Rule):
    """At least one of several rules holds."""

    def __init__(self, *rules: Rule) -> None:
        self._rules = rules

    def holds(self, fields: Hash) -> bool:
        return any(rule.holds(fields) for rule in self._rules)


_CHANNELS: Final = T("build_channels")
_WATERSHED: Final = T("abstract_watershed")
_LANDUSE: Final = T("build_landuse")
_RANGELAND: Final = T("build_rangeland_cover")
_SOILS: Final = T("build_soils")
_CLIMATE: Final = T("build_climate")
_WEPP_WATERSHED: Final = T("run_wepp_watershed")
_RUN_WEPP: Final = T("run_wepp")
_WATAR: Final = T("run_watar")
_WEPP: Final = First(_WEPP_WATERSHED, _RUN_WEPP)
_MODEL: Final = (_LANDUSE, _SOILS, _CLIMATE, _WEPP)

RULES: Final[Mapping[str, Rule]] = {
    "sbs_map": IsTrue(b"attrs:has_sbs"),
    "channels": Exists(_CHANNELS),
    "outlet": Newer(Largest(T("set_outlet"), T("find_outlet")), _CHANNELS),
    "subcatchments": Newer(_WATERSHED, _CHANNELS),
    "landuse": Newer(_LANDUSE, _WATERSHED),
    "rangeland_cover": NotEmpty(_RANGELAND),
    "soils": All(Newer(_SOILS, _WATERSHED), Any(Newer(_SOILS, _LANDUSE), Newer(_SOILS, _RANGELAND))),
    "climate": Newer(_CLIMATE, _WATERSHED),
    "rap_ts": Newer(T("build_rap_ts"), _CLIMATE),
    "openet_ts": Newer(T("build_openet_ts"), _CLIMATE),
    "wepp": Newer(_WEPP, _LANDUSE, _SOILS, _CLIMATE),
    "observed": Newer(T("run_observed"), *_MODEL),
    "debris": Newer(T("run_debris"), *_MODEL),
    "watar": Newer(_WATAR, *_MODEL),
    "omni_scenarios": Newer(T("run_omni_scenarios"), _WEPP),
    "run_path_ce": Newer(T("run_path_ce"), _WEPP),
    "rhem": NotEmpty(T("run_rhem")),
    "dss_export": Newer(T("dss_export"), Largest(_WATAR, _WEPP_WATERSHED, _RUN_WEPP)),
}
"""The checklist's keys, in the order in which clients get them, and when each is true."""
