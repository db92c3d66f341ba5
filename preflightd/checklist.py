"""What a run hash says about the project: the checklist (SPEC 1, preflightd payload).

The rules are data, `checklist.toml` beside this file or another one; `preflightd.language` reads them and
`preflightd.evaluator` compiles them. A `Checklist` is made once, at start, and turns hashes into snapshots.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from common.web.frames import text_frame
from preflightd.evaluator import Hash, compiled, integer
from preflightd.language import MOST_BYTES, RulesError, parse_rules

if TYPE_CHECKING:
    from preflightd.rules import Rules

_TIMESTAMPS: Final = b"timestamps:"
_LOCKED: Final = b"locked:"
_TRUE: Final = b"true"


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


class Checklist:
    """Rules, ready to be asked of any hash."""

    def __init__(self, rules: Rules, source: str) -> None:
        self.rules = rules
        self.source = source
        """The path of the rules' file; empty for the package's own."""
        self._holds = compiled(rules)

    def evaluate(self, fields: Hash) -> Snapshot:
        """The snapshot of a run hash; that of an empty one if there is no hash."""
        return Snapshot(self._holds(fields), _locks(fields), _last_modified(fields))


@cache
def packaged() -> Checklist:
    """The checklist that comes with the package."""
    return Checklist(parse_rules(files("preflightd").joinpath("checklist.toml").read_text("utf-8")), "")


def load_checklist(path: str) -> Checklist:
    """The checklist of the file `path`. Raises `RulesError` with one line, which does not name the path."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise RulesError(f"is larger than {MOST_BYTES >> 10} KB")
        return Checklist(parse_rules(data.decode("utf-8")), path)
    except OSError as error:
        raise RulesError(error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise RulesError(f"is not UTF-8 at byte {error.start}") from None
    except ValueError as error:
        # What the rules are not; or a path with a NUL byte in it.
        raise RulesError(str(error)) from None


def to_json(value: object) -> str:
    """JSON as the daemons write it: no spaces, nothing escaped that JSON does not require to be."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


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
    stamps = (integer(value) for field, value in fields.items() if field.startswith(_TIMESTAMPS))
    return max((stamp for stamp in stamps if stamp is not None), default=None)
