"""The answers of a daemon's operator's listener, looked at closely: bytes from another process -> values. Pure.

What is not as it should be makes the whole answer unusable, and reading it takes a bounded time whatever is in it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, TypeVar

from common.telemetry.fields import GarbageError, as_count, as_flag, as_object, as_text, as_texts
from common.telemetry.values import Audience, DaemonStatus, Retired, WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

MOST_WORKERS: Final = 1024
MOST_VALUES: Final = 1 << 16
MOST_NESTED: Final = 1 << 13
"""Values and, among them, lists and objects: twice those of the most workers. Reading more would take a long time."""

_NOTHING: Final[Mapping[str, object]] = {}


def parse_status(body: bytes, *, outside: bool = False) -> DaemonStatus:
    """Read an answer of `/workers/status`. Raises GarbageError.

    One from `outside` need only have `connected`, and its workers are ready unless they say that they are not; a
    daemon's must list its `workers`, and they are what counts.
    """
    top = _document(body)
    if not outside and "workers" not in top:
        raise GarbageError("no workers in it")
    if outside and "connected" not in top:
        raise GarbageError("no connected in it")
    listed = _get(top, "workers", as_object, _NOTHING)
    if len(listed) > MOST_WORKERS:
        raise GarbageError(f"more than {MOST_WORKERS} workers")
    # What a worker does not say of itself.
    common = {"daemon": _get(top, "daemon", as_text, ""), "ready": outside}
    workers = tuple(
        WorkerStatus.read({**common, **as_object(value, where), "id": name}, where)
        for name, value in listed.items()
        for where in [f"workers.{as_text(name, 'a worker')}"]
    )
    return DaemonStatus(
        connected=_get(top, "connected", as_count, len(workers)) if outside else len(workers),
        daemon=_get(top, "daemon", as_text, ""),
        routes=_get(top, "routes", as_texts, ()),
        draining=_get(top, "draining", as_flag, False),
        retired=_get(top, "retired", Retired.read, Retired()),
        workers=workers,
    )


def parse_audience(body: bytes) -> Audience:
    """Read an answer of `/topics?name=`. Raises GarbageError."""
    top = _document(body)
    if "clients" not in top:
        raise GarbageError("no clients in it")
    return Audience(as_count(top["clients"], "clients"), _get(top, "silent", as_texts, ()))


def _document(body: bytes) -> Mapping[str, object]:
    if body.count(b",") > MOST_VALUES or body.count(b"[") + body.count(b"{") > MOST_NESTED:
        raise GarbageError("more values than can be")
    try:
        document: object = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise GarbageError("not JSON") from None
    return as_object(document, "the answer")


def _get(fields: Mapping[str, object], name: str, read: Callable[[object, str], T], missing: T) -> T:
    """The field's value as `read` takes it; `missing` when it is not there."""
    return read(fields[name], name) if name in fields else missing


def _no_number(name: str) -> float:
    """NaN and the infinities, which are no JSON."""
    raise ValueError(f"{name} is no number")
