"""The answer of `/workers/status` as a value that was looked at closely: bytes from another process -> `WorkersStatus`.

Pure. What is not as it should be makes the whole answer unusable: a source that says nonsense about one figure is not
believed about the others. What is missing is 0, and what is unknown is passed over, so that a daemon of another version
can be read.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from opsd.sources.source import Audience
from opsd.windows import Counters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

FAILED_ENDS: Final = ("internal_error", "redis_unavailable", "refused_by_redis")
"""The ends of a conversation that are the service's fault."""

LARGEST: Final = 1 << 53
"""The largest number that is believed: above it, browsers can't tell one from the next."""

MOST_WORKERS: Final = 1024
MOST_ROUTES: Final = 1000
MOST_REASONS: Final = 100
LONGEST_TEXT: Final = 256
MOST_VALUES: Final = 1 << 16
MOST_NESTED: Final = 1 << 13
"""Values and, among them, lists and objects: twice those of the most workers. Reading more would take a long time."""

_NOTHING: Final[Mapping[str, object]] = {}


class GarbageError(Exception):
    """The answer can't be used; the message says where it is wrong."""


@attrs.frozen
class Answers:
    """HTTP answers of one process so far."""

    total: int = 0
    server_errors: int = 0
    seconds: float = 0.0
    in_flight: int = 0


@attrs.frozen
class Retired:
    """What processes counted that are gone."""

    answers: Answers = Answers()
    disconnects: tuple[tuple[str, int], ...] = ()
    messages: int = 0


@attrs.frozen
class WorkerStatus:
    """One serving process."""

    id: str
    pid: int
    daemon: str
    start: str
    uptime: float
    """Seconds."""
    rss: int
    """Bytes."""
    cpu: float
    """Seconds of user and system time."""
    connections: int
    topics: int
    backlog: int
    """Bytes."""
    redis: str
    ready: bool
    messages: int
    errors: int
    answers: Answers
    disconnects: tuple[tuple[str, int], ...]
    delivery_count: int
    delivery_seconds: float

    def document(self) -> dict[str, object]:
        """As a JSON object, with the names it came with."""
        document = attrs.asdict(self)
        document["disconnects"] = dict(self.disconnects)
        document["delivery"] = {
            "count": document.pop("delivery_count"),
            "seconds": document.pop("delivery_seconds"),
        }
        return document


@attrs.frozen
class WorkersStatus:
    """What a telemetry API says of its workers."""

    connected: int
    daemon: str
    routes: tuple[str, ...]
    draining: bool
    retired: Retired
    workers: tuple[WorkerStatus, ...]

    def totals(self) -> Counters:
        """What all its processes have counted, those that are gone included."""
        kept = self.retired
        counters = _counters(kept.answers, kept.disconnects, kept.messages)
        for worker in self.workers:
            counters = counters.plus(_counters(worker.answers, worker.disconnects, worker.messages))
        return counters

    def members(self) -> frozenset[tuple[int, str]]:
        """Its processes; none of another start has the same."""
        return frozenset((worker.pid, worker.start) for worker in self.workers)

    @property
    def uptime(self) -> float:
        """Seconds that its oldest process has run."""
        return max((worker.uptime for worker in self.workers), default=0.0)


def parse_status(body: bytes, *, outside: bool = False) -> WorkersStatus:
    """Read an answer. Raises GarbageError.

    One from `outside` need only have `connected`, and its workers are ready unless they say that they are not; a
    daemon's must list its `workers`, and they are what counts.
    """
    if body.count(b",") > MOST_VALUES or body.count(b"[") + body.count(b"{") > MOST_NESTED:
        raise GarbageError("more values than can be")
    try:
        document: object = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise GarbageError("not JSON") from None
    top = _Fields(_object(document, "the answer"), "")
    if not outside and "workers" not in top.fields:
        raise GarbageError("no workers in it")
    if outside and "connected" not in top.fields:
        raise GarbageError("no connected in it")
    listed = top.get("workers", _object, _NOTHING)
    if len(listed) > MOST_WORKERS:
        raise GarbageError(f"more than {MOST_WORKERS} workers")
    retired = _Fields(top.get("retired", _object, _NOTHING), "retired.")
    daemon = top.get("daemon", _text, "")
    workers = tuple(_worker(name, value, daemon, ready=outside) for name, value in listed.items())
    return WorkersStatus(
        connected=top.get("connected", _count, len(workers)) if outside else len(workers),
        daemon=daemon,
        routes=top.get("routes", _texts, ()),
        draining=top.get("draining", _flag, False),
        retired=Retired(
            retired.get("answers", _answers, Answers()),
            retired.get("disconnects", _counts, ()),
            retired.get("messages", _count, 0),
        ),
        workers=workers,
    )


