"""What `/workers/status` says, as values. Pure.

A worker is one serving process. What it has counted outlives it in `Retired`, so that no sum ever goes down.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import attrs
from attrs.validators import instance_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_INT = instance_of(int)
_TEXT = instance_of(str)
_BOOL = instance_of(bool)
_NUMBER = instance_of((int, float))


@attrs.frozen(kw_only=True)
class AnswerFigures:
    """Answers to users' handshakes; `seconds` add up the time from each one's head to its answer."""

    total: int = attrs.field(default=0, validator=_INT)
    server_errors: int = attrs.field(default=0, validator=_INT)
    seconds: float = attrs.field(default=0.0, validator=_NUMBER)
    in_flight: int = attrs.field(default=0, validator=_INT)


@attrs.frozen(kw_only=True)
class Delivery:
    """Batches of messages from Redis; `seconds` add up the time from their bytes read to the last client written."""

    count: int = attrs.field(default=0, validator=_INT)
    seconds: float = attrs.field(default=0.0, validator=_NUMBER)


@attrs.frozen(kw_only=True)
class WorkerStatus:
    """One serving process. `uptime` and `cpu` are seconds, `rss` and `backlog` bytes; `start` is RFC 3339, UTC."""

    id: str = attrs.field(validator=_TEXT)
    pid: int = attrs.field(validator=_INT)
    daemon: str = attrs.field(validator=_TEXT)
    start: str = attrs.field(validator=_TEXT)
    uptime: float = attrs.field(validator=_NUMBER)
    rss: int = attrs.field(validator=_INT)
    cpu: float = attrs.field(validator=_NUMBER)
    connections: int = attrs.field(validator=_INT)
    topics: int = attrs.field(validator=_INT)
    backlog: int = attrs.field(validator=_INT)
    redis: str = attrs.field(validator=_TEXT)
    """The state of the link (`LinkState.state`)."""
    ready: bool = attrs.field(validator=_BOOL)
    """Whether this process by itself would take clients."""
    messages: int = attrs.field(validator=_INT)
    """Payload frames sent so far."""
    errors: int = attrs.field(validator=_INT)
    """Handshakes answered with a 5xx status and conversations that the daemon's own trouble ended, so far."""
    answers: AnswerFigures = attrs.field(validator=instance_of(AnswerFigures))
    disconnects: Mapping[str, int] = attrs.field(validator=instance_of(dict))
    """Conversations ended so far, by reason."""
    delivery: Delivery = attrs.field(validator=instance_of(Delivery))

    def document(self) -> dict[str, object]:
        """As JSON has it."""
        # Rendered up to twenty times a second: to let attrs look into every value would take ten times as long.
        return {
            **attrs.asdict(self, recurse=False),
            "answers": attrs.asdict(self.answers, recurse=False),
            "delivery": attrs.asdict(self.delivery, recurse=False),
        }


def worker_from(document: object) -> WorkerStatus:
    """What `WorkerStatus.document` made, read back. Raises ValueError for anything else."""
    if not isinstance(document, dict):
        raise ValueError("not a worker's status: not an object")  # noqa: TRY004 - whatever is wrong is a ValueError
    try:
        parts = {"answers": AnswerFigures(**document["answers"]), "delivery": Delivery(**document["delivery"])}
        return WorkerStatus(**{**document, **parts})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a worker's status: {error}") from error


@attrs.frozen(kw_only=True)
class Retired:
    """What workers that are gone have counted."""

    messages: int = 0
    errors: int = 0
    answers: AnswerFigures = AnswerFigures()
    disconnects: Mapping[str, int] = attrs.field(factory=dict)
    delivery: Delivery = Delivery()

    def plus(self, worker: WorkerStatus) -> Retired:
        """With one worker more; what it had in flight is lost with it."""
        return Retired(
            messages=self.messages + worker.messages,
            errors=self.errors + worker.errors,
            answers=AnswerFigures(
                total=self.answers.total + worker.answers.total,
                server_errors=self.answers.server_errors + worker.answers.server_errors,
                seconds=self.answers.seconds + worker.answers.seconds,
            ),
            disconnects=dict(Counter(self.disconnects) + Counter(worker.disconnects)),
            delivery=Delivery(
                count=self.delivery.count + worker.delivery.count,
                seconds=self.delivery.seconds + worker.delivery.seconds,
            ),
        )


@attrs.frozen
class About:
    """What never changes: the daemon's name, the paths that it serves to everybody, its metrics' prefix."""

    daemon: str
    routes: tuple[str, ...]
    metrics_prefix: str


@attrs.frozen(kw_only=True)
class DaemonStatus:
    """All serving processes of a daemon."""

    about: About
    draining: bool
    workers: tuple[WorkerStatus, ...]
    retired: Retired = Retired()

    def render(self) -> bytes:
        """The body of `/workers/status`, in one line."""
        document = {
            "connected": len(self.workers),
            "daemon": self.about.daemon,
            "routes": self.about.routes,
            "draining": self.draining,
            "retired": attrs.asdict(self.retired),
            "workers": {worker.id: worker.document() for worker in self.workers},
        }
        return json.dumps(document, separators=(",", ":")).encode()
