"""Traces, as the code that is traced knows them: spans that are begun, told what happened and ended.

What is here does nothing, and is what every part gets while TRACES_ENABLED is off. `common.otel` has those that are
sent; it is imported only where the flag is on, and nothing else imports OpenTelemetry.

A span is on no stack: who began it hands it on. Times are trio's.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

EXTRA: Final = "the extra `otel` is not installed: pip install 'run-status-daemons[otel]'"
"""What is wrong where `installed` says no."""

Value = str | bool | int | float


class TraceSpan:
    """A stretch of time with a name, and what is known of it. As a block it ends with it, failed if that raises.

    This one is nobody's: nothing of it is kept.
    """

    __slots__ = ()

    def child(self, name: str, **attributes: Value) -> TraceSpan:
        """A span inside this one; it begins now."""
        del name, attributes
        return self

    def note(self, **attributes: Value) -> None:
        """Something about it, by the names that the log has for it."""

    def fail(self, error: str) -> None:
        """It was in vain, for this reason. It goes on until it is ended."""

    def end(self) -> None:
        """It ends now. Once is enough; what is noted later is lost."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return


class Tracer:
    """Begins spans that are in no other one. This one begins none."""

    __slots__ = ()

    recording: bool = False
    """Whether it is of any use to begin one. The hot path asks it once a batch."""

    def begin(self, name: str, *, since: float, parent: str | None = None, **attributes: Value) -> TraceSpan:
        """A span that began at `since`, perhaps inside the one that a W3C `traceparent` names."""
        del name, since, parent, attributes
        return NO_SPAN


NO_SPAN: Final = TraceSpan()
NO_TRACES: Final = Tracer()


def installed() -> bool:
    """Whether what `common.otel` imports is there."""
    try:
        return all(find_spec(name) for name in ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http"))
    except ModuleNotFoundError:
        # A package on the way there.
        return False


def endpoint(environ: Mapping[str, str] = os.environ) -> str:
    """Where spans are sent to, as the OTLP exporter's specification has it. It may hold a password."""
    whole = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip() or "http://localhost:4318"
    return whole or f"{base.rstrip('/')}/v1/traces"