def parse_audience(body: bytes) -> Audience:
    """Read a daemon's answer of `/topics?name=`. Raises GarbageError."""
    try:
        document: object = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise GarbageError("not JSON") from None
    fields = _object(document, "the answer")
    if "clients" not in fields:
        raise GarbageError("no clients in it")
    silent = fields.get("silent", [])
    if not isinstance(silent, list):
        raise GarbageError("silent is no list")
    return Audience(_count(fields["clients"], "clients"), partial=bool(silent))


def _worker(name: str, value: object, daemon: str, *, ready: bool) -> WorkerStatus:
    where = f"workers.{_text(name, 'a worker')}"
    fields = _Fields(_object(value, where), f"{where}.")
    delivery = _Fields(fields.get("delivery", _object, _NOTHING), f"{where}.delivery.")
    return WorkerStatus(
        id=name,
        pid=fields.get("pid", _count, 0),
        daemon=fields.get("daemon", _text, daemon),
        start=fields.get("start", _text, ""),
        uptime=fields.get("uptime", _number, 0.0),
        rss=fields.get("rss", _count, 0),
        cpu=fields.get("cpu", _number, 0.0),
        connections=fields.get("connections", _count, 0),
        topics=fields.get("topics", _count, 0),
        backlog=fields.get("backlog", _count, 0),
        redis=fields.get("redis", _text, ""),
        ready=fields.get("ready", _flag, ready),
        messages=fields.get("messages", _count, 0),
        errors=fields.get("errors", _count, 0),
        answers=fields.get("answers", _answers, Answers()),
        disconnects=fields.get("disconnects", _counts, ()),
        delivery_count=delivery.get("count", _count, 0),
        delivery_seconds=delivery.get("seconds", _number, 0.0),
    )


def _counters(answers: Answers, disconnects: tuple[tuple[str, int], ...], messages: int) -> Counters:
    return Counters(
        answers=answers.total,
        server_errors=answers.server_errors,
        seconds=answers.seconds,
        ended=sum(count for _, count in disconnects),
        failed=sum(count for reason, count in disconnects if reason in FAILED_ENDS),
        messages=messages,
    )


@attrs.frozen
class _Fields:
    """An object's fields while they are read, and where it is, for messages."""

    fields: Mapping[str, object]
    where: str

    def get(self, name: str, read: Callable[[object, str], T], missing: T) -> T:
        """The field's value as `read` takes it; `missing` when it is not there."""
        return read(self.fields[name], self.where + name) if name in self.fields else missing


def _object(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise GarbageError(f"{where} is no object")
    return value


def _count(value: object, where: str) -> int:
    # A whole number may have been written as a float by whatever made the JSON.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
        raise GarbageError(f"{where} is no count")
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        raise GarbageError(f"{where} is no number that can be")
    return float(value)


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise GarbageError(f"{where} is neither true nor false")
    return value


def _text(value: object, where: str) -> str:
    # A lone surrogate, which JSON can write, can't be sent on; neither print nor page has a use for the rest.
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or not value.isprintable():
        raise GarbageError(f"{where} is no text that can be")
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MOST_ROUTES:
        raise GarbageError(f"{where} is no list that can be")
    return tuple(_text(item, where) for item in value)


def _counts(value: object, where: str) -> tuple[tuple[str, int], ...]:
    counts = _object(value, where)
    if len(counts) > MOST_REASONS:
        raise GarbageError(f"{where} has too many entries")
    return tuple((_text(name, where), _count(count, where)) for name, count in counts.items())


def _answers(value: object, where: str) -> Answers:
    fields = _Fields(_object(value, where), f"{where}.")
    return Answers(
        fields.get("total", _count, 0),
        fields.get("server_errors", _count, 0),
        fields.get("seconds", _number, 0.0),
        fields.get("in_flight", _count, 0),
    )


def _no_number(name: str) -> float:
    """NaN and the infinities, which are no JSON."""
    raise ValueError(f"{name} is no number")
